#include "worker/gpu/gpu_resnet.h"

#include <string>
#include <utility>
#include <vector>

#include "worker/models/resnet_places.h"

namespace dermis {
namespace {

using Layer = ResNetPlace;

// Of a training pass. The last stage holds three quarters of a ResNet's weights, the one before most
// of the others.
constexpr size_t kParts = 3;

uint32_t PlacesOf(const Layer& layer) { return layer.form.kernel * layer.form.kernel; }

// T: the type in which maps are stored.
template <typename T>
class GpuResNet final : public GpuNetwork {
 public:
  GpuResNet(Device& device, const ModelLayout& layout, const dermis::Loss& loss)
      : GpuNetwork(device, layout, sizeof(T) == sizeof(Bf16), loss),
        network_(layout),
        shape_(network_.shape),
        layers_(network_.layers) {
    std::vector<uint32_t> channels;
    for (const Layer& layer : layers_) channels.push_back(layer.form.out);
    norms_ = NewNorms(channels);
    running_norms_ = NewNorms(channels);
    kernels_.resize(layers_.size());
    saved_.resize(layers_.size());
    parts_.clear();
    for (size_t b = shape_.blocks.size(); --b > network_.first_block && parts_.size() + 1 < kParts;) {
      if (!shape_.blocks[b].downsample) continue;  // No stage begins here.
      part_blocks_.push_back(b);
      parts_.push_back(layers_[shape_.blocks[b].first].kernel);
    }
    part_blocks_.push_back(network_.first_block);
    parts_.push_back(0);
  }

  torch::Tensor NewInput(uint32_t count) const override { return NewMap(count, layout_.size, 3); }

  absl::Status SetWeights(const float* parameters) override {
    parameters_ = parameters;
    for (size_t k = 0; k < layers_.size(); ++k) {
      const Layer& layer = layers_[k];
      if (!kernels_[k].defined()) {
        kernels_[k] = torch::empty(
            {layer.form.out, layer.form.in, layer.form.kernel, layer.form.kernel},
            options_.memory_format(at::MemoryFormat::ChannelsLast));
      }
      Run(PackKernel<T>{parameters + layer.kernel, layer.form.in, PlacesOf(layer),
                        Data(kernels_[k])},
          uint64_t{layer.form.in} * layer.form.out);
      for (std::vector<NormMemory>* norms : {&norms_, &running_norms_}) {
        (*norms)[k].gamma = parameters + layer.gamma;
        (*norms)[k].beta = parameters + layer.beta;
      }
    }
    return TakeStatus();
  }

  absl::Status SetRunning(const float* statistics) override {
    statistics_ = statistics;
    for (size_t k = 0; k < layers_.size(); ++k) {
      const Layer& layer = layers_[k];
      Run(SetRunningNorm{running_norms_[k], statistics + layer.mean, statistics + layer.variance,
                         layout_.batch_norm_epsilon},
          layer.form.out);
    }
    return TakeStatus();
  }

  void Share(const GpuNetwork& other) override {
    const auto& from = static_cast<const GpuResNet&>(other);
    parameters_ = from.parameters_;
    statistics_ = from.statistics_;
    kernels_ = from.kernels_;
    running_norms_ = from.running_norms_;
    for (size_t k = 0; k < norms_.size(); ++k) {
      norms_[k].gamma = from.norms_[k].gamma;
      norms_[k].beta = from.norms_[k].beta;
    }
  }

  absl::Status TrainPart(uint32_t part, const TrainBatch& batch, std::optional<uint64_t>,
                         const TrainOutputs& out) override {
    torch::NoGradGuard no_grad;
    out_ = &out;
    if (part == 0) Forward(batch);
    for (; block_ > part_blocks_[part]; --block_) BlockBackward(block_ - 1, da_, db_);
    if (part + 1 < parts_.size()) return TakeStatus();
    if (!layers_[0].frozen) StemBackward(da_, db_);
    for (Saved& saved : saved_) saved = Saved();
    da_.reset();
    db_.reset();
    return TakeStatus();
  }

  absl::Status Evaluate(const torch::Tensor& input, float* logits) override {
    torch::NoGradGuard no_grad;
    torch::Tensor x = EvaluateStem(input);
    for (const ResNetBlock& block : shape_.blocks) x = EvaluateBlock(block, x);
    const torch::Tensor features = Pool(x);
    DenseForward(features.data_ptr<float>(), static_cast<uint32_t>(input.size(0)), Dense(),
                 parameters_ + network_.fc_weight, parameters_ + network_.fc_bias, logits);
    return TakeStatus();
  }

