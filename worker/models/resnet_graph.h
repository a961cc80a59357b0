// A ResNet as an ordinary differentiable graph: what Grad-CAM reads, and the yardstick for the fast
// forms of the same network (worker/training/resnet_step.h, worker/plan). For .cc files under
// worker/ and tests.
#ifndef DERMIS_WORKER_MODELS_RESNET_GRAPH_H_
#define DERMIS_WORKER_MODELS_RESNET_GRAPH_H_

#include <vector>

#include <torch/types.h>

#include "worker/models/model.h"

namespace dermis {

struct ResNetGraph {
  torch::Tensor logits;  // [N, classes]
  // Five: the stem after its ReLU (before its pool), then the outputs of layer1 .. layer4.
  std::vector<torch::Tensor> taps;  // [N, C, H, W]
};

// Evaluation form (running statistics). input: [N, 3, size, size] float. All tensors that it uses
// are views of the model's vectors: `model` must outlive the result.
ResNetGraph ResNetForward(const Model& model, const torch::Tensor& input);

// Training form for tests: batch statistics of this batch; `parameters` a flat tensor that may
// require gradients, of any floating type. Frozen layers use `statistics` (flat, of that type).
ResNetGraph ResNetForwardTraining(const ModelLayout& layout, const torch::Tensor& parameters,
                                  const torch::Tensor& statistics, const torch::Tensor& input);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_RESNET_GRAPH_H_
