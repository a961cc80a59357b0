// How much work a network is. No Torch.
#ifndef DERMIS_WORKER_MODELS_COST_H_
#define DERMIS_WORKER_MODELS_COST_H_

#include <cstdint>

#include "worker/models/model.h"

namespace dermis {

// Multiply-adds of the convolutions and the last layer, of one image's forward pass. Training an
// image takes about three times as many.
uint64_t MultiplyAdds(const ModelLayout& layout);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_COST_H_
