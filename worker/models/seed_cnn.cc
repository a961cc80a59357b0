#include "worker/models/seed_cnn.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "worker/models/ops.h"

namespace dermis {
namespace {

torch::Tensor ViewOf(const ParameterSpec& spec, const std::vector<float>& values) {
  // from_blob wants a mutable pointer; nothing writes through it.
  return torch::from_blob(const_cast<float*>(values.data()) + spec.offset, spec.shape,
                          torch::kFloat32);
}

torch::Tensor Channels(const torch::Tensor& t) { return t.view({1, -1, 1, 1}); }

torch::Tensor RoundToBf16(const torch::Tensor& t) {
  return t.to(torch::kBFloat16).to(torch::kFloat32);
}

SeedCnnGraph Evaluate(const Model& model, const torch::Tensor& input, bool bf16) {
  auto parameter = [&](const std::string& name) {
    return ViewOf(model.layout.parameter(name), model.parameters);
  };
  auto statistic = [&](const std::string& name) {
    return ViewOf(model.layout.statistic(name), model.statistics);
  };
  SeedCnnGraph graph;
  torch::Tensor x = input;
  for (int k = 1; k <= kSeedCnnConvolutions; ++k) {
    const std::string conv = absl::StrCat("conv", k), bn = absl::StrCat("bn", k);
    torch::Tensor weight = parameter(conv + ".weight");
    if (bf16) {
      x = RoundToBf16(x);
      weight = RoundToBf16(weight);
    }
    torch::Tensor a =
        Activate(Activation::kElu, torch::conv2d(x, weight, parameter(conv + ".bias"), 1, 1));
    graph.taps.push_back(a);
    const torch::Tensor scale =
        parameter(bn + ".weight") / torch::sqrt(statistic(bn + ".running_var") + kBatchNormEpsilon);
    const torch::Tensor shift = parameter(bn + ".bias") - statistic(bn + ".running_mean") * scale;
    x = a * Channels(scale) + Channels(shift);
    if (k % 2 == 0) x = MaxPool({}, x);
  }
  graph.pooled = x;
  graph.logits =
      torch::linear(x.contiguous().flatten(1), parameter("dense.weight"), parameter("dense.bias"));
  return graph;
}

}  // namespace

SeedCnnGraph SeedCnnForward(const Model& model, const torch::Tensor& input) {
  return Evaluate(model, input, false);
}

SeedCnnGraph SeedCnnForwardTraining(const ModelLayout& layout, const torch::Tensor& parameters,
                                    const torch::Tensor& input,
                                    const std::vector<torch::Tensor>& masks) {
  auto parameter = [&](const std::string& name) {
    const ParameterSpec& spec = layout.parameter(name);
    return parameters.slice(0, spec.offset, spec.offset + spec.count).view(spec.shape);
  };
  SeedCnnGraph graph;
  torch::Tensor x = input;
  for (int k = 1; k <= kSeedCnnConvolutions; ++k) {
    const std::string conv = absl::StrCat("conv", k), bn = absl::StrCat("bn", k);
    torch::Tensor a =
        torch::elu(torch::conv2d(x, parameter(conv + ".weight"), parameter(conv + ".bias"), 1, 1));
    graph.taps.push_back(a);
    const torch::Tensor mean = a.mean({0, 2, 3}, true);
    const torch::Tensor variance = (a - mean).square().mean({0, 2, 3}, true);
    x = (a - mean) / torch::sqrt(variance + kBatchNormEpsilon) *
            Channels(parameter(bn + ".weight")) +
        Channels(parameter(bn + ".bias"));
    if (k % 2 == 0) {
      x = torch::max_pool2d(x, 2);
      if (!masks.empty()) x = x * masks[k / 2 - 1];
    }
  }
  graph.logits =
      torch::linear(x.contiguous().flatten(1), parameter("dense.weight"), parameter("dense.bias"));
  return graph;
}

std::vector<float> SeedCnnLogits(const Model& model, const float* input, uint32_t count,
                                 v1::Precision precision) {
  torch::NoGradGuard no_grad;
  at::set_num_threads(1);
  const int64_t size = model.layout.size;
  std::vector<float> logits;
  logits.reserve(size_t{count} * model.layout.classes);
  for (uint32_t first = 0; first < count; first += 64) {
    const int64_t n = std::min<uint32_t>(64, count - first);
    torch::Tensor x = torch::from_blob(const_cast<float*>(input) + first * size * size * 3,
                                       {n, size, size, 3}, torch::kFloat32)
                          .permute({0, 3, 1, 2});
    const torch::Tensor y = Evaluate(model, x, precision == v1::PRECISION_BF16).logits.contiguous();
    logits.insert(logits.end(), y.data_ptr<float>(), y.data_ptr<float>() + y.numel());
  }
  return logits;
}

}  // namespace dermis
