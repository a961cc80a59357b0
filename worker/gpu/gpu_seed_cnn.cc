#include "worker/gpu/gpu_seed_cnn.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "worker/models/seed_cnn.h"

namespace dermis {
namespace {

constexpr int kLayers = kSeedCnnConvolutions;
constexpr uint32_t kPlaces = 9;

struct Layer {
  uint64_t weight, bias, gamma, beta, mean, variance;
  uint32_t in, out, side;
};

// Units are dropped with probability threshold / 2^16.
uint32_t ThresholdOf(int block) {
  return static_cast<uint32_t>(std::lround(kSeedCnnDropout[block] * 65536));
}
float KeepScaleOf(int block) { return static_cast<float>(65536.0 / (65536.0 - ThresholdOf(block))); }

// T: the type in which maps are stored.
template <typename T>
class GpuSeedCnn final : public GpuNetwork {
 public:
  GpuSeedCnn(Device& device, const ModelLayout& layout, const dermis::Loss& loss)
      : GpuNetwork(device, layout, sizeof(T) == sizeof(Bf16), loss),
        dense_weight_(layout.parameter("dense.weight").offset),
        dense_bias_(layout.parameter("dense.bias").offset) {
    std::vector<uint32_t> channels;
    for (int k = 0; k < kLayers; ++k) {
      const std::string conv = absl::StrCat("conv", k + 1), bn = absl::StrCat("bn", k + 1);
      const ParameterSpec& weight = layout.parameter(conv + ".weight");
      layers_[k] = {weight.offset,
                    layout.parameter(conv + ".bias").offset,
                    layout.parameter(bn + ".weight").offset,
                    layout.parameter(bn + ".bias").offset,
                    layout.statistic(bn + ".running_mean").offset,
                    layout.statistic(bn + ".running_var").offset,
                    static_cast<uint32_t>(weight.shape[1]),
                    static_cast<uint32_t>(weight.shape[0]),
                    layout.size >> (k / 2)};
      channels.push_back(layers_[k].out);
      kernels_[k] = torch::empty({layers_[k].out, layers_[k].in, 3, 3},
                                 options_.memory_format(at::MemoryFormat::ChannelsLast));
      biases_[k] = torch::empty({layers_[k].out}, options_);
    }
    const uint32_t features =
        static_cast<uint32_t>(layout.parameter("dense.weight").shape[1]);
    dense_ = {features, layers_[kLayers - 1].out, layout.classes};
    norms_ = NewNorms(channels);
    running_norms_ = NewNorms(channels);
  }

  torch::Tensor NewInput(uint32_t count) const override { return NewMap(count, layout_.size, 3); }

  absl::Status SetWeights(const float* parameters) override {
    parameters_ = parameters;
    for (int k = 0; k < kLayers; ++k) {
      const Layer& layer = layers_[k];
      Run(PackKernel<T>{parameters + layer.weight, layer.in, kPlaces, Data(kernels_[k])},
          uint64_t{layer.in} * layer.out);
      Run(Convert<T>{parameters + layer.bias, Data(biases_[k])}, layer.out);
      for (std::vector<NormMemory>* norms : {&norms_, &running_norms_}) {
        (*norms)[k].gamma = parameters + layer.gamma;
        (*norms)[k].beta = parameters + layer.beta;
      }
    }
    return TakeStatus();
  }

  absl::Status SetRunning(const float* statistics) override {
    for (int k = 0; k < kLayers; ++k) {
      const Layer& layer = layers_[k];
      Run(SetRunningNorm{running_norms_[k], statistics + layer.mean, statistics + layer.variance,
                         layout_.batch_norm_epsilon},
          layer.out);
    }
    return TakeStatus();
  }

  void Share(const GpuNetwork& other) override {
    const auto& from = static_cast<const GpuSeedCnn&>(other);
    parameters_ = from.parameters_;
    running_norms_ = from.running_norms_;
    for (int k = 0; k < kLayers; ++k) {
      kernels_[k] = from.kernels_[k];
      biases_[k] = from.biases_[k];
      norms_[k].gamma = from.norms_[k].gamma;
      norms_[k].beta = from.norms_[k].beta;
    }
  }

