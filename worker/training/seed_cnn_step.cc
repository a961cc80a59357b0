#include "worker/training/seed_cnn_step.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include <torch/types.h>
#include <torch/utils.h>

#include "worker/models/seed_cnn.h"
#include "worker/training/convolution.h"
#include "worker/training/seed_cnn_kernels.h"
#include "worker/training/tensor_cache.h"

namespace dermis {
namespace {

constexpr int kLayers = kSeedCnnConvolutions;

double KeepScale(double p) {
  return 65536.0 / (65536.0 - static_cast<double>(std::lround(p * 65536)));
}

// Indices of a layer's tensors in the flat vectors.
struct LayerOffsets {
  uint64_t weight, weight_count, bias, gamma, beta, mean, variance;
  uint32_t in, out;
};

struct Geometry {
  LayerOffsets layer[kLayers];
  uint64_t dense_weight, dense_bias, features;
  uint32_t classes, size;

  explicit Geometry(const ModelLayout& layout) : classes(layout.classes), size(layout.size) {
    for (int k = 0; k < kLayers; ++k) {
      const std::string conv = absl::StrCat("conv", k + 1), bn = absl::StrCat("bn", k + 1);
      const ParameterSpec& weight = layout.parameter(conv + ".weight");
      layer[k] = {weight.offset,
                  weight.count,
                  layout.parameter(conv + ".bias").offset,
                  layout.parameter(bn + ".weight").offset,
                  layout.parameter(bn + ".bias").offset,
                  layout.statistic(bn + ".running_mean").offset,
                  layout.statistic(bn + ".running_var").offset,
                  static_cast<uint32_t>(weight.shape[1]),
                  static_cast<uint32_t>(weight.shape[0])};
    }
    dense_weight = layout.parameter("dense.weight").offset;
    dense_bias = layout.parameter("dense.bias").offset;
    features = static_cast<uint64_t>(layout.parameter("dense.weight").shape[1]);
  }
  uint32_t side(int k) const { return size >> (k / 2); }
  uint32_t channels(int k) const { return layer[k].out; }
};

// dense.weight is [classes, (C, H, W)] in the flat vector, maps are (H, W, C): same numbers, other
// order.
template <bool kToHwc>
void PermuteDense(const float* in, uint32_t classes, uint64_t channels, uint64_t pixels,
                  float* out) {
  for (uint32_t k = 0; k < classes; ++k, in += channels * pixels, out += channels * pixels) {
    for (uint64_t c = 0; c < channels; ++c) {
      for (uint64_t p = 0; p < pixels; ++p) {
        if constexpr (kToHwc) {
          out[p * channels + c] = in[c * pixels + p];
        } else {
          out[c * pixels + p] = in[p * channels + c];
        }
      }
    }
  }
}

}  // namespace

struct SeedCnnStepWeights::State {
  State(const ModelLayout& layout, v1::Precision precision)
      : geometry(layout), bf16(precision == v1::PRECISION_BF16) {}

