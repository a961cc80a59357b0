#include "worker/plan/resnet_plan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "oneapi/dnnl/dnnl.hpp"
#include "worker/plan/aligned.h"
#include "worker/plan/onednn_support.h"
#include "worker/plan/winograd.h"

namespace dermis {
namespace {

using dnnl::memory;

constexpr uint32_t kMaxBatch = 64;

// A folded layer: y = relu?(weight * x + bias (+ shortcut)).
struct Folded {
  ResNetLayer form;
  std::vector<float> weight;  // [out][in][kernel][kernel], scaled; empty with `winograd`.
  memory bias;
  std::optional<WinogradConvolution> winograd;  // Where it computes this layer.
};

// The network for one number of images.
struct Network {
  std::vector<PlanStep> steps;
  memory input;  // The first chunk's input, moved by set_data_handle.
  memory last;   // The last block's output, NHWC.
};

class ResNetPlan final : public InferencePlan {
 public:
  ResNetPlan(const ResNetWeights& weights, v1::Precision precision)
      : kind_(weights.kind),
        shape_(weights.shape),
        size_(weights.size),
        classes_(weights.classes),
        fc_weight_(weights.fc_weight),
        fc_bias_(weights.fc_bias),
        bf16_(precision == v1::PRECISION_BF16),
        engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        input_(size_t{kMaxBatch} * size_ * size_ * 3) {
    const ComputeScope scope;
    for (const ResNetPlanLayer& layer : weights.layers) Fold(layer);
  }

  absl::Status Prepare() {
    const ComputeScope scope;
    if (bf16_) {
      native_bf16_ = true;
      // Asked of the library itself, not of the CPU's flags: it decides what it supports.
      try {
        BuildNetwork(1);
      } catch (const dnnl::error&) {
        native_bf16_ = false;
      }
      packed_.clear();
      RoundToBf16(absl::MakeSpan(fc_weight_));
      if (!native_bf16_) {
        for (Folded& layer : layers_) RoundToBf16(absl::MakeSpan(layer.weight));
      }
    }
    try {
      NetworkFor(Chunk());
    } catch (const dnnl::error& error) {
      return absl::InternalError(absl::StrCat("oneDNN cannot build the inference plan of ",
                                              ModelName(kind_), ": ", error.what(), " (status ",
                                              error.status, ")"));
    }
    return absl::OkStatus();
  }

  uint32_t classes() const override { return classes_; }
  uint32_t size() const override { return size_; }
  uint32_t max_batch() const override { return kMaxBatch; }
  float* input() override { return input_.data(); }

  absl::Status Run(uint32_t count, float* logits) override {
    return RunInChunks(count, kMaxBatch, Chunk(), [&](uint32_t first, uint32_t chunk) {
      RunChunk(first, chunk, logits);
    });
  }

 private:
  // Maps that a block reads and writes: its input, its shortcut, and what lies between.
  enum Slot { kX, kShortcut, kInner1, kInner2, kConverted, kSlots };

  bool emulated_bf16() const { return bf16_ && !native_bf16_; }
  memory::data_type type() const {
    return bf16_ && native_bf16_ ? memory::data_type::bf16 : memory::data_type::f32;
  }

  // Images that go through the network together. Winograd's weights are four times as large: they
  // are read for more images at once, where maps are not too large for that.
  uint32_t Chunk() const { return size_ <= 64 || (UsesWinograd() && StageSide() <= 64) ? 16 : 4; }

  // Of the first stage's maps.
  uint32_t StageSide() const { return shape_.pooled_stem ? size_ / 4 : size_; }

  // bf16 stays direct: where the processor has it that is faster, and its emulation follows it.
  // oneDNN is asked, too: its bits go by the instructions that it may use.
  bool UsesWinograd() const {
    constexpr auto kIsa = static_cast<int>(dnnl::cpu_isa::avx512_core);
    return !bf16_ && WinogradConvolution::Supported() &&
           (static_cast<int>(dnnl::get_effective_cpu_isa()) & kIsa) == kIsa;
  }

  void Fold(const ResNetPlanLayer& layer) {
    Folded folded = {layer.form, layer.weight, {}, std::nullopt};
    const size_t length = layer.weight.size() / layer.form.out;
    for (size_t o = 0; o < layer.form.out; ++o) {
      for (size_t i = o * length; i < (o + 1) * length; ++i) {
        folded.weight[i] = static_cast<float>(layer.weight[i] * layer.scale[o]);
      }
    }
    folded.bias =
        memory({{layer.form.out}, memory::data_type::f32, memory::format_tag::x}, engine_);
    auto* const bias = static_cast<float*>(folded.bias.get_data_handle());
    for (size_t o = 0; o < layer.form.out; ++o) bias[o] = static_cast<float>(layer.shift[o]);
    if (layer.form.kernel == 3 && layer.form.stride == 1 && UsesWinograd() &&
        WinogradConvolution::Takes(layer.form.in, layer.form.out)) {
      folded.winograd.emplace(layer.form.in, layer.form.out, folded.weight,
                              std::vector<float>(bias, bias + layer.form.out));
      folded.weight = {};
    }
    layers_.push_back(std::move(folded));
  }

