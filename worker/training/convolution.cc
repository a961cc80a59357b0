#include "worker/training/convolution.h"

#include <array>

#include <ATen/core/dispatch/Dispatcher.h>

namespace dermis {

bool NativeBf16() {
  static const bool native = [] {
    auto op = c10::Dispatcher::singleton().findSchema({"mkldnn::_is_mkldnn_bf16_supported", ""});
    return op.has_value() && op->typed<bool()>().call();
  }();
  return native;
}

torch::Tensor AsTensor(void* data, int64_t n, int64_t side, int64_t channels,
                       torch::ScalarType type) {
  return torch::from_blob(data, {n, side, side, channels}, type).permute({0, 3, 1, 2});
}

torch::Tensor KernelOf(float* flat, at::IntArrayRef shape, bool bf16) {
  torch::Tensor kernel = torch::from_blob(flat, shape, torch::kFloat32);
  if (bf16) kernel = kernel.to(torch::kBFloat16);
  if (bf16 && !NativeBf16()) kernel = kernel.to(torch::kFloat32);
  return kernel.contiguous(at::MemoryFormat::ChannelsLast);
}

torch::Tensor Convolve(const torch::Tensor& x, const torch::Tensor& kernel,
                       const torch::Tensor& bias, int64_t stride, bool bf16) {
  const bool emulate = bf16 && !NativeBf16();
  const int64_t padding = kernel.size(2) / 2;
  const std::optional<torch::Tensor> maybe_bias =
      bias.defined() ? std::optional<torch::Tensor>(bias) : std::nullopt;
  torch::Tensor y = at::convolution(emulate ? x.to(torch::kFloat32) : x, kernel, maybe_bias,
                                    {stride, stride}, {padding, padding}, {1, 1}, false, {0, 0}, 1);
  if (emulate) y = y.to(torch::kBFloat16);
  return y.contiguous(at::MemoryFormat::ChannelsLast);
}

ConvolutionGradients ConvolveBackward(torch::Tensor dy, torch::Tensor x,
                                      const torch::Tensor& kernel, int64_t stride, bool bf16,
                                      bool need_input, bool need_bias) {
  const bool emulate = bf16 && !NativeBf16();
  if (emulate) {
    dy = dy.to(torch::kFloat32);
    x = x.to(torch::kFloat32);
  }
  const int64_t padding = kernel.size(2) / 2;
  const std::array<int64_t, 1> out = {kernel.size(0)};
  const at::OptionalIntArrayRef bias_size =
      need_bias ? at::OptionalIntArrayRef(out) : at::OptionalIntArrayRef();
  auto [dx, dkernel, dbias] =
      at::convolution_backward(dy, x, kernel, bias_size, {stride, stride}, {padding, padding},
                               {1, 1}, false, {0, 0}, 1, {need_input, true, need_bias});
  ConvolutionGradients result;
  if (need_input) {
    if (emulate) dx = dx.to(torch::kBFloat16);
    result.input = dx.contiguous(at::MemoryFormat::ChannelsLast);
  }
  result.kernel = dkernel.to(torch::kFloat32).contiguous();
  if (need_bias) result.bias = dbias.to(torch::kFloat32).contiguous();
  return result;
}

}  // namespace dermis
