// What a model's inner layers show, from its own graph: activation maps with Grad-CAM, or another
// class activation map (cams.h). Layers: of every convolution of seed_cnn (after its activation,
// before batch norm); of a ResNet's stem ("conv1", after ReLU) and of the outputs of its stages
// ("layer1" .. "layer4").
#ifndef DERMIS_WORKER_MODELS_ACTIVATIONS_H_
#define DERMIS_WORKER_MODELS_ACTIVATIONS_H_

#include <string_view>

#include "absl/status/statusor.h"

#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"

namespace dermis {

// `weights`: bytes of the model's safetensors file. fp32. Layers in order of the network. Where the
// task names another map than Grad-CAM, seed_cnn's last pool ("pool3") is a layer, too: there, as
// at a ResNet's last stage, HiResCAM is exact for an output that is linear in the logits, and says
// its offset. CAM is that map of a ResNet; a network that does not average its last maps has none
// (INVALID_ARGUMENT), nor has a probability.
absl::StatusOr<v1::ActivationOutput> RunActivations(const v1::ActivationTask& task,
                                                    const ImageData& data,
                                                    std::string_view weights);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_ACTIVATIONS_H_
