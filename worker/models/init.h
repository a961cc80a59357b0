// Training that begins with given weights: a safetensors file in the names of the network (for a
// ResNet torchvision's: its published weights, saved by safetensors.torch.save_file). No Torch.
#ifndef DERMIS_WORKER_MODELS_INIT_H_
#define DERMIS_WORKER_MODELS_INIT_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "worker/models/model.h"

namespace dermis {

// Overwrites the weights and running statistics of `model` (made by InitializeModel, whose values
// stay where the file has none to give) with the file's, F32. The file must have every tensor of
// the network in its shape and no other; only ".num_batches_tracked" is passed over, and the head
// (fc or dense) may be of another number of classes: then the fresh one stays, and the sentence
// that is given back says so ("" where there is nothing to say). Errors: INVALID_ARGUMENT naming
// the tensors that are missing, not the network's, or misshapen; the model is then as it was.
absl::StatusOr<std::string> LoadWeights(std::string_view safetensors, Model& model);

// Marks every parameter before the part `prefix` as frozen: "layer1" .. "layer4" or "fc" of a
// ResNet;
// "" freezes nothing. Frozen layers keep their running statistics, too. Errors: INVALID_ARGUMENT
// for a network without such parts, or a part that it does not have.
absl::Status FreezeBefore(const std::string& prefix, ModelLayout& layout);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_INIT_H_
