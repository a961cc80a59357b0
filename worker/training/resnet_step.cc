#include "worker/training/resnet_step.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include <torch/types.h>
#include <torch/utils.h>

#include "worker/models/resnet_places.h"
#include "worker/training/convolution.h"
#include "worker/training/resnet_kernels.h"
#include "worker/training/seed_cnn_kernels.h"
#include "worker/training/tensor_cache.h"

namespace dermis {
namespace {

using Layer = ResNetPlace;

struct Network : ResNetPlaces {
  explicit Network(const ModelLayout& layout)
      : ResNetPlaces(layout),
        size(layout.size),
        classes(layout.classes),
        epsilon(layout.batch_norm_epsilon) {}

  uint32_t last_pixels() const { return last_side * last_side; }

  uint32_t size, classes;
  double epsilon;
};

// A layer's batch norm as y * scale + shift.
struct ScaleShift {
  std::vector<float> scale, shift;

  LinearNorm linear() const { return {scale.data(), shift.data()}; }
  // mean(c), variance(c) of channel c.
  template <typename Mean, typename Variance>
  void Set(const Layer& layer, const float* parameters, double epsilon, Mean mean,
           Variance variance) {
    scale.resize(layer.form.out);
    shift.resize(layer.form.out);
    for (uint32_t c = 0; c < layer.form.out; ++c) {
      const double s = static_cast<double>(parameters[layer.gamma + c]) /
                       std::sqrt(static_cast<double>(variance(c)) + epsilon);
      scale[c] = static_cast<float>(s);
      shift[c] = static_cast<float>(static_cast<double>(parameters[layer.beta + c]) -
                                    s * static_cast<double>(mean(c)));
    }
  }
  void SetFromRunning(const Layer& layer, const float* parameters, const float* statistics,
                      double epsilon) {
    Set(
        layer, parameters, epsilon, [&](uint32_t c) { return statistics[layer.mean + c]; },
        [&](uint32_t c) { return statistics[layer.variance + c]; });
  }
};

class ResNetStepWeights final : public StepWeights {
 public:
  ResNetStepWeights(const ModelLayout& layout, v1::Precision precision)
      : network_(layout),
        bf16_(precision == v1::PRECISION_BF16),
        flat(layout.parameter_count),
        statistics(layout.statistic_count),
        kernels(network_.layers.size()),
        frozen(network_.layers.size()) {}

  void Update(const float* new_parameters, const float* new_statistics) override {
    torch::NoGradGuard no_grad;
    std::copy_n(new_parameters, flat.size(), flat.begin());
    std::copy_n(new_statistics, statistics.size(), statistics.begin());
    for (size_t k = 0; k < kernels.size(); ++k) {
      const Layer& layer = network_.layers[k];
      const int64_t side = layer.form.kernel;
      kernels[k] =
          KernelOf(flat.data() + layer.kernel, {layer.form.out, layer.form.in, side, side}, bf16_);
      if (layer.frozen) {
        frozen[k].SetFromRunning(layer, flat.data(), statistics.data(), network_.epsilon);
      }
    }
  }

 private:
  const Network network_;
  const bool bf16_;

