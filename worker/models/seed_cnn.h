// The seed's network as an ordinary differentiable graph: what Grad-CAM reads, and the yardstick
// for the two fast forms of the same network (worker/training/seed_cnn_step.h, worker/plan). Torch
// types stay out of model.h; this header is for .cc files under worker/ and tests.
//
// Per block: [Conv 3x3 same, bias -> ELU -> BatchNorm] x 2 -> MaxPool 2 -> Dropout .2 / .3 / .4;
// channels 32 / 64 / 128; then Flatten (C, H, W) -> Dense.
#ifndef DERMIS_WORKER_MODELS_SEED_CNN_H_
#define DERMIS_WORKER_MODELS_SEED_CNN_H_

#include <vector>

#include <torch/types.h>

#include "worker/models/model.h"

namespace dermis {

inline constexpr int kSeedCnnConvolutions = 6;
inline constexpr double kSeedCnnDropout[3] = {0.2, 0.3, 0.4};

struct SeedCnnGraph {
  torch::Tensor logits;             // [N, classes]
  std::vector<torch::Tensor> taps;  // Six: after ELU, before batch norm, [N, C, H, W].
  torch::Tensor pooled;             // The last pool's maps, which the dense layer reads.
};

// Evaluation form: running statistics, no dropout. input: [N, 3, size, size] float. All tensors
// that it uses are views of the model's vectors: `model` must outlive the result.
SeedCnnGraph SeedCnnForward(const Model& model, const torch::Tensor& input);

// Training form for tests: batch statistics of this batch, `parameters` a flat tensor that may
// require gradients, `masks` three tensors [N, C, H, W] that multiply the pooled maps (empty: no
// dropout).
SeedCnnGraph SeedCnnForwardTraining(const ModelLayout& layout, const torch::Tensor& parameters,
                                    const torch::Tensor& input,
                                    const std::vector<torch::Tensor>& masks);

// Logits of `count` normalised inputs, NHWC float; one Torch thread, 64 inputs at a time. In bf16
// inputs and weights of convolutions are rounded to bf16 first.
std::vector<float> SeedCnnLogits(const Model& model, const float* input, uint32_t count,
                                 v1::Precision precision);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_SEED_CNN_H_
