// A ResNet's parameters as the inference plan needs them, read from a model file. No Torch.
#ifndef DERMIS_WORKER_PLAN_RESNET_WEIGHTS_H_
#define DERMIS_WORKER_PLAN_RESNET_WEIGHTS_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "worker/models/resnet.h"

namespace dermis {

// A convolution and its batch norm in evaluation form, y * scale + shift by output channel.
struct ResNetPlanLayer {
  ResNetLayer form;
  std::vector<float> weight;         // [out][in][kernel][kernel], without the scale.
  std::vector<double> scale, shift;  // [out]
};

struct ResNetWeights {
  v1::ModelKind kind = v1::MODEL_KIND_UNSPECIFIED;
  ResNetShape shape;
  uint32_t size = 0, classes = 0;
  std::vector<ResNetPlanLayer> layers;    // As shape.layers.
  std::vector<float> fc_weight, fc_bias;  // [classes][features], [classes]
};

// From a model file (models/model.h) of that network and input size. INVALID_ARGUMENT names the
// tensor that is missing, misshapen, not finite or a negative variance.
absl::StatusOr<ResNetWeights> ReadResNetWeights(std::string_view safetensors, v1::ModelKind kind,
                                                uint32_t size);

// The network written out plainly, in double: what the plan is held against. input: [count, size,
// size, 3]. Gives count x classes logits. Tenths of a second an image at 224 pixels.
std::vector<double> ReferenceForward(const ResNetWeights& weights, uint32_t count,
                                     const float* input);

}  // namespace dermis

#endif  // DERMIS_WORKER_PLAN_RESNET_WEIGHTS_H_