 public:
  std::vector<float> flat, statistics;  // Copies of what Update was given.
  std::vector<torch::Tensor> kernels;   // Channels-last, in the type of the convolution.
  std::vector<ScaleShift> frozen;       // Of frozen layers.
};

template <typename T>
T* Data(const torch::Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

// T: the type in which maps are stored.
template <typename T>
class ResNetPass final : public TrainingPass {
 public:
  ResNetPass(const ModelLayout& layout, uint32_t batch, Loss loss)
      : network_(layout),
        batch_(batch),
        loss_(std::move(loss)),
        input_(size_t{batch} * layout.size * layout.size * 3) {}

  float* input() override { return input_.data(); }
  void DrawDropout(uint64_t, uint64_t, uint32_t, uint32_t) override {}

  PassResult Train(const StepWeights& step, absl::Span<const uint32_t> labels, bool,
                   float loss_scale, float* gradients, double* statistics) override {
    torch::NoGradGuard no_grad;
    weights_ = &static_cast<const ResNetStepWeights&>(step);
    gradients_ = gradients;
    statistics_ = statistics;
    saved_.resize(network_.layers.size());
    const std::vector<Layer>& layers = network_.layers;
    for (size_t k = 0; k < layers.size(); ++k) {
      if (layers[k].frozen) Freeze(layers[k]);
    }

    torch::Tensor x = TrainStem(Input(batch_));
    for (size_t b = 0; b < network_.shape.blocks.size(); ++b) {
      const ResNetBlock& block = network_.shape.blocks[b];
      x = b < network_.first_block ? EvaluateBlock(block, weights_->frozen, x)
                                   : TrainBlock(block, x);
    }
    const PassResult result = Head(x, loss_, labels, loss_scale);

    torch::Tensor da = HeadBackward(), db;
    for (size_t b = network_.shape.blocks.size(); b > network_.first_block; --b) {
      BlockBackward(b - 1, da, db);
    }
    if (!layers[0].frozen) StemBackward(da, db);
    return result;
  }

  PassResult Evaluate(const StepWeights& step, const float* running_statistics,
                      absl::Span<const uint32_t> labels, float* logits) override {
    torch::NoGradGuard no_grad;
    weights_ = &static_cast<const ResNetStepWeights&>(step);
    std::vector<ScaleShift> norms(network_.layers.size());
    for (size_t k = 0; k < norms.size(); ++k) {
      norms[k].SetFromRunning(network_.layers[k], weights_->flat.data(), running_statistics,
                              network_.epsilon);
    }
    torch::Tensor x = EvaluateStem(norms, Input(static_cast<int64_t>(labels.size())));
    for (const ResNetBlock& block : network_.shape.blocks) x = EvaluateBlock(block, norms, x);
    const PassResult result = Head(x, {}, labels, 0.0f);
    if (logits != nullptr) std::copy(logits_.begin(), logits_.end(), logits);
    return result;
  }

 private:
  static constexpr bool kBf16 = sizeof(T) == sizeof(Bf16);
  static constexpr torch::ScalarType kType = kBf16 ? torch::kBFloat16 : torch::kFloat32;

  // What the backward pass needs of a layer's forward pass.
  struct Saved {
    torch::Tensor x;  // The convolution's input.
    torch::Tensor y;  // Its output; the backward pass overwrites it.
    torch::Tensor z;  // After batch norm (and what is added) and ReLU. Kept from step to step.
    ScaleShift norm;
    std::vector<float> mean;
    std::vector<double> inverse_deviation;
    std::vector<float> k1, k2, k3;
    NormGradient gradient() const { return {mean.data(), k1.data(), k2.data(), k3.data()}; }
  };

  torch::Tensor Input(int64_t count) {
    if constexpr (kBf16) {
      converted_.resize(input_.size());
      ConvertToBf16(input_.data(), input_.size(), converted_.data());
      return AsTensor(converted_.data(), count, network_.size, 3, kType);
    } else {
      return AsTensor(input_.data(), count, network_.size, 3, kType);
    }
  }

  static torch::Tensor NewMap(int64_t n, int64_t side, int64_t channels) {
    return torch::empty({n, channels, side, side},
                        torch::TensorOptions(kType).memory_format(at::MemoryFormat::ChannelsLast));
  }

  uint64_t Rows(const Layer& layer) const { return batch_ * layer.pixels(); }

  torch::Tensor Convolution(size_t k, const torch::Tensor& x) const {
    return Convolve(x, weights_->kernels[k], {}, network_.layers[k].form.stride, kBf16);
  }

  // Forward, evaluation form.

  torch::Tensor EvaluateStem(const std::vector<ScaleShift>& norms, const torch::Tensor& input) {
    const Layer& stem = network_.layers[0];
    const torch::Tensor y = Convolution(0, input);
    const uint32_t n = static_cast<uint32_t>(input.size(0));
    if (!network_.shape.pooled_stem) {
      NormRelu(Data<T>(y), n * stem.pixels(), stem.form.out, norms[0].linear(), Data<T>(y));
      return y;
    }
    const torch::Tensor pooled = NewMap(n, stem.side / 2, stem.form.out);
    chosen_.resize(static_cast<size_t>(pooled.numel()));
    NormReluPool(Data<T>(y), n, stem.side, stem.side, stem.form.out, norms[0].linear(),
                 Data<T>(pooled), chosen_.data());
    return pooled;
  }

  torch::Tensor EvaluateBlock(const ResNetBlock& block, const std::vector<ScaleShift>& norms,
                              const torch::Tensor& x) {
    torch::Tensor y = x;
    for (uint32_t k = block.first; k < block.first + block.count; ++k) {
      const Layer& layer = network_.layers[k];
      y = Convolution(k, y);
      const uint64_t rows = static_cast<uint64_t>(x.size(0)) * layer.pixels();
      T* const map = Data<T>(y);
      if (k + 1 < block.first + block.count) {
        NormRelu(map, rows, layer.form.out, norms[k].linear(), map);
      } else if (block.downsample) {
        const torch::Tensor shortcut = Convolution(k + 1, x);
        NormAddNormRelu(map, norms[k].linear(), Data<T>(shortcut), norms[k + 1].linear(), rows,
                        layer.form.out, map);
      } else {
        NormAddRelu(map, norms[k].linear(), Data<T>(x), rows, layer.form.out, map);
      }
    }
    return y;
  }

  // Forward, training form.

  // The running statistics again, and no gradient.
  void Freeze(const Layer& layer) {
    for (uint64_t c = 0; c < layer.form.out; ++c) {
      statistics_[layer.mean + c] = weights_->statistics[layer.mean + c];
      statistics_[layer.variance + c] = weights_->statistics[layer.variance + c];
    }
    std::fill_n(gradients_ + layer.kernel, layer.kernel_count, 0.0f);
    std::fill_n(gradients_ + layer.gamma, layer.form.out, 0.0f);
    std::fill_n(gradients_ + layer.beta, layer.form.out, 0.0f);
  }

  // Convolution and the statistics of its output.
  Saved& TrainLayer(size_t k, const torch::Tensor& x) {
    const Layer& layer = network_.layers[k];
    Saved& saved = saved_[k];
    saved.x = x;
    saved.y = Convolution(k, x);
    double* const mean = statistics_ + layer.mean;
    double* const variance = statistics_ + layer.variance;
    MeanVariance(Data<T>(saved.y), Rows(layer), layer.form.out, mean, variance);
    saved.norm.Set(
        layer, weights_->flat.data(), network_.epsilon, [&](uint32_t c) { return mean[c]; },
        [&](uint32_t c) { return variance[c]; });
    saved.mean.assign(mean, mean + layer.form.out);
    saved.inverse_deviation.resize(layer.form.out);
    for (uint32_t c = 0; c < layer.form.out; ++c) {
      saved.inverse_deviation[c] = 1 / std::sqrt(variance[c] + network_.epsilon);
    }
    return saved;
  }

  T* OutputOf(size_t k) {
    const Layer& layer = network_.layers[k];
    torch::Tensor& z = saved_[k].z;
    if (!z.defined()) z = NewMap(batch_, layer.side, layer.form.out);
    return Data<T>(z);
  }

  torch::Tensor TrainStem(const torch::Tensor& input) {
    const Layer& stem = network_.layers[0];
    if (stem.frozen) return EvaluateStem(weights_->frozen, input);
    Saved& saved = TrainLayer(0, input);
    if (!network_.shape.pooled_stem) {
      NormRelu(Data<T>(saved.y), Rows(stem), stem.form.out, saved.norm.linear(), OutputOf(0));
      return saved.z;
    }
    if (!saved.z.defined()) saved.z = NewMap(batch_, stem.side / 2, stem.form.out);
    chosen_.resize(static_cast<size_t>(saved.z.numel()));
    NormReluPool(Data<T>(saved.y), batch_, stem.side, stem.side, stem.form.out, saved.norm.linear(),
                 Data<T>(saved.z), chosen_.data());
    return saved.z;
  }

  torch::Tensor TrainBlock(const ResNetBlock& block, const torch::Tensor& x) {
    torch::Tensor z = x;
    const uint32_t last = block.first + block.count - 1;
    for (uint32_t k = block.first; k < last; ++k) {
      const Layer& layer = network_.layers[k];
      const Saved& saved = TrainLayer(k, z);
      NormRelu(Data<T>(saved.y), Rows(layer), layer.form.out, saved.norm.linear(), OutputOf(k));
      z = saved.z;
    }
    const Layer& layer = network_.layers[last];
    const Saved& branch = TrainLayer(last, z);
    if (block.downsample) {
      const Saved& shortcut = TrainLayer(last + 1, x);
      NormAddNormRelu(Data<T>(branch.y), branch.norm.linear(), Data<T>(shortcut.y),
                      shortcut.norm.linear(), Rows(layer), layer.form.out, OutputOf(last));
    } else {
      NormAddRelu(Data<T>(branch.y), branch.norm.linear(), Data<T>(x), Rows(layer), layer.form.out,
                  OutputOf(last));
    }
    return branch.z;
  }

  PassResult Head(const torch::Tensor& z, const Loss& loss, absl::Span<const uint32_t> labels,
                  float loss_scale) {
    const uint32_t n = static_cast<uint32_t>(z.size(0)), features = network_.shape.features;
    features_.resize(size_t{n} * features);
    logits_.resize(size_t{n} * network_.classes);
    dlogits_.resize(logits_.size());
    AveragePool(Data<T>(z), n, network_.last_pixels(), features, features_.data());
    DenseForward(features_.data(), n, features, weights_->flat.data() + network_.fc_weight,
                 weights_->flat.data() + network_.fc_bias, network_.classes, logits_.data());
    return SoftmaxLoss(loss, logits_.data(), labels, network_.classes, loss_scale, dlogits_.data());
  }

  // Backward. Gives the gradient at the last block's output.
  torch::Tensor HeadBackward() {
    const uint32_t features = network_.shape.features, classes = network_.classes;
    std::fill_n(gradients_ + network_.fc_weight, size_t{classes} * features, 0.0f);
    std::vector<float> dfeatures(features_.size());
    DenseBackward(features_.data(), batch_, features, weights_->flat.data() + network_.fc_weight,
                  dlogits_.data(), classes, gradients_ + network_.fc_weight, dfeatures.data());
    for (uint32_t c = 0; c < classes; ++c) {
      float sum = 0;
      for (uint32_t i = 0; i < batch_; ++i) sum += dlogits_[size_t{i} * classes + c];
      gradients_[network_.fc_bias + c] = sum;
    }
    if (network_.first_block == network_.shape.blocks.size()) return {};
    const torch::Tensor dz = NewMap(
        batch_, network_.last_side, features);
    AveragePoolBackward(dfeatures.data(), batch_, network_.last_pixels(), features, Data<T>(dz));
    return dz;
  }

  // From the sums over rows of g and g * (y - mean): the gradients of scale and shift, and the
  // factors of the gradient at y.
  void SetNormGradient(size_t k, const std::vector<double>& sum,
                       const std::vector<double>& product) {
    const Layer& layer = network_.layers[k];
    Saved& saved = saved_[k];
    const uint32_t channels = layer.form.out;
    const double n = static_cast<double>(Rows(layer));
    saved.k1.resize(channels);
    saved.k2.resize(channels);
    saved.k3.resize(channels);
    for (uint32_t c = 0; c < channels; ++c) {
      const double r = saved.inverse_deviation[c];
      const double s = static_cast<double>(weights_->flat[layer.gamma + c]) * r;
      gradients_[layer.beta + c] = static_cast<float>(sum[c]);
      gradients_[layer.gamma + c] = static_cast<float>(product[c] * r);
      saved.k1[c] = static_cast<float>(s);
      saved.k2[c] = static_cast<float>(s * sum[c] / n);
      saved.k3[c] = static_cast<float>(s * r * r * product[c] / n);
    }
  }

  // dy: gradient at the convolution's output. Gives the gradient at its input. Lets go of what the
  // layer's forward pass kept.
  torch::Tensor ConvolutionBackward(size_t k, const torch::Tensor& dy, bool need_input) {
    const Layer& layer = network_.layers[k];
    const ConvolutionGradients back = ConvolveBackward(dy, saved_[k].x, weights_->kernels[k],
                                                       layer.form.stride, kBf16, need_input, false);
    std::memcpy(gradients_ + layer.kernel, back.kernel.template data_ptr<float>(),
                layer.kernel_count * sizeof(float));
    saved_[k].x.reset();
    saved_[k].y.reset();
    return back.input;
  }

  // Batch norm of layer k: g becomes the gradient at its input, in y's place.
  torch::Tensor NormBackwardInPlace(size_t k, const torch::Tensor& g) {
    const Layer& layer = network_.layers[k];
    T* const y = Data<T>(saved_[k].y);
    NormBackward(Data<T>(g), y, Rows(layer), layer.form.out, saved_[k].gradient(), y);
    return saved_[k].y;
  }

  // da + db (db may be undefined): gradient at the block's output, then at its input.
  void BlockBackward(size_t b, torch::Tensor& da, torch::Tensor& db) {
    const ResNetBlock& block = network_.shape.blocks[b];
    const uint32_t last = block.first + block.count - 1;
    const Layer& layer = network_.layers[last];
    const uint32_t channels = layer.form.out;
    const bool need_input = b > network_.first_block || !network_.layers[0].frozen;
    std::vector<double> sum(channels), product(channels);
    T* const g = Data<T>(da);
    JoinSums(g, db.defined() ? Data<T>(db) : nullptr, Data<T>(saved_[last].z),
             Data<T>(saved_[last].y), Rows(layer), channels, saved_[last].mean.data(), g,
             sum.data(), product.data());
    SetNormGradient(last, sum, product);
    db = da;  // Of an identity: g itself.
    if (block.downsample) {
      NormProduct(g, Data<T>(saved_[last + 1].y), Rows(layer), channels,
                  saved_[last + 1].mean.data(), product.data());
      SetNormGradient(last + 1, sum, product);
    }
    torch::Tensor dz =
        ConvolutionBackward(last, NormBackwardInPlace(last, da), last > block.first || need_input);
    for (uint32_t k = last; k-- > block.first;) {
      const Layer& inner = network_.layers[k];
      const Saved& saved = saved_[k];
      sum.resize(inner.form.out);
      product.resize(inner.form.out);
      ReluNormSums(Data<T>(dz), Data<T>(saved.y), Rows(inner), inner.form.out, saved.norm.linear(),
                   saved.mean.data(), sum.data(), product.data());
      SetNormGradient(k, sum, product);
      ReluNormBackward(Data<T>(dz), Data<T>(saved.y), Rows(inner), inner.form.out,
                       saved.norm.linear(), saved.gradient());
      dz = ConvolutionBackward(k, dz, k > block.first || need_input);
    }
    if (block.downsample) {
      db = ConvolutionBackward(last + 1, NormBackwardInPlace(last + 1, db), need_input);
    }
    da = dz;
  }

  void StemBackward(const torch::Tensor& da, const torch::Tensor& db) {
    const Layer& stem = network_.layers[0];
    const Saved& saved = saved_[0];
    const uint32_t channels = stem.form.out;
    std::vector<double> sum(channels), product(channels);
    AddTo(Data<T>(db), static_cast<uint64_t>(da.numel()), Data<T>(da));
    if (network_.shape.pooled_stem) {
      const torch::Tensor g = NewMap(batch_, stem.side, channels);
      PoolSums(Data<T>(da), chosen_.data(), Data<T>(saved.y), batch_, stem.side, stem.side,
               channels, saved.norm.linear(), saved.mean.data(), Data<T>(g), sum.data(),
               product.data());
      SetNormGradient(0, sum, product);
      ConvolutionBackward(0, NormBackwardInPlace(0, g), false);
    } else {
      ReluNormSums(Data<T>(da), Data<T>(saved.y), Rows(stem), channels, saved.norm.linear(),
                   saved.mean.data(), sum.data(), product.data());
      SetNormGradient(0, sum, product);
      ReluNormBackward(Data<T>(da), Data<T>(saved.y), Rows(stem), channels, saved.norm.linear(),
                       saved.gradient());
      ConvolutionBackward(0, da, false);
    }
  }

  const TensorCacheScope cache_;  // First: it outlives the maps.
  const Network network_;
  const uint32_t batch_;
  const Loss loss_;
  std::vector<float> input_;
  std::vector<Bf16> converted_;
  std::vector<Saved> saved_;     // Per layer.
  std::vector<uint8_t> chosen_;  // By the stem's pool.
  std::vector<float> features_, logits_, dlogits_;
  // Of the running call.
  const ResNetStepWeights* weights_ = nullptr;
  float* gradients_ = nullptr;
  double* statistics_ = nullptr;
};

}  // namespace

std::unique_ptr<StepWeights> MakeResNetStepWeights(const ModelLayout& layout,
                                                   v1::Precision precision) {
  return std::make_unique<ResNetStepWeights>(layout, precision);
}

std::unique_ptr<TrainingPass> MakeResNetPass(const ModelLayout& layout, uint32_t batch,
                                             v1::Precision precision, Loss loss) {
  if (precision == v1::PRECISION_BF16) {
    return std::make_unique<ResNetPass<Bf16>>(layout, batch, std::move(loss));
  }
  return std::make_unique<ResNetPass<float>>(layout, batch, std::move(loss));
}

}  // namespace dermis
