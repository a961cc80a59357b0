#include "worker/plan/onednn_plan.h"

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

#include "oneapi/dnnl/dnnl.hpp"
#include "worker/plan/aligned.h"
#include "worker/plan/onednn_support.h"
#include "worker/plan/split_input.h"

namespace dermis {
namespace {

using dnnl::memory;

constexpr uint32_t kMaxBatch = 64;
// Images that go through the network together: small, so that activations stay in the cache.
constexpr uint32_t kChunk = 16;

// The network for one number of images. Memories are shared by steps only where they are chained.
struct Network {
  std::vector<PlanStep> steps;
  memory input;  // The first chunk's input, moved by set_data_handle; or, in bf16, where it is
                 // split to.
  memory last;   // fp32 NHWC, cells x cells x 128.
};

class OnednnPlan final : public InferencePlan {
 public:
  OnednnPlan(const SeedCnnWeights& weights, v1::Precision precision)
      : weights_(weights),
        bf16_(precision == v1::PRECISION_BF16),
        engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        split_weight_(bf16_ ? SplitWeights(weights_.layers[0].weight, weights_.layers[0].out)
                            : std::vector<float>()),
        input_(size_t{kMaxBatch} * size() * size() * 3) {}

  absl::Status Prepare() {
    const ComputeScope scope;
    if (bf16_) {
      native_bf16_ = true;
      // Asked of the library itself, not of the CPU's flags: it decides what it supports.
      try {
        BuildNetwork(kChunk);
      } catch (const dnnl::error&) {
        native_bf16_ = false;
      }
      packed_.clear();
      if (!native_bf16_) {
        for (size_t i = 1; i < weights_.layers.size(); ++i) {
          RoundToBf16(absl::MakeSpan(weights_.layers[i].weight));
        }
      }
    }
    // The dense layer reads channel, y, x; the last map lies y, x, channel.
    const size_t cells = size_t{weights_.cells} * weights_.cells, channels = 128;
    dense_.resize(weights_.dense_weight.size());
    for (size_t k = 0; k < weights_.classes; ++k) {
      for (size_t c = 0; c < channels; ++c) {
        for (size_t p = 0; p < cells; ++p) {
          dense_[(k * cells + p) * channels + c] =
              weights_.dense_weight[(k * channels + c) * cells + p];
        }
      }
    }
    try {
      NetworkFor(kChunk);
    } catch (const dnnl::error& error) {
      return absl::InternalError(
          absl::StrCat("oneDNN cannot build the inference plan of seed_cnn: ", error.what(),
                       " (status ", error.status, ")"));
    }
    return absl::OkStatus();
  }

  uint32_t classes() const override { return weights_.classes; }
  uint32_t size() const override { return weights_.cells * 8; }
  uint32_t max_batch() const override { return kMaxBatch; }
  float* input() override { return input_.data(); }

  absl::Status Run(uint32_t count, float* logits) override {
    return RunInChunks(count, kMaxBatch, kChunk, [&](uint32_t first, uint32_t chunk) {
      RunChunk(first, chunk, logits);
    });
  }

 private:
  bool emulated_bf16() const { return bf16_ && !native_bf16_; }
  memory::data_type activation_type() const {
    return bf16_ && native_bf16_ ? memory::data_type::bf16 : memory::data_type::f32;
  }

  void RunChunk(uint32_t first, uint32_t chunk, float* logits) {
    Network& network = NetworkFor(chunk);
    const size_t pixels = size_t{size()} * size();
    float* const source = input_.data() + first * pixels * 3;
    if (activation_type() == memory::data_type::f32) {
      network.input.set_data_handle(source);
    } else {
      SplitInput(source, chunk * pixels, static_cast<uint16_t*>(network.input.get_data_handle()));
    }
    for (PlanStep& step : network.steps) {
      step.run(stream_);
      if (emulated_bf16() && step.output) {
        stream_.wait();
        auto* values = static_cast<float*>(step.output.get_data_handle());
        RoundToBf16({values, step.output.get_desc().get_size() / sizeof(float)});
      }
    }
    stream_.wait();
    const auto* features = static_cast<const float*>(network.last.get_data_handle());
    const size_t length = dense_.size() / weights_.classes;
    for (uint32_t b = 0; b < chunk; ++b) {
      for (uint32_t k = 0; k < weights_.classes; ++k) {
        logits[size_t{first + b} * weights_.classes + k] =
            weights_.dense_bias[k] + Dot(features + b * length, dense_.data() + k * length, length);
      }
    }
  }

  Network& NetworkFor(uint32_t batch) {
    auto it = networks_.find(batch);
    if (it == networks_.end()) it = networks_.emplace(batch, BuildNetwork(batch)).first;
    return it->second;
  }

  // Buffers are shared by networks of all batch sizes: only one runs at a time.
  memory Buffer(size_t index, const memory::desc& desc) {
    std::vector<char>& buffer = buffers_[index];
    const size_t bytes = std::max(desc.get_size(), size_t{64});
    if (buffer.size() < bytes + kCacheLine) buffer.assign(bytes + kCacheLine, 0);
    return memory(desc, engine_, AlignedIn(buffer));
  }

