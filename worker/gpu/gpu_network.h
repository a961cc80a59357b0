// A network on a device: forward and backward pass over one logical shard, and the evaluation form.
// Convolutions are LibTorch's (on a GPU cuDNN's, deterministic ones), everything between them the
// functors of worker/cuda. All of it is only queued, so that it can be recorded as a graph; nothing
// is read back here. What the passes on the processor are (worker/training/pass.h), with the same
// formulas; the bits are another numerics class.
#ifndef DERMIS_WORKER_GPU_GPU_NETWORK_H_
#define DERMIS_WORKER_GPU_GPU_NETWORK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include <torch/types.h>

#include "worker/cuda/device.h"
#include "worker/models/model.h"
#include "worker/training/loss.h"

namespace dermis {

// All pointers: the device's memory.
struct TrainBatch {
  torch::Tensor input;  // Of NewInput, filled.
  const uint32_t* labels;
  const uint32_t* images;  // Their numbers in the set: dropout is keyed by them.
  const DeviceStep* step;
};

struct TrainOutputs {
  float* gradients;      // parameter_count; zero for frozen parameters.
  double* statistics;    // statistic_count: TrainingPass has what.
  double* losses;        // One an image.
  uint32_t* correct;     // One an image.
};

class GpuNetwork {
 public:
  virtual ~GpuNetwork() = default;

  // [count, 3, size, size], channels last, in the type of the maps.
  virtual torch::Tensor NewInput(uint32_t count) const = 0;
  bool bf16() const { return bf16_; }

  // parameters: flat, the device's; they are read until the next call.
  virtual absl::Status SetWeights(const float* parameters) = 0;
  // statistics: flat, the device's. For Evaluate, and for frozen layers.
  virtual absl::Status SetRunning(const float* statistics) = 0;

  // From now on this one's weights and running statistics are those of `other`, a network made by
  // equal arguments, which gets all further ones.
  virtual void Share(const GpuNetwork& other) = 0;

  // dropout_seed: nullopt: none.
  // Forward and backward pass, whole or in parts, that gradients can be exchanged while later parts
  // run. Part 0 begins with the forward pass; the others follow in turn, with the same arguments and
  // no other call between. After part k all gradients from parts()[k] on are there; the last is 0.
  absl::Status Train(const TrainBatch& batch, std::optional<uint64_t> dropout_seed,
                     const TrainOutputs& out);
  virtual absl::Status TrainPart(uint32_t part, const TrainBatch& batch,
                                 std::optional<uint64_t> dropout_seed, const TrainOutputs& out) = 0;
  const std::vector<uint64_t>& parts() const { return parts_; }

  // logits: [count, classes].
  virtual absl::Status Evaluate(const torch::Tensor& input, float* logits) = 0;

  // The loss of logits, without its gradient.
  absl::Status Score(const float* logits, const uint32_t* labels, const DeviceStep* step,
                     uint32_t count, double* losses, uint32_t* correct);

 protected:
  GpuNetwork(Device& device, const ModelLayout& layout, bool bf16, const Loss& loss);

  // A map [count, channels, side, side], channels last, or a flat tensor.
  torch::Tensor NewMap(int64_t count, int64_t side, int64_t channels) const;
  torch::Tensor New(int64_t count, torch::ScalarType type) const;
  torch::Tensor Convolve(const torch::Tensor& x, const torch::Tensor& kernel,
                         const torch::Tensor& bias, int64_t stride) const;
  struct ConvolutionBack {
    torch::Tensor input, kernel;  // Channels last; input undefined where it is not wanted.
  };
  ConvolutionBack ConvolveBackward(const torch::Tensor& dy, const torch::Tensor& x,
                                   const torch::Tensor& kernel, int64_t stride,
                                   bool need_input) const;

  // The device's functions, by the first error: what follows it is not queued.
  template <typename Functor>
  void Run(const Functor& functor, uint64_t n) {
    if (status_.ok()) status_ = device_.Run(functor, n);
  }
  void Copy(void* to, const void* from, uint64_t bytes) {
    if (status_.ok()) status_ = device_.Copy(to, from, bytes);
  }
  absl::Status TakeStatus() { return std::exchange(status_, absl::OkStatus()); }

  // A place for the sums of one reduction at a time.
  struct SumMemory {
    torch::Tensor partial, folded;
  };
  SumMemory NewSumMemory(uint64_t doubles) const;
  template <typename Terms>
  FoldedSums Sums(const Terms& terms, uint64_t rows, uint32_t channels, const SumMemory& memory) {
    uint64_t count = BlocksOf(rows);
    double* from = memory.partial.template data_ptr<double>();
    double* to = memory.folded.template data_ptr<double>();
    Run(SumRows<Terms>{terms, rows, GroupsOf(channels), from}, count * (channels / kGroup));
    while (count > kFold) {
      const uint64_t folds = (count + kFold - 1) / kFold;
      Run(FoldSums{from, count, 2 * channels, to}, folds * 2 * channels);
      count = folds;
      std::swap(from, to);
    }
    return {from, static_cast<uint32_t>(count), channels};
  }
  static Groups GroupsOf(uint32_t channels);
  static uint64_t SumDoubles(uint64_t rows, uint32_t channels) {
    return BlocksOf(rows) * 2 * channels;
  }

  // Norms of all layers, in their order; channels: of each.
  std::vector<NormMemory> NewNorms(const std::vector<uint32_t>& channels);

  // logits <- the last layer of x (float or Bf16); then loss and dlogits.
  template <typename T>
  void DenseForward(const T* x, uint32_t count, const DenseShape& shape, const float* weight,
                    const float* bias, float* logits);
  void Loss(const TrainBatch& batch, uint32_t count, const float* logits, float* dlogits,
            const TrainOutputs& out);

  Device& device_;
  const ModelLayout layout_;
  const bool bf16_;
  const torch::TensorOptions options_;  // Of maps.
  const float* parameters_ = nullptr;
  std::vector<uint64_t> parts_ = {0};

 private:
  const double smoothing_;
  torch::Tensor class_weights_;  // Undefined: all 1.
  absl::Status status_;
  std::vector<torch::Tensor> norm_memory_;
};

// LibTorch's name of the device.
torch::Device TorchDevice(const Device& device);

// After convolutions were queued for the first time, `failures` being MemoryFailures() before.
// RESOURCE_EXHAUSTED where memory ran out meanwhile: LibTorch then lets cuDNN take an algorithm that
// needs less, with other bits, and this thread keeps it. So the process must end (OnBrokenCuda).
absl::Status CheckMemory(const Device& device, uint64_t failures);

// For the calling process, before any pass: deterministic kernels, no TF32.
void PrepareGpuNumerics();

// layout: of LayoutOf. The device outlives it.
absl::StatusOr<std::unique_ptr<GpuNetwork>> MakeGpuNetwork(Device& device,
                                                           const ModelLayout& layout,
                                                           v1::Precision precision,
                                                           const Loss& loss = {});

}  // namespace dermis

#endif  // DERMIS_WORKER_GPU_GPU_NETWORK_H_