 private:
  // What the backward pass needs of a layer's forward pass.
  struct Saved {
    torch::Tensor x;  // The convolution's input.
    torch::Tensor y;  // Its output; the backward pass overwrites it.
    torch::Tensor z;  // After batch norm (and what is added) and ReLU.
  };

  static T* Data(const torch::Tensor& tensor) { return static_cast<T*>(tensor.data_ptr()); }
  static const T* MaybeData(const torch::Tensor& tensor) {
    return tensor.defined() ? Data(tensor) : nullptr;
  }
  uint64_t Rows(const Layer& layer) const { return uint64_t{batch_} * layer.pixels(); }
  uint64_t Elements(const torch::Tensor& map) const {
    return static_cast<uint64_t>(map.numel()) / kGroup;
  }
  DenseShape Dense() const { return {shape_.features, shape_.features, layout_.classes}; }

  void MakeSumMemory() {
    if (sums_batch_ == batch_) return;
    uint64_t most = 0;
    for (const Layer& layer : layers_) {
      most = std::max(most, SumDoubles(Rows(layer), layer.form.out));
    }
    sums_ = NewSumMemory(most);
    shortcut_sums_ = NewSumMemory(most);
    sums_batch_ = batch_;
  }

  torch::Tensor Convolution(size_t k, const torch::Tensor& x) const {
    return Convolve(x, kernels_[k], {}, layers_[k].form.stride);
  }

  torch::Tensor Pool(const torch::Tensor& z) {
    const torch::Tensor features =
        torch::empty({z.size(0), shape_.features}, options_.dtype(torch::kFloat32));
    const Groups groups = GroupsOf(shape_.features);
    Run(AveragePoolMap<T>{Data(z), network_.last_side * network_.last_side, features.data_ptr<float>(), groups},
        Elements(features));
    return features;
  }

  // Evaluation form.

  torch::Tensor EvaluateStem(const torch::Tensor& input) {
    const Layer& stem = layers_[0];
    const torch::Tensor y = Convolution(0, input);
    const Groups groups = GroupsOf(stem.form.out);
    const LinearNorm norm = running_norms_[0].linear();
    if (!shape_.pooled_stem) {
      Run(NormMap<T>{Data(y), norm, nullptr, {}, true, Data(y), groups}, Elements(y));
      return y;
    }
    const torch::Tensor pooled = NewMap(input.size(0), stem.side / 2, stem.form.out);
    Run(NormReluPool3<T>{Data(y), norm, stem.side, stem.side, Data(pooled), nullptr, groups},
        Elements(pooled));
    return pooled;
  }

  torch::Tensor EvaluateBlock(const ResNetBlock& block, const torch::Tensor& x) {
    torch::Tensor y = x;
    const uint32_t last = block.first + block.count - 1;
    for (uint32_t k = block.first; k <= last; ++k) {
      y = Convolution(k, y);
      NormMap<T> map = {Data(y), running_norms_[k].linear(), nullptr, {}, true, Data(y),
                        GroupsOf(layers_[k].form.out)};
      torch::Tensor shortcut = x;
      if (k == last) {
        if (block.downsample) {
          shortcut = Convolution(k + 1, x);
          map.shortcut_norm = running_norms_[k + 1].linear();
        }
        map.shortcut = Data(shortcut);
      }
      Run(map, Elements(y));
    }
    return y;
  }

  // Training form.

  // Up to the gradient at the last block's output.
  void Forward(const TrainBatch& batch) {
    batch_ = static_cast<uint32_t>(batch.input.size(0));
    MakeSumMemory();
    for (const Layer& layer : layers_) {
      if (layer.frozen) Freeze(layer);
    }
    torch::Tensor x = TrainStem(batch.input);
    for (size_t b = 0; b < shape_.blocks.size(); ++b) {
      const ResNetBlock& block = shape_.blocks[b];
      x = b < network_.first_block ? EvaluateBlock(block, x) : TrainBlock(block, x);
    }
    da_ = Head(batch, x);
    db_.reset();
    block_ = shape_.blocks.size();
  }

  // The running statistics again, and no gradient.
  void Freeze(const Layer& layer) {
    for (const auto& [offset, count] :
         {std::pair<uint64_t, uint64_t>{layer.kernel, layer.kernel_count},
          {layer.gamma, layer.form.out},
          {layer.beta, layer.form.out}}) {
      Run(Fill{out_->gradients + offset, 0.0f}, count);
    }
    for (const uint64_t offset : {layer.mean, layer.variance}) {
      Run(Widen{statistics_ + offset, out_->statistics + offset}, layer.form.out);
    }
  }