  memory Vector(const std::vector<float>& values, const memory::dims& dims) {
    const memory::desc desc(dims, memory::data_type::f32,
                            dims.size() == 1 ? memory::format_tag::x : kNhwc);
    memory result(desc, engine_);
    std::memcpy(result.get_data_handle(), values.data(), values.size() * sizeof(float));
    return result;
  }

  void Reorder(memory from, memory to) {
    dnnl::reorder(from, to).execute(stream_, from, to);
    stream_.wait();
  }

  // Weights in the layout that the primitive wants; usually one for all batch sizes.
  memory PackedWeights(size_t layer_index, const memory::desc& desc) {
    for (auto& [packed_layer, packed] : packed_) {
      if (packed_layer == layer_index && packed.get_desc() == desc) return packed;
    }
    SeedCnnLayer& layer = weights_.layers[layer_index];
    const bool split = desc.dims()[1] != layer.in;
    memory plain({desc.dims(), memory::data_type::f32, memory::format_tag::oihw}, engine_,
                 (split ? split_weight_ : layer.weight).data());
    memory packed(desc, engine_);
    Reorder(plain, packed);
    packed_.emplace_back(layer_index, packed);
    return packed;
  }

  Network BuildNetwork(uint32_t batch) {
    Network network;
    const auto type = activation_type();
    int64_t side = size();
    const int64_t n = batch;
    size_t buffer = 0;
    network.input = type == memory::data_type::f32
                        ? memory({{n, 3, side, side}, type, kNhwc}, engine_, input_.data())
                        : Buffer(buffer++, {{n, kSplitChannels, side, side}, type, kNhwc});
    memory current = network.input;
    for (size_t i = 0; i < weights_.layers.size(); ++i) {
      const SeedCnnLayer& layer = weights_.layers[i];
      const int64_t out = layer.out, in = current.get_desc().dims()[1];
      // What the dense layer reads stays in fp32.
      const bool last = i + 1 == weights_.layers.size();
      const auto output_type = last ? memory::data_type::f32 : type;
      const memory::desc output_desc({n, out, side, side}, output_type, kNhwc);
      const memory scale = Vector(layer.scale, {1, out, 1, 1});
      const memory shift = Vector(layer.shift, {1, out, 1, 1});
      const memory bias = Vector(layer.bias, {out});
      dnnl::post_ops post_ops;
      post_ops.append_eltwise(1.f, dnnl::algorithm::eltwise_elu, 1.f, 0.f);
      post_ops.append_binary(dnnl::algorithm::binary_mul, scale.get_desc());
      post_ops.append_binary(dnnl::algorithm::binary_add, shift.get_desc());
      dnnl::primitive_attr attributes;
      attributes.set_post_ops(post_ops);
      const dnnl::convolution_forward::desc convolution(
          dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
          current.get_desc(), memory::desc({out, in, 3, 3}, type, kAny), bias.get_desc(),
          output_desc, {1, 1}, {1, 1}, {1, 1});
      const dnnl::convolution_forward::primitive_desc chosen(convolution, attributes, engine_);
      const memory output = Buffer(buffer++, output_desc);
      network.steps.push_back(
          PrimitiveStep(dnnl::convolution_forward(chosen),
                        {{DNNL_ARG_SRC, current},
                         {DNNL_ARG_WEIGHTS, PackedWeights(i, chosen.weights_desc())},
                         {DNNL_ARG_BIAS, bias},
                         {DNNL_ARG_DST, output},
                         {DNNL_ARG_ATTR_MULTIPLE_POST_OP(1) | DNNL_ARG_SRC_1, scale},
                         {DNNL_ARG_ATTR_MULTIPLE_POST_OP(2) | DNNL_ARG_SRC_1, shift}},
                        last ? memory() : output));
      current = output;
      if (i % 2 == 0) continue;
      side /= 2;
      const memory pooled =
          Buffer(buffer++, memory::desc({n, out, side, side}, output_type, kNhwc));
      network.steps.push_back(MaxPoolStep(PoolWindow::kTwo, current, pooled));
      current = pooled;
    }
    network.last = current;
    return network;
  }

  SeedCnnWeights weights_;
  const bool bf16_;
  bool native_bf16_ = false;
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::vector<float> split_weight_;  // Of the first layer, for bf16.
  std::vector<float> input_;
  std::vector<float> dense_;  // [classes][y][x][channel]
  std::map<size_t, std::vector<char>> buffers_;
  std::vector<std::pair<size_t, memory>> packed_;  // (layer, its weights in some layout)
  std::map<uint32_t, Network> networks_;           // By number of images.
};

}  // namespace

absl::StatusOr<std::unique_ptr<InferencePlan>> MakeOnednnPlan(const SeedCnnWeights& weights,
                                                              v1::Precision precision) {
  return MakePrepared<OnednnPlan>(weights, precision);
}

std::string InferenceNumerics() {
  const dnnl_version_t* version = dnnl_version();
  return absl::StrCat("onednn-", version->major, ".", version->minor, ".", version->patch, "/isa-",
                      static_cast<int>(dnnl::get_effective_cpu_isa()));
}

}  // namespace dermis