  void RunChunk(uint32_t first, uint32_t chunk, float* logits) {
    Network& network = NetworkFor(chunk);
    float* const source = input_.data() + size_t{first} * size_ * size_ * 3;
    if (emulated_bf16()) RoundToBf16({source, size_t{chunk} * size_ * size_ * 3});
    network.input.set_data_handle(source);
    for (PlanStep& step : network.steps) {
      step.run(stream_);
      if (emulated_bf16() && step.output) {
        stream_.wait();
        auto* values = static_cast<float*>(step.output.get_data_handle());
        RoundToBf16({values, step.output.get_desc().get_size() / sizeof(float)});
      }
    }
    stream_.wait();
    const memory::dims dims = network.last.get_desc().dims();
    const size_t channels = static_cast<size_t>(dims[1]);
    const size_t pixels = static_cast<size_t>(dims[2] * dims[3]);
    const void* const data = network.last.get_data_handle();
    std::vector<float> mean(channels);
    for (uint32_t b = 0; b < chunk; ++b) {
      const size_t at = b * pixels * channels;
      if (type() == memory::data_type::bf16) {
        Average(static_cast<const uint16_t*>(data) + at, pixels, mean);
      } else {
        Average(static_cast<const float*>(data) + at, pixels, mean);
      }
      for (uint32_t k = 0; k < classes_; ++k) {
        logits[size_t{first + b} * classes_ + k] =
            fc_bias_[k] + Dot(mean.data(), fc_weight_.data() + k * channels, channels);
      }
    }
  }

  static float ToFloat(float v) { return v; }
  static float ToFloat(uint16_t bf16) { return std::bit_cast<float>(uint32_t{bf16} << 16); }

  template <typename T>
  static void Average(const T* map, size_t pixels, std::vector<float>& mean) {
    std::fill(mean.begin(), mean.end(), 0.0f);
    for (size_t p = 0; p < pixels; ++p, map += mean.size()) {
      for (size_t c = 0; c < mean.size(); ++c) mean[c] += ToFloat(map[c]);
    }
    for (float& v : mean) v /= static_cast<float>(pixels);
  }

  Network& NetworkFor(uint32_t batch) {
    auto it = networks_.find(batch);
    if (it == networks_.end()) it = networks_.emplace(batch, BuildNetwork(batch)).first;
    return it->second;
  }

  // Floats of an image's largest map in a slot: the input, a stem's output before it is pooled, or,
  // in a bottleneck, the first stage's output.
  size_t LargestIn(Slot slot) const {
    if (slot == kConverted) return size_t{size_} * size_ * 3;
    const size_t widest = size_t{StageSide()} * StageSide() * (shape_.features / 8);
    if (slot != kInner1 || !shape_.pooled_stem) return widest;
    return std::max(widest, size_t{size_ / 2} * (size_ / 2) * 64);
  }

  // Slots are shared by networks of all batch sizes: only one runs at a time. Memories of an
  // earlier, smaller network would dangle if a slot moved: slots are as large as the largest chunk
  // needs from the beginning.
  memory Slotted(Slot slot, const memory::desc& desc) {
    std::vector<char>& bytes = slots_[slot];
    if (bytes.empty()) bytes.assign(Chunk() * LargestIn(slot) * sizeof(float) + kCacheLine, 0);
    return memory(desc, engine_, AlignedIn(bytes));
  }

  // Weights in the layout that the primitive wants; usually one for all batch sizes.
  memory PackedWeights(size_t index, const memory::desc& desc) {
    for (auto& [packed_index, packed] : packed_) {
      if (packed_index == index && packed.get_desc() == desc) return packed;
    }
    Folded& layer = layers_[index];
    const memory::dims dims = {layer.form.out, layer.form.in, layer.form.kernel, layer.form.kernel};
    memory plain({dims, memory::data_type::f32, memory::format_tag::oihw}, engine_,
                 layer.weight.data());
    memory packed(desc, engine_);
    dnnl::reorder(plain, packed).execute(stream_, plain, packed);
    stream_.wait();
    packed_.emplace_back(index, packed);
    return packed;
  }

