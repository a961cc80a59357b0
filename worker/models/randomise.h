// Networks that have forgotten part of what they learned (Adebayo et al. 2018: "Sanity checks for saliency maps").
#ifndef DERMIS_WORKER_MODELS_RANDOMISE_H_
#define DERMIS_WORKER_MODELS_RANDOMISE_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "dermis/v1/task.pb.h"

namespace dermis {

// The model's file with the named layers (common/checks.h) as if training had not begun: weights drawn afresh, batch
// norms without shift, scale and running statistics. A function of the file, the layers and the seed, made where it is
// needed: it takes milliseconds, where a task that makes it would store a model's size for each layer and each trained
// model. The draws are not those that training with the same seed began with: a network remembers those.
// INVALID_ARGUMENT: no such layer.
absl::StatusOr<std::string> Randomise(std::string_view weights,
                                      const v1::RandomisedLayers& randomised);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_RANDOMISE_H_