  // Of one part: its gradients are few.
  absl::Status TrainPart(uint32_t part, const TrainBatch& batch,
                         std::optional<uint64_t> dropout_seed, const TrainOutputs& out) override;
  absl::Status Evaluate(const torch::Tensor& input, float* logits) override;

 private:
  static T* Data(const torch::Tensor& tensor) { return static_cast<T*>(tensor.data_ptr()); }
  static uint64_t Elements(const torch::Tensor& map) {
    return static_cast<uint64_t>(map.numel()) / kGroup;
  }

  void MakeSumMemory(uint32_t batch) {
    if (sums_batch_ == batch) return;
    uint64_t most = 0;
    for (const Layer& layer : layers_) {
      most = std::max(most, SumDoubles(uint64_t{batch} * layer.side * layer.side, layer.out));
    }
    sums_ = NewSumMemory(most);
    sums_batch_ = batch;
  }

  const uint64_t dense_weight_, dense_bias_;
  Layer layers_[kLayers];
  DenseShape dense_;
  torch::Tensor kernels_[kLayers], biases_[kLayers];
  std::vector<NormMemory> norms_, running_norms_;
  uint32_t sums_batch_ = 0;
  SumMemory sums_;
};

template <typename T>
absl::Status GpuSeedCnn<T>::TrainPart(uint32_t, const TrainBatch& batch,
                                      std::optional<uint64_t> dropout_seed,
                                      const TrainOutputs& out) {
  torch::NoGradGuard no_grad;
  const uint32_t n = static_cast<uint32_t>(batch.input.size(0));
  MakeSumMemory(n);

  torch::Tensor x = batch.input, inputs[kLayers], activations[kLayers], chosen[3];
  for (int k = 0; k < kLayers; ++k) {
    const Layer& layer = layers_[k];
    const uint64_t rows = uint64_t{n} * layer.side * layer.side;
    const Groups groups = GroupsOf(layer.out);
    inputs[k] = x;
    const torch::Tensor y = Convolve(x, kernels_[k], biases_[k], 1);
    activations[k] = torch::empty_like(y);
    T* const a = Data(activations[k]);
    const FoldedSums moments = Sums(EluMomentTerms<T>{Data(y), a, layer.out, norms_[k].pivot}, rows,
                                    layer.out, sums_);
    Run(SetBatchNorm{moments, norms_[k], static_cast<double>(rows), layout_.batch_norm_epsilon,
                     out.statistics + layer.mean, out.statistics + layer.variance},
        layer.out);
    if (k % 2 == 0) {
      x = torch::empty_like(y);
      Run(NormMap<T>{a, norms_[k].linear(), nullptr, {}, false, Data(x), groups}, Elements(x));
      continue;
    }
    const int b = k / 2;
    x = NewMap(n, layer.side / 2, layer.out);
    chosen[b] = New(x.numel(), torch::kUInt8);
    torch::Tensor keep;
    if (dropout_seed.has_value()) {
      const uint32_t units = static_cast<uint32_t>(x.numel() / n);
      keep = New(x.numel(), torch::kUInt8);
      Run(DropoutKeep{*dropout_seed, batch.step, batch.images, static_cast<uint32_t>(b),
                      ThresholdOf(b), units, keep.data_ptr<uint8_t>()},
          static_cast<uint64_t>(keep.numel()) / 8);
    }
    Run(NormPool2<T>{a, norms_[k].linear(), layer.side,
                     keep.defined() ? keep.data_ptr<uint8_t>() : nullptr, KeepScaleOf(b), Data(x),
                     chosen[b].data_ptr<uint8_t>(), groups},
        Elements(x));
  }

  const int64_t outputs = int64_t{n} * dense_.classes;
  const torch::Tensor logits = New(outputs, torch::kFloat32), dlogits = New(outputs, torch::kFloat32);
  const float* const weight = parameters_ + dense_weight_;
  DenseForward(Data(x), n, dense_, weight, parameters_ + dense_bias_, logits.data_ptr<float>());
  Loss(batch, n, logits.data_ptr<float>(), dlogits.data_ptr<float>(), out);
  Run(DenseWeightGradient<T>{Data(x), dlogits.data_ptr<float>(), n, dense_,
                             out.gradients + dense_weight_, out.gradients + dense_bias_},
      uint64_t{dense_.features} * dense_.classes + dense_.classes);
  torch::Tensor dz = torch::empty_like(x);  // Gradient at the layer's output.
  Run(DenseInputGradient<T>{dlogits.data_ptr<float>(), weight, dense_, Data(dz)},
      static_cast<uint64_t>(dz.numel()));

  for (int k = kLayers - 1; k >= 0; --k) {
    const Layer& layer = layers_[k];
    const uint64_t rows = uint64_t{n} * layer.side * layer.side;
    const Groups groups = GroupsOf(layer.out);
    const int b = k / 2;
    const float keep_scale = dropout_seed.has_value() ? KeepScaleOf(b) : 1.0f;
    const T* const a = Data(activations[k]);
    const FoldedSums sums =
        k % 2 == 0 ? Sums(NormTerms<T>{Data(dz), a, norms_[k].mean, layer.out}, rows, layer.out, sums_)
                   : Sums(Pool2Terms<T>{Data(dz), chosen[b].data_ptr<uint8_t>(), a, layer.side,
                                        keep_scale, norms_[k].mean, layer.out},
                          rows / 4, layer.out, sums_);
    Run(SetNormGradient{sums, sums, norms_[k], static_cast<double>(rows),
                        out.gradients + layer.gamma, out.gradients + layer.beta},
        layer.out);
    torch::Tensor dy = dz;
    if (k % 2 == 0) {
      Run(NormBackwardMap<T>{Data(dz), a, {}, true, norms_[k].gradient(), Data(dy), groups},
          Elements(dy));
    } else {
      dy = torch::empty_like(activations[k]);
      Run(Pool2NormEluBackward<T>{Data(dz), chosen[b].data_ptr<uint8_t>(), a, layer.side,
                                  keep_scale, norms_[k].gradient(), Data(dy), groups},
          Elements(dy));
    }
    const FoldedSums bias = Sums(PlainTerms<T>{Data(dy), layer.out}, rows, layer.out, sums_);
    Run(TotalSums{bias, out.gradients + layer.bias}, layer.out);
    const ConvolutionBack back = ConvolveBackward(dy, inputs[k], kernels_[k], 1, k > 0);
    Run(UnpackKernel<T>{Data(back.kernel), layer.in, kPlaces, out.gradients + layer.weight},
        uint64_t{layer.in} * layer.out);
    dz = back.input;
  }
  return TakeStatus();
}

template <typename T>
absl::Status GpuSeedCnn<T>::Evaluate(const torch::Tensor& input, float* logits) {
  torch::NoGradGuard no_grad;
  torch::Tensor x = input;
  for (int k = 0; k < kLayers; ++k) {
    const Layer& layer = layers_[k];
    const Groups groups = GroupsOf(layer.out);
    const torch::Tensor y = Convolve(x, kernels_[k], biases_[k], 1);
    Run(EluNormMap<T>{Data(y), running_norms_[k].linear(), Data(y), groups}, Elements(y));
    x = y;
    if (k % 2 == 0) continue;
    x = NewMap(input.size(0), layer.side / 2, layer.out);
    Run(NormPool2<T>{Data(y), {}, layer.side, nullptr, 1.0f, Data(x), nullptr, groups},
        Elements(x));
  }
  DenseForward(Data(x), static_cast<uint32_t>(input.size(0)), dense_, parameters_ + dense_weight_,
               parameters_ + dense_bias_, logits);
  return TakeStatus();
}

}  // namespace

std::unique_ptr<GpuNetwork> MakeGpuSeedCnn(Device& device, const ModelLayout& layout, bool bf16,
                                           const Loss& loss) {
  if (bf16) return std::make_unique<GpuSeedCnn<Bf16>>(device, layout, loss);
  return std::make_unique<GpuSeedCnn<float>>(device, layout, loss);
}

}  // namespace dermis