  // Appends layer `index` on `x`, into `slot`; with `add`, onto what lies there.
  memory Convolve(Network& network, size_t index, const memory& x, Slot slot, bool add, bool relu) {
    const Folded& layer = layers_[index];
    const memory::dims in = x.get_desc().dims();
    const int64_t kernel = layer.form.kernel, stride = layer.form.stride, padding = kernel / 2;
    const int64_t out = layer.form.out;
    const memory::desc output({in[0], out, in[2] / stride, in[3] / stride}, type(), kNhwc);
    const memory y = Slotted(slot, output);
    if (layer.winograd.has_value()) {
      network.steps.push_back(
          {[this, &winograd = *layer.winograd, images = static_cast<size_t>(in[0]),
            side = static_cast<size_t>(in[2]), from = static_cast<const float*>(x.get_data_handle()),
            to = static_cast<float*>(y.get_data_handle()), add, relu](dnnl::stream& stream) {
             stream.wait();
             winograd.Run(images, side, from, add, relu, to, scratch_);
           },
           y});
      return y;
    }
    dnnl::post_ops post_ops;
    if (add) post_ops.append_sum(1.f);
    if (relu) post_ops.append_eltwise(1.f, dnnl::algorithm::eltwise_relu, 0.f, 0.f);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(post_ops);
    // Over the border to the right and below only as far as the output reaches.
    const int64_t after = (in[2] / stride - 1) * stride + kernel - padding - in[2];
    const dnnl::convolution_forward::desc convolution(
        dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, x.get_desc(),
        memory::desc({out, in[1], kernel, kernel}, type(), kAny), layer.bias.get_desc(), output,
        {stride, stride}, {padding, padding}, {after, after});
    const dnnl::convolution_forward::primitive_desc chosen(convolution, attributes, engine_);
    network.steps.push_back(
        PrimitiveStep(dnnl::convolution_forward(chosen),
                      {{DNNL_ARG_SRC, x},
                       {DNNL_ARG_WEIGHTS, PackedWeights(index, chosen.weights_desc())},
                       {DNNL_ARG_BIAS, layer.bias},
                       {DNNL_ARG_DST, y}},
                      y));
    return y;
  }

  memory PoolStem(Network& network, const memory& x, Slot slot) {
    const memory::dims in = x.get_desc().dims();
    const memory y = Slotted(slot, {{in[0], in[1], in[2] / 2, in[3] / 2}, type(), kNhwc});
    network.steps.push_back(MaxPoolStep(PoolWindow::kThree, x, y));
    return y;
  }

  Network BuildNetwork(uint32_t batch) {
    Network network;
    const int64_t n = batch, side = size_;
    network.input =
        memory({{n, 3, side, side}, memory::data_type::f32, kNhwc}, engine_, input_.data());
    memory x = network.input;
    if (type() != memory::data_type::f32) {
      memory converted = Slotted(kConverted, {{n, 3, side, side}, type(), kNhwc});
      network.steps.push_back(PrimitiveStep(
          dnnl::reorder(x, converted), {{DNNL_ARG_FROM, x}, {DNNL_ARG_TO, converted}}, converted));
      x = converted;
    }
    Slot at = kX, other = kShortcut;
    if (shape_.pooled_stem) {
      x = PoolStem(network, Convolve(network, 0, x, kInner1, false, true), at);
    } else {
      x = Convolve(network, 0, x, at, false, true);
    }
    for (const ResNetBlock& block : shape_.blocks) {
      if (block.downsample) Convolve(network, block.first + block.count, x, other, false, false);
      memory inner = x;
      for (uint32_t k = 0; k + 1 < block.count; ++k) {
        inner = Convolve(network, block.first + k, inner, k == 0 ? kInner1 : kInner2, false, true);
      }
      // Onto the shortcut: the block's own input where nothing else needs it any more.
      if (block.downsample) std::swap(at, other);
      x = Convolve(network, block.first + block.count - 1, inner, at, true, true);
    }
    network.last = x;
    return network;
  }

  const v1::ModelKind kind_;
  const ResNetShape shape_;
  const uint32_t size_, classes_;
  std::vector<float> fc_weight_, fc_bias_;
  const bool bf16_;
  bool native_bf16_ = false;
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::vector<float> input_;
  std::vector<Folded> layers_;
  std::array<std::vector<char>, kSlots> slots_;
  std::vector<float> scratch_;                     // Winograd's.
  std::vector<std::pair<size_t, memory>> packed_;  // (layer, its weights in some layout)
  std::map<uint32_t, Network> networks_;           // By number of images.
};

}  // namespace

absl::StatusOr<std::unique_ptr<InferencePlan>> MakeResNetPlan(const ResNetWeights& weights,
                                                              v1::Precision precision) {
  return MakePrepared<ResNetPlan>(weights, precision);
}

}  // namespace dermis