  // Convolution and the norm of its output.
  Saved& TrainLayer(size_t k, const torch::Tensor& x) {
    const Layer& layer = layers_[k];
    Saved& saved = saved_[k];
    saved.x = x;
    saved.y = Convolution(k, x);
    const FoldedSums moments =
        Sums(MomentTerms<T>{Data(saved.y), layer.form.out, norms_[k].pivot}, Rows(layer),
             layer.form.out, sums_);
    Run(SetBatchNorm{moments, norms_[k], static_cast<double>(Rows(layer)),
                     layout_.batch_norm_epsilon, out_->statistics + layer.mean,
                     out_->statistics + layer.variance},
        layer.form.out);
    return saved;
  }

  void NormOf(size_t k, Saved& saved, const T* shortcut, LinearNorm shortcut_norm) {
    saved.z = torch::empty_like(saved.y);
    Run(NormMap<T>{Data(saved.y), norms_[k].linear(), shortcut, shortcut_norm, true, Data(saved.z),
                   GroupsOf(layers_[k].form.out)},
        Elements(saved.y));
  }

  torch::Tensor TrainStem(const torch::Tensor& input) {
    const Layer& stem = layers_[0];
    if (stem.frozen) return EvaluateStem(input);
    Saved& saved = TrainLayer(0, input);
    if (!shape_.pooled_stem) {
      NormOf(0, saved, nullptr, {});
      return saved.z;
    }
    saved.z = NewMap(batch_, stem.side / 2, stem.form.out);
    chosen_ = New(saved.z.numel(), torch::kUInt8);
    Run(NormReluPool3<T>{Data(saved.y), norms_[0].linear(), stem.side, stem.side, Data(saved.z),
                         chosen_.template data_ptr<uint8_t>(), GroupsOf(stem.form.out)},
        Elements(saved.z));
    return saved.z;
  }

  torch::Tensor TrainBlock(const ResNetBlock& block, const torch::Tensor& x) {
    torch::Tensor z = x;
    const uint32_t last = block.first + block.count - 1;
    for (uint32_t k = block.first; k < last; ++k) {
      Saved& saved = TrainLayer(k, z);
      NormOf(k, saved, nullptr, {});
      z = saved.z;
    }
    Saved& branch = TrainLayer(last, z);
    if (block.downsample) {
      const Saved& shortcut = TrainLayer(last + 1, x);
      NormOf(last, branch, Data(shortcut.y), norms_[last + 1].linear());
    } else {
      NormOf(last, branch, Data(x), {});
    }
    return branch.z;
  }

  // Loss, and the gradient at the last block's output.
  torch::Tensor Head(const TrainBatch& batch, const torch::Tensor& z) {
    const torch::Tensor features = Pool(z);
    const int64_t outputs = int64_t{batch_} * layout_.classes;
    const torch::Tensor logits = New(outputs, torch::kFloat32),
                        dlogits = New(outputs, torch::kFloat32);
    const float* const x = features.data_ptr<float>();
    DenseForward(x, batch_, Dense(), parameters_ + network_.fc_weight, parameters_ + network_.fc_bias,
                 logits.data_ptr<float>());
    Loss(batch, batch_, logits.data_ptr<float>(), dlogits.data_ptr<float>(), *out_);
    Run(DenseWeightGradient<float>{x, dlogits.data_ptr<float>(), batch_, Dense(),
                                   out_->gradients + network_.fc_weight, out_->gradients + network_.fc_bias},
        uint64_t{shape_.features} * layout_.classes + layout_.classes);
    if (network_.first_block == shape_.blocks.size()) return {};
    const torch::Tensor dfeatures = torch::empty_like(features);
    Run(DenseInputGradient<float>{dlogits.data_ptr<float>(), parameters_ + network_.fc_weight, Dense(),
                                  dfeatures.data_ptr<float>()},
        static_cast<uint64_t>(features.numel()));
    const torch::Tensor dz = torch::empty_like(z);
    Run(AveragePoolBackwardMap<T>{dfeatures.data_ptr<float>(), network_.last_side * network_.last_side, Data(dz),
                                  GroupsOf(shape_.features)},
        Elements(dz));
    return dz;
  }

  void SetGradient(size_t k, const FoldedSums& sum, const FoldedSums& product) {
    const Layer& layer = layers_[k];
    Run(SetNormGradient{sum, product, norms_[k], static_cast<double>(Rows(layer)),
                        out_->gradients + layer.gamma, out_->gradients + layer.beta},
        layer.form.out);
  }

  // dy: gradient at the convolution's output. Gives the gradient at its input.
  torch::Tensor ConvolutionBackward(size_t k, const torch::Tensor& dy, bool need_input) {
    const Layer& layer = layers_[k];
    const ConvolutionBack back =
        ConvolveBackward(dy, saved_[k].x, kernels_[k], layer.form.stride, need_input);
    Run(UnpackKernel<T>{Data(back.kernel), layer.form.in, PlacesOf(layer),
                        out_->gradients + layer.kernel},
        uint64_t{layer.form.in} * layer.form.out);
    saved_[k].x.reset();
    saved_[k].y.reset();
    return back.input;
  }