  Geometry geometry;
  bool bf16;
  std::vector<float> flat;        // Copy of the parameters.
  std::vector<float> dense;       // [classes, (H, W, C)]
  torch::Tensor weight[kLayers];  // [O, I, 3, 3] channels-last, in the type of the convolution.
  torch::Tensor bias[kLayers];
};

SeedCnnStepWeights::SeedCnnStepWeights(const ModelLayout& layout, v1::Precision precision)
    : state_(std::make_unique<State>(layout, precision)) {
  state_->flat.resize(layout.parameter_count);
  state_->dense.resize(layout.classes * state_->geometry.features);
}
SeedCnnStepWeights::~SeedCnnStepWeights() = default;

void SeedCnnStepWeights::Update(const float* parameters) {
  torch::NoGradGuard no_grad;
  State& s = *state_;
  const Geometry& g = s.geometry;
  std::copy(parameters, parameters + s.flat.size(), s.flat.begin());
  for (int k = 0; k < kLayers; ++k) {
    const LayerOffsets& layer = g.layer[k];
    torch::Tensor bias = torch::from_blob(s.flat.data() + layer.bias, {layer.out}, torch::kFloat32);
    if (s.bf16) bias = bias.to(torch::kBFloat16);
    if (s.bf16 && !NativeBf16()) bias = bias.to(torch::kFloat32);
    s.weight[k] = KernelOf(s.flat.data() + layer.weight, {layer.out, layer.in, 3, 3}, s.bf16);
    s.bias[k] = bias;
  }
  const uint64_t channels = g.channels(kLayers - 1);
  PermuteDense<true>(parameters + g.dense_weight, g.classes, channels, g.features / channels,
                     s.dense.data());
}

struct SeedCnnPass::State {
  State(const ModelLayout& layout, uint32_t batch_size, v1::Precision precision, Loss training_loss)
      : geometry(layout),
        batch(batch_size),
        bf16(precision == v1::PRECISION_BF16),
        loss(std::move(training_loss)) {
    const Geometry& g = geometry;
    input.resize(size_t{batch} * g.size * g.size * 3);
    const size_t bytes = bf16 ? sizeof(Bf16) : sizeof(float);
    for (int b = 0; b < 3; ++b) {
      const int k = 2 * b;
      const size_t map = size_t{batch} * g.side(k) * g.side(k) * g.channels(k);
      normed[b].resize(map * bytes);
      backward[b].resize(map * bytes);
      pooled[b].resize(map / 4 * bytes);
      chosen[b].resize(map / 4);
      mask[b].resize(map / 4);
    }
    if (bf16) input_bf16.resize(input.size());
    dense_gradient.resize(g.classes * g.features);
    dpooled.resize(size_t{batch} * g.features * bytes);
    logits.resize(size_t{batch} * g.classes);
    dlogits.resize(size_t{batch} * g.classes);
  }

  torch::ScalarType type() const { return bf16 ? torch::kBFloat16 : torch::kFloat32; }

  void* InputData() {
    if (!bf16) return input.data();
    ConvertToBf16(input.data(), input.size(), input_bf16.data());
    return input_bf16.data();
  }

  template <typename T>
  PassResult TrainAs(const SeedCnnStepWeights::State& weights, absl::Span<const uint32_t> labels,
                     bool dropout, float loss_scale, float* gradients, double* statistics);
  template <typename T>
  PassResult EvaluateAs(const SeedCnnStepWeights::State& weights, const float* running,
                        absl::Span<const uint32_t> labels, float* logits_out);

