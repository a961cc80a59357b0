#include "worker/gpu/gpu_network.h"

#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "worker/cuda/cuda_device.h"
#include "worker/gpu/gpu_resnet.h"
#include "worker/gpu/gpu_seed_cnn.h"
#include "worker/models/resnet.h"

namespace dermis {

torch::Device TorchDevice(const Device& device) {
  if (device.ordinal() < 0) return torch::Device(torch::kCPU);
  return torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(device.ordinal()));
}

absl::Status CheckMemory(const Device& device, uint64_t failures) {
  if (device.MemoryFailures() == failures) return absl::OkStatus();
  const absl::Status status = absl::ResourceExhaustedError(absl::StrCat(
      device.name(), ": memory ran out while algorithms were chosen, so their bits are not to be relied on: use a "
      "smaller batch, or leave more of the GPU to this worker"));
  TellBrokenCuda(status);
  return status;
}

void PrepareGpuNumerics() {
  at::Context& context = at::globalContext();
  context.setBenchmarkCuDNN(false);  // It measures, and chooses by what it measured.
  context.setDeterministicCuDNN(true);
  context.setAllowTF32CuDNN(false);
  context.setAllowTF32CuBLAS(false);
}

GpuNetwork::GpuNetwork(Device& device, const ModelLayout& layout, bool bf16, const dermis::Loss& loss)
    : device_(device),
      layout_(layout),
      bf16_(bf16),
      options_(torch::TensorOptions(TorchDevice(device))
                   .dtype(bf16 ? torch::kBFloat16 : torch::kFloat32)),
      smoothing_(loss.smoothing) {
  if (!loss.class_weights.empty()) {
    class_weights_ = torch::tensor(loss.class_weights, torch::kFloat64).to(TorchDevice(device));
  }
}

torch::Tensor GpuNetwork::NewMap(int64_t count, int64_t side, int64_t channels) const {
  return torch::empty({count, channels, side, side},
                      options_.memory_format(at::MemoryFormat::ChannelsLast));
}

torch::Tensor GpuNetwork::New(int64_t count, torch::ScalarType type) const {
  return torch::empty({count}, options_.dtype(type));
}

torch::Tensor GpuNetwork::Convolve(const torch::Tensor& x, const torch::Tensor& kernel,
                                   const torch::Tensor& bias, int64_t stride) const {
  const int64_t padding = kernel.size(2) / 2;
  const std::optional<torch::Tensor> maybe_bias =
      bias.defined() ? std::optional<torch::Tensor>(bias) : std::nullopt;
  return at::convolution(x, kernel, maybe_bias, {stride, stride}, {padding, padding}, {1, 1}, false,
                         {0, 0}, 1)
      .contiguous(at::MemoryFormat::ChannelsLast);
}

GpuNetwork::ConvolutionBack GpuNetwork::ConvolveBackward(const torch::Tensor& dy,
                                                         const torch::Tensor& x,
                                                         const torch::Tensor& kernel,
                                                         int64_t stride, bool need_input) const {
  const int64_t padding = kernel.size(2) / 2;
  auto [dx, dkernel, dbias] =
      at::convolution_backward(dy, x, kernel, at::OptionalIntArrayRef(), {stride, stride},
                               {padding, padding}, {1, 1}, false, {0, 0}, 1,
                               {need_input, true, false});
  if (need_input) dx = dx.contiguous(at::MemoryFormat::ChannelsLast);
  return {dx, dkernel.contiguous(at::MemoryFormat::ChannelsLast)};
}

GpuNetwork::SumMemory GpuNetwork::NewSumMemory(uint64_t doubles) const {
  const int64_t count = static_cast<int64_t>(doubles);
  return {New(count, torch::kFloat64), New((count + kFold - 1) / kFold * 2, torch::kFloat64)};
}

Groups GpuNetwork::GroupsOf(uint32_t channels) {
  return {static_cast<uint32_t>(std::countr_zero(channels / kGroup))};
}

std::vector<NormMemory> GpuNetwork::NewNorms(const std::vector<uint32_t>& channels) {
  constexpr int64_t kFloats = 7;
  int64_t total = 0;
  for (uint32_t c : channels) total += c;
  norm_memory_.push_back(New(kFloats * total, torch::kFloat32));
  float* floats = norm_memory_.back().data_ptr<float>();
  norm_memory_.push_back(New(total, torch::kFloat64));
  double* doubles = norm_memory_.back().data_ptr<double>();
  std::vector<NormMemory> norms;
  for (uint32_t c : channels) {
    NormMemory norm = {};
    for (float** place : {&norm.pivot, &norm.scale, &norm.shift, &norm.mean, &norm.k1, &norm.k2,
                          &norm.k3}) {
      *place = floats;
      floats += c;
    }
    norm.inverse_deviation = doubles;
    doubles += c;
    norms.push_back(norm);
  }
  return norms;
}

template <typename T>
void GpuNetwork::DenseForward(const T* x, uint32_t count, const DenseShape& shape,
                              const float* weight, const float* bias, float* logits) {
  const uint64_t outputs = uint64_t{count} * shape.classes;
  const uint64_t blocks = (shape.features + kDenseBlock - 1) / kDenseBlock;
  const torch::Tensor partial = New(static_cast<int64_t>(outputs * blocks), torch::kFloat32);
  Run(DensePartial<T>{x, weight, shape, partial.data_ptr<float>()}, outputs * blocks);
  Run(DenseLogits{partial.data_ptr<float>(), bias, shape, logits}, outputs);
}
template void GpuNetwork::DenseForward(const float*, uint32_t, const DenseShape&, const float*,
                                       const float*, float*);
template void GpuNetwork::DenseForward(const Bf16*, uint32_t, const DenseShape&, const float*,
                                       const float*, float*);

void GpuNetwork::Loss(const TrainBatch& batch, uint32_t count, const float* logits, float* dlogits,
                      const TrainOutputs& out) {
  Run(SoftmaxRow{logits, batch.labels, layout_.classes, smoothing_,
                 class_weights_.defined() ? class_weights_.data_ptr<double>() : nullptr, batch.step,
                 dlogits, out.losses, out.correct},
      count);
}

absl::Status GpuNetwork::Train(const TrainBatch& batch, std::optional<uint64_t> dropout_seed,
                               const TrainOutputs& out) {
  for (uint32_t part = 0; part < parts_.size(); ++part) {
    RETURN_IF_ERROR(TrainPart(part, batch, dropout_seed, out));
  }
  return absl::OkStatus();
}

absl::Status GpuNetwork::Score(const float* logits, const uint32_t* labels, const DeviceStep* step,
                               uint32_t count, double* losses, uint32_t* correct) {
  const torch::Tensor dlogits = New(int64_t{count} * layout_.classes, torch::kFloat32);
  Run(SoftmaxRow{logits, labels, layout_.classes, 0, nullptr, step, dlogits.data_ptr<float>(),
                 losses, correct},
      count);
  return TakeStatus();
}

absl::StatusOr<std::unique_ptr<GpuNetwork>> MakeGpuNetwork(Device& device,
                                                           const ModelLayout& layout,
                                                           v1::Precision precision,
                                                           const Loss& loss) {
  const bool bf16 = precision == v1::PRECISION_BF16;
  if (IsResNet(layout.kind)) return MakeGpuResNet(device, layout, bf16, loss);
  if (layout.kind == v1::MODEL_KIND_SEED_CNN) return MakeGpuSeedCnn(device, layout, bf16, loss);
  return absl::UnimplementedError(absl::StrCat("no network on a GPU for model ", layout.kind));
}

}  // namespace dermis