  // Batch norm of layer k: g becomes the gradient at its input, in y's place.
  torch::Tensor NormBackward(size_t k, const torch::Tensor& g, LinearNorm relu_norm) {
    const torch::Tensor& y = saved_[k].y;
    Run(NormBackwardMap<T>{Data(g), Data(y), relu_norm, false, norms_[k].gradient(), Data(y),
                           GroupsOf(layers_[k].form.out)},
        Elements(y));
    return y;
  }

  // da + db (db may be undefined): gradient at the block's output, then at its input.
  void BlockBackward(size_t b, torch::Tensor& da, torch::Tensor& db) {
    const ResNetBlock& block = shape_.blocks[b];
    const uint32_t last = block.first + block.count - 1, channels = layers_[last].form.out;
    const bool need_input = b > network_.first_block || !layers_[0].frozen;
    const FoldedSums sums =
        Sums(JoinTerms<T>{Data(da), MaybeData(db), Data(saved_[last].z), Data(saved_[last].y),
                          norms_[last].mean, Data(da), channels},
             Rows(layers_[last]), channels, sums_);
    SetGradient(last, sums, sums);
    db = da;  // Of an identity: g itself.
    if (block.downsample) {
      const FoldedSums products =
          Sums(NormTerms<T>{Data(da), Data(saved_[last + 1].y), norms_[last + 1].mean, channels},
               Rows(layers_[last + 1]), channels, shortcut_sums_);
      SetGradient(last + 1, sums, products);
    }
    torch::Tensor dz = ConvolutionBackward(last, NormBackward(last, da, {}),
                                           last > block.first || need_input);
    for (uint32_t k = last; k-- > block.first;) {
      const Layer& inner = layers_[k];
      const LinearNorm norm = norms_[k].linear();
      const FoldedSums inner_sums =
          Sums(ReluNormTerms<T>{Data(dz), Data(saved_[k].y), norm, norms_[k].mean, inner.form.out},
               Rows(inner), inner.form.out, sums_);
      SetGradient(k, inner_sums, inner_sums);
      dz = ConvolutionBackward(k, NormBackward(k, dz, norm), k > block.first || need_input);
    }
    if (block.downsample) {
      db = ConvolutionBackward(last + 1, NormBackward(last + 1, db, {}), need_input);
    }
    da = dz;
  }

  void StemBackward(const torch::Tensor& da, const torch::Tensor& db) {
    const Layer& stem = layers_[0];
    const torch::Tensor& y = saved_[0].y;
    const LinearNorm norm = norms_[0].linear();
    const uint32_t channels = stem.form.out;
    torch::Tensor g = da;
    FoldedSums sums;
    if (shape_.pooled_stem) {
      g = torch::empty_like(y);
      sums = Sums(Pool3Terms<T>{Data(da), MaybeData(db), chosen_.template data_ptr<uint8_t>(),
                                Data(y), norm, norms_[0].mean, stem.side, stem.side, Data(g),
                                channels},
                  Rows(stem), channels, sums_);
    } else {
      sums = Sums(JoinTerms<T>{Data(da), MaybeData(db), Data(saved_[0].z), Data(y), norms_[0].mean,
                               Data(g), channels},
                  Rows(stem), channels, sums_);
    }
    SetGradient(0, sums, sums);
    ConvolutionBackward(0, NormBackward(0, g, {}), false);
  }

  const ResNetPlaces network_;
  const ResNetShape& shape_;
  const std::vector<Layer>& layers_;
  std::vector<size_t> part_blocks_;  // Each part's backward pass ends with this block.

  std::vector<torch::Tensor> kernels_;
  std::vector<NormMemory> norms_, running_norms_;
  const float* statistics_ = nullptr;

  // Of the running call.
  uint32_t batch_ = 0, sums_batch_ = 0;
  SumMemory sums_, shortcut_sums_;
  std::vector<Saved> saved_;
  torch::Tensor chosen_;  // By the stem's pool.
  const TrainOutputs* out_ = nullptr;
  size_t block_ = 0;         // Of so many blocks the backward pass is still due.
  torch::Tensor da_, db_;    // Gradient at the output of the last of them: their sum.
};

}  // namespace

std::unique_ptr<GpuNetwork> MakeGpuResNet(Device& device, const ModelLayout& layout, bool bf16,
                                          const Loss& loss) {
  if (bf16) return std::make_unique<GpuResNet<Bf16>>(device, layout, loss);
  return std::make_unique<GpuResNet<float>>(device, layout, loss);
}

}  // namespace dermis
