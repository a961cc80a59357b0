// LibTorch's convolutions as the training passes use them: channels-last maps in the pass's storage
// type, on the calling thread. Torch types: for .cc files of this folder.
#ifndef DERMIS_WORKER_TRAINING_CONVOLUTION_H_
#define DERMIS_WORKER_TRAINING_CONVOLUTION_H_

#include <cstdint>

#include <torch/types.h>

namespace dermis {

// Whether this processor has bf16 convolutions in LibTorch. Where it has none, the same roundings
// are made around fp32 convolutions: slow, but every worker can run every study (in its own
// numerics class).
bool NativeBf16();

// A map [n, side, side, C] as the [n, C, side, side] channels-last tensor that convolutions want;
// no copy.
torch::Tensor AsTensor(void* data, int64_t n, int64_t side, int64_t channels,
                       torch::ScalarType type);

// A kernel [O, I, k, k] of the flat vector in the form that Convolve wants. `flat` must stay.
torch::Tensor KernelOf(float* flat, at::IntArrayRef shape, bool bf16);

struct ConvolutionGradients {
  torch::Tensor input;   // Undefined where it was not asked for.
  torch::Tensor kernel;  // [O, I, k, k] contiguous fp32.
  torch::Tensor bias;    // [O] fp32; undefined where it was not asked for.
};

// Padding kernel / 2. `bias` may be undefined. Fresh channels-last result in storage type.
torch::Tensor Convolve(const torch::Tensor& x, const torch::Tensor& kernel,
                       const torch::Tensor& bias, int64_t stride, bool bf16);
ConvolutionGradients ConvolveBackward(torch::Tensor dy, torch::Tensor x,
                                      const torch::Tensor& kernel, int64_t stride, bool bf16,
                                      bool need_input, bool need_bias);

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_CONVOLUTION_H_
