// Softmax cross entropy of a shard's logits: its value, and its gradient for the backward pass.
#ifndef DERMIS_WORKER_TRAINING_LOSS_H_
#define DERMIS_WORKER_TRAINING_LOSS_H_

#include <cstdint>

#include "absl/types/span.h"

namespace dermis {

struct PassResult {
  double loss = 0;  // Sum of the images' cross entropies, in order.
  uint32_t correct = 0;
};

// logits, dlogits: [labels, classes]. dlogits: the gradient of loss_scale * the sum of the cross
// entropies. Computed in double.
PassResult SoftmaxLoss(const float* logits, absl::Span<const uint32_t> labels, uint32_t classes,
                       float loss_scale, float* dlogits);

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_LOSS_H_