  TensorCacheScope cache;  // First: it outlives the maps.
  Geometry geometry;
  uint32_t batch;
  bool bf16;
  Loss loss;
  std::vector<float> input;
  std::vector<Bf16> input_bf16;
  // Per block: output of its first batch norm, gradient at its second convolution's output, and its
  // pooled maps.
  std::vector<char> normed[3], backward[3], pooled[3];
  std::vector<uint8_t> chosen[3], mask[3];
  torch::Tensor activation[kLayers];  // After ELU.
  std::vector<float> dense_gradient;
  std::vector<char> dpooled;
  std::vector<float> logits, dlogits;
};

template <typename T>
PassResult SeedCnnPass::State::TrainAs(const SeedCnnStepWeights::State& weights,
                                       absl::Span<const uint32_t> labels, bool dropout,
                                       float loss_scale, float* gradients, double* statistics) {
  const Geometry& g = geometry;
  const float* flat = weights.flat.data();
  double inverse_deviation[kLayers][kMaxChannels];
  float mean[kLayers][kMaxChannels], scale[kMaxChannels], shift[kMaxChannels];

  // Forward.
  torch::Tensor x = AsTensor(InputData(), batch, g.size, 3, type()), inputs[kLayers];
  for (int k = 0; k < kLayers; ++k) {
    const LayerOffsets& layer = g.layer[k];
    const uint32_t side = g.side(k), channels = layer.out;
    const uint64_t rows = uint64_t{batch} * side * side;
    inputs[k] = x;
    activation[k] = Convolve(x, weights.weight[k], weights.bias[k], 1, bf16);
    T* a = static_cast<T*>(activation[k].data_ptr());
    EluStatistics(a, rows, channels, statistics + layer.mean, statistics + layer.variance);
    for (uint32_t c = 0; c < channels; ++c) {
      const double r = 1 / std::sqrt(statistics[layer.variance + c] + kBatchNormEpsilon);
      inverse_deviation[k][c] = r;
      mean[k][c] = static_cast<float>(statistics[layer.mean + c]);
      const double s = static_cast<double>(flat[layer.gamma + c]) * r;
      scale[c] = static_cast<float>(s);
      shift[c] = static_cast<float>(static_cast<double>(flat[layer.beta + c]) -
                                    s * statistics[layer.mean + c]);
    }
    const int b = k / 2;
    if (k % 2 == 0) {
      T* z = reinterpret_cast<T*>(normed[b].data());
      Affine(a, rows, channels, scale, shift, z);
      x = AsTensor(z, batch, side, channels, type());
    } else {
      T* p = reinterpret_cast<T*>(pooled[b].data());
      AffinePool(a, batch, side, side, channels, scale, shift, dropout ? mask[b].data() : nullptr,
                 static_cast<float>(KeepScale(kSeedCnnDropout[b])), p, chosen[b].data());
      x = AsTensor(p, batch, side / 2, channels, type());
    }
  }
  const T* features = reinterpret_cast<const T*>(pooled[2].data());
  DenseForward(features, batch, g.features, weights.dense.data(), flat + g.dense_bias, g.classes,
               logits.data());
  const PassResult result =
      SoftmaxLoss(loss, logits.data(), labels, g.classes, loss_scale, dlogits.data());

  // Backward.
  std::fill(dense_gradient.begin(), dense_gradient.end(), 0.0f);
  DenseBackward(features, batch, g.features, weights.dense.data(), dlogits.data(), g.classes,
                dense_gradient.data(), reinterpret_cast<T*>(dpooled.data()));
  const uint64_t last = g.channels(kLayers - 1);
  PermuteDense<false>(dense_gradient.data(), g.classes, last, g.features / last,
                      gradients + g.dense_weight);
  for (uint32_t c = 0; c < g.classes; ++c) {
    float sum = 0;
    for (uint32_t i = 0; i < batch; ++i) sum += dlogits[size_t{i} * g.classes + c];
    gradients[g.dense_bias + c] = sum;
  }
  torch::Tensor dz;  // Gradient at the layer's output; lives in a tensor ...
  const T* dz_data =
      reinterpret_cast<const T*>(dpooled.data());  // ... or, for the last, in dpooled.
  for (int k = kLayers - 1; k >= 0; --k) {
    const LayerOffsets& layer = g.layer[k];
    const uint32_t side = g.side(k), channels = layer.out;
    const uint64_t rows = uint64_t{batch} * side * side;
    const int b = k / 2;
    const float keep_scale = dropout ? static_cast<float>(KeepScale(kSeedCnnDropout[b])) : 1.0f;
    T* a = static_cast<T*>(activation[k].data_ptr());
    double sum[kMaxChannels], product[kMaxChannels];
    if (k % 2 == 0) {
      NormSums(dz_data, a, rows, channels, mean[k], sum, product);
    } else {
      PoolNormSums(dz_data, chosen[b].data(), a, batch, side, side, channels, keep_scale, mean[k],
                   sum, product);
    }
    float k1[kMaxChannels], k2[kMaxChannels], k3[kMaxChannels];
    for (uint32_t c = 0; c < channels; ++c) {
      const double r = inverse_deviation[k][c], s = static_cast<double>(flat[layer.gamma + c]) * r;
      const double n = static_cast<double>(rows);
      gradients[layer.beta + c] = static_cast<float>(sum[c]);
      gradients[layer.gamma + c] = static_cast<float>(product[c] * r);
      k1[c] = static_cast<float>(s);
      k2[c] = static_cast<float>(s * sum[c] / n);
      k3[c] = static_cast<float>(s * r * r * product[c] / n);
    }
    torch::Tensor dy;
    if (k % 2 == 0) {
      T* d = static_cast<T*>(dz.data_ptr());
      NormEluBackward(d, a, rows, channels, mean[k], k1, k2, k3);
      dy = dz;
    } else {
      T* d = reinterpret_cast<T*>(backward[b].data());
      PoolNormEluBackward(dz_data, chosen[b].data(), a, batch, side, side, channels, keep_scale,
                          mean[k], k1, k2, k3, d);
      dy = AsTensor(d, batch, side, channels, type());
    }
    const ConvolutionGradients back =
        ConvolveBackward(dy, inputs[k], weights.weight[k], 1, bf16, k > 0, true);
    std::memcpy(gradients + layer.weight, back.kernel.data_ptr<float>(),
                layer.weight_count * sizeof(float));
    std::memcpy(gradients + layer.bias, back.bias.data_ptr<float>(), channels * sizeof(float));
    activation[k].reset();
    dz = back.input;
    if (k > 0) dz_data = static_cast<const T*>(dz.data_ptr());
  }
  return result;
}

template <typename T>
PassResult SeedCnnPass::State::EvaluateAs(const SeedCnnStepWeights::State& weights,
                                          const float* running, absl::Span<const uint32_t> labels,
                                          float* logits_out) {
  const Geometry& g = geometry;
  const float* flat = weights.flat.data();
  const uint32_t count = static_cast<uint32_t>(labels.size());
  torch::Tensor x = AsTensor(InputData(), count, g.size, 3, type());
  for (int k = 0; k < kLayers; ++k) {
    const LayerOffsets& layer = g.layer[k];
    const uint32_t side = g.side(k), channels = layer.out;
    float scale[kMaxChannels], shift[kMaxChannels];
    for (uint32_t c = 0; c < channels; ++c) {
      const double s =
          static_cast<double>(flat[layer.gamma + c]) /
          std::sqrt(static_cast<double>(running[layer.variance + c]) + kBatchNormEpsilon);
      scale[c] = static_cast<float>(s);
      shift[c] = static_cast<float>(static_cast<double>(flat[layer.beta + c]) -
                                    s * static_cast<double>(running[layer.mean + c]));
    }
    torch::Tensor y = Convolve(x, weights.weight[k], weights.bias[k], 1, bf16);
    T* a = static_cast<T*>(y.data_ptr());
    EluAffine(a, uint64_t{count} * side * side, channels, scale, shift);
    if (k % 2 == 0) {
      x = y;
    } else {
      std::fill(scale, scale + channels, 1.0f);
      std::fill(shift, shift + channels, 0.0f);
      T* p = reinterpret_cast<T*>(pooled[k / 2].data());
      AffinePool(a, count, side, side, channels, scale, shift, nullptr, 1.0f, p,
                 chosen[k / 2].data());
      x = AsTensor(p, count, side / 2, channels, type());
    }
  }
  DenseForward(reinterpret_cast<const T*>(pooled[2].data()), count, g.features,
               weights.dense.data(), flat + g.dense_bias, g.classes, logits.data());
  if (logits_out != nullptr) std::copy_n(logits.data(), size_t{count} * g.classes, logits_out);
  return SoftmaxLoss({}, logits.data(), labels, g.classes, 0.0f, dlogits.data());
}

SeedCnnPass::SeedCnnPass(const ModelLayout& layout, uint32_t batch, v1::Precision precision,
                         Loss loss)
    : state_(std::make_unique<State>(layout, batch, precision, std::move(loss))) {}
SeedCnnPass::~SeedCnnPass() = default;

float* SeedCnnPass::input() { return state_->input.data(); }
uint8_t* SeedCnnPass::mask(uint32_t block, uint32_t i) {
  return state_->mask[block].data() + size_t{i} * mask_units(block);
}
uint32_t SeedCnnPass::mask_units(uint32_t block) const {
  return static_cast<uint32_t>(state_->mask[block].size() / state_->batch);
}

PassResult SeedCnnPass::Train(const SeedCnnStepWeights& weights, absl::Span<const uint32_t> labels,
                              bool dropout, float loss_scale, float* gradients,
                              double* statistics) {
  torch::NoGradGuard no_grad;
  State& s = *state_;
  return s.bf16
             ? s.TrainAs<Bf16>(*weights.state_, labels, dropout, loss_scale, gradients, statistics)
             : s.TrainAs<float>(*weights.state_, labels, dropout, loss_scale, gradients,
                                statistics);
}

PassResult SeedCnnPass::Evaluate(const SeedCnnStepWeights& weights, const float* running_statistics,
                                 absl::Span<const uint32_t> labels, float* logits) {
  torch::NoGradGuard no_grad;
  State& s = *state_;
  return s.bf16 ? s.EvaluateAs<Bf16>(*weights.state_, running_statistics, labels, logits)
                : s.EvaluateAs<float>(*weights.state_, running_statistics, labels, logits);
}

}  // namespace dermis
