// Grad-CAM and activation maps, from the model's own graph: of every convolution layer of seed_cnn
// (after its activation, before batch norm); of a ResNet's stem ("conv1", after ReLU) and of the
// outputs of its stages ("layer1" .. "layer4").
#ifndef DERMIS_WORKER_MODELS_ACTIVATIONS_H_
#define DERMIS_WORKER_MODELS_ACTIVATIONS_H_

#include <string_view>

#include "absl/status/statusor.h"

#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"

namespace dermis {

// `weights`: bytes of the model's safetensors file. fp32. Layers in order of the network.
absl::StatusOr<v1::ActivationOutput> RunActivations(const v1::ActivationTask& task,
                                                    const ImageData& data,
                                                    std::string_view weights);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_ACTIVATIONS_H_
