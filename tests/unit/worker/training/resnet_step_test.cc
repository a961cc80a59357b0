// The hand-written pass against LibTorch's autograd of the plain graph.
#include "worker/training/resnet_step.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include <torch/nn/functional/loss.h>
#include <torch/autograd.h>
#include <torch/types.h>
#include <torch/utils.h>

#include "common/philox.h"
#include "worker/models/init.h"
#include "worker/models/resnet_graph.h"
#include "worker/training/resnet_kernels.h"
#include "worker/training/tensor_cache.h"

namespace dermis {
namespace {

constexpr uint32_t kBatch = 4, kClasses = 3;

Model RandomModel(v1::ModelKind kind, v1::Stem stem) {
  Model model;
  model.layout = *LayoutOf(kind, stem == v1::STEM_SMALL ? 16 : 64, kClasses, stem);
  InitializeModel(11, model);
  // Batch norms scale by about .4 and shift by about +-1: most channels lie on one side of ReLU's
  // kink, some pixels on the other, and few so near to it that rounding decides.
  for (const ParameterSpec& spec : model.layout.parameters) {
    if (spec.draw != Draw::kConstant) continue;
    for (uint64_t i = 0; i < spec.count; ++i) {
      const auto words = PhiloxBlock(12, Purpose::kTest, spec.offset, 0, static_cast<uint32_t>(i));
      const float u = ToUnitFloat(words[0]);
      const bool scale = absl::EndsWith(spec.name, ".weight");
      model.parameters[spec.offset + i] =
          scale ? 0.3f + 0.2f * u : (words[1] % 2 == 0 ? 1.0f : -1.0f) * (0.9f + 0.5f * u);
    }
  }
  for (size_t i = 0; i < model.statistics.size(); ++i) {
    model.statistics[i] +=
        0.2f * ToUnitFloat(PhiloxBlock(13, Purpose::kTest, 0, 0, static_cast<uint32_t>(i))[0]);
  }
  return model;
}

struct Outcome {
  PassResult result;
  std::vector<float> gradients;
  std::vector<double> statistics;
  std::vector<float> logits;  // Evaluation form, of all but one image.
};

void FillInput(const ModelLayout& layout, float* input) {
  for (size_t i = 0; i < size_t{kBatch} * layout.size * layout.size * 3; ++i) {
    input[i] =
        4 * ToUnitFloat(PhiloxBlock(14, Purpose::kTest, 0, 0, static_cast<uint32_t>(i))[0]) - 2;
  }
}

const std::vector<uint32_t> kLabels = {0, 1, 2, 1};

Outcome RunPass(const Model& model, v1::Precision precision, TrainingPass& pass) {
  at::set_num_threads(1);  // As in the trainer.
  const auto weights = MakeStepWeights(model.layout, precision);
  weights->Update(model.parameters.data(), model.statistics.data());
  FillInput(model.layout, pass.input());
  Outcome outcome;
  outcome.gradients.assign(model.layout.parameter_count, -7);
  outcome.statistics.assign(model.layout.statistic_count, -7);
  outcome.result = pass.Train(*weights, kLabels, false, 1.0f / kBatch, outcome.gradients.data(),
                              outcome.statistics.data());
  outcome.logits.resize((kBatch - 1) * kClasses);
  pass.Evaluate(*weights, model.statistics.data(), absl::MakeSpan(kLabels).subspan(0, kBatch - 1),
                outcome.logits.data());
  return outcome;
}

Outcome RunPass(const Model& model, v1::Precision precision) {
  return RunPass(model, precision, *MakeTrainingPass(model.layout, kBatch, precision));
}

// In double: what remains is the pass's own rounding.
struct Expected {
  double loss = 0;
  torch::Tensor gradient, logits;  // double, contiguous.
};

Expected ByAutograd(const Model& model) {
  const int64_t size = model.layout.size;
  torch::Tensor flat = torch::from_blob(const_cast<float*>(model.parameters.data()),
                                        {static_cast<int64_t>(model.parameters.size())})
                           .to(torch::kDouble)
                           .requires_grad_(true);
  const torch::Tensor statistics = torch::from_blob(const_cast<float*>(model.statistics.data()),
                                                    {static_cast<int64_t>(model.statistics.size())})
                                       .to(torch::kDouble);
  torch::Tensor input = torch::empty({kBatch, size, size, 3});
  FillInput(model.layout, input.data_ptr<float>());
  const torch::Tensor nchw = input.permute({0, 3, 1, 2}).contiguous();
  torch::Tensor target = torch::empty({kBatch}, torch::kLong);
  for (uint32_t i = 0; i < kBatch; ++i) target.data_ptr<int64_t>()[i] = kLabels[i];
  const ResNetGraph graph =
      ResNetForwardTraining(model.layout, flat, statistics, nchw.to(torch::kDouble));
  const torch::Tensor loss = torch::nn::functional::cross_entropy(graph.logits, target);
  Expected expected;
  expected.loss = loss.item<double>();
  expected.gradient = torch::autograd::grad({loss}, {flat})[0].contiguous();
  torch::NoGradGuard no_grad;
  expected.logits = ResNetForward(model, nchw).logits.to(torch::kDouble).contiguous();
  return expected;
}

// floor: below it a norm is rounding (the shift of a batch norm that another follows has hardly any
// gradient).
double RelativeError(const float* a, const double* b, uint64_t n, double floor) {
  double difference = 0, norm = floor * floor;
  for (uint64_t i = 0; i < n; ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(b[i], 2);
  }
  return std::sqrt(difference / norm);
}

// Of each tensor of the gradient, against itself or a thousandth of the whole.
void ExpectGradient(const ModelLayout& layout, const std::vector<float>& gradient,
                    const torch::Tensor& expected) {
  const double floor = 1e-3 * expected.norm().item<double>();
  for (const ParameterSpec& spec : layout.parameters) {
    if (spec.frozen) continue;
    EXPECT_LT(RelativeError(gradient.data() + spec.offset,
                            expected.data_ptr<double>() + spec.offset, spec.count, floor),
              5e-3)
        << spec.name;
  }
}

class ResNetStepTest : public testing::TestWithParam<std::tuple<v1::ModelKind, v1::Stem>> {
 protected:
  Model model_ = RandomModel(std::get<0>(GetParam()), std::get<1>(GetParam()));
};

TEST_P(ResNetStepTest, LossGradientsAndEvaluation_AreAutograds) {
  const Outcome outcome = RunPass(model_, v1::PRECISION_FP32);
  const Expected expected = ByAutograd(model_);
  EXPECT_NEAR(outcome.result.loss / kBatch, expected.loss, 1e-5 * expected.loss);
  ExpectGradient(model_.layout, outcome.gradients, expected.gradient);
  EXPECT_LT(RelativeError(outcome.logits.data(), expected.logits.data_ptr<double>(),
                          outcome.logits.size(), 0),
            1e-5);
}

TEST_P(ResNetStepTest, Bf16Gradients_PointTheSameWay) {
  const Outcome outcome = RunPass(model_, v1::PRECISION_BF16);
  const Expected expected = ByAutograd(model_);
  EXPECT_NEAR(outcome.result.loss / kBatch, expected.loss, 0.1 * expected.loss);
  double dot = 0, a = 0, b = 0;
  for (size_t i = 0; i < outcome.gradients.size(); ++i) {
    const double x = outcome.gradients[i], y = expected.gradient.data_ptr<double>()[i];
    dot += x * y;
    a += x * x;
    b += y * y;
  }
  EXPECT_GT(dot / std::sqrt(a * b), 0.95);
}

TEST_P(ResNetStepTest, Bits_AreTheSameAgain_InTheSameAndInAnotherPass) {
  for (const v1::Precision precision : {v1::PRECISION_FP32, v1::PRECISION_BF16}) {
    const auto pass = MakeTrainingPass(model_.layout, kBatch, precision);
    const Outcome first = RunPass(model_, precision, *pass);
    for (const Outcome& again : {RunPass(model_, precision, *pass), RunPass(model_, precision)}) {
      EXPECT_EQ(again.gradients, first.gradients);
      EXPECT_EQ(again.statistics, first.statistics);
      EXPECT_EQ(again.logits, first.logits);
      EXPECT_EQ(again.result.loss, first.result.loss);
    }
  }
}

TEST_P(ResNetStepTest, FrozenLayers_RunInEvaluationFormAndHaveNoGradient) {
  if (model_.layout.kind == v1::MODEL_KIND_RESNET50) return;  // Slow, and the rule is the same.
  for (const std::string prefix : {"layer3", "layer1", "fc"}) {
    SCOPED_TRACE(prefix);
    Model model = model_;
    ASSERT_TRUE(FreezeBefore(prefix, model.layout).ok());
    const Outcome outcome = RunPass(model, v1::PRECISION_FP32);
    const Expected expected = ByAutograd(model);
    EXPECT_NEAR(outcome.result.loss / kBatch, expected.loss, 1e-5 * expected.loss) << prefix;
    for (const ParameterSpec& spec : model.layout.parameters) {
      const float* gradient = outcome.gradients.data() + spec.offset;
      if (!spec.frozen) continue;
      EXPECT_EQ(std::count(gradient, gradient + spec.count, 0.0f), spec.count) << spec.name;
    }
    ExpectGradient(model.layout, outcome.gradients, expected.gradient);
    const uint64_t stem = model.layout.statistic("bn1.running_var").offset;
    EXPECT_EQ(outcome.statistics[stem], static_cast<double>(model.statistics[stem]));
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, ResNetStepTest,
                         testing::Values(std::tuple(v1::MODEL_KIND_RESNET18, v1::STEM_IMAGENET),
                                         std::tuple(v1::MODEL_KIND_RESNET18, v1::STEM_SMALL),
                                         std::tuple(v1::MODEL_KIND_RESNET50, v1::STEM_SMALL)),
                         [](const auto& info) {
                           return absl::StrCat(
                               ModelName(std::get<0>(info.param)),
                               std::get<1>(info.param) == v1::STEM_SMALL ? "_small" : "_imagenet");
                         });

TEST(TensorCacheTest, LargeTensors_ReuseMemoryWhileAScopeLives_AndOutliveIt) {
  torch::Tensor kept;
  {
    const TensorCacheScope scope;
    const void* first = nullptr;
    {
      const torch::Tensor a = torch::ones({1 << 20});
      first = a.data_ptr();
    }
    const torch::Tensor b = torch::zeros({1 << 20});
    EXPECT_EQ(b.data_ptr(), first);
    const torch::Tensor c = torch::zeros({1 << 20});
    EXPECT_NE(c.data_ptr(), first);
    kept = torch::full({1 << 20}, 3.0f);
  }
  EXPECT_EQ(kept.sum().item<float>(), 3.0f * (1 << 20));
}

// Against the definition, one image, 64 channels, every window's border.
TEST(ResNetKernelsTest, Pool_TakesTheFirstMaximum_AndItsGradientGoesThere) {
  constexpr uint32_t kSide = 6, kChannels = 64;
  std::vector<float> y(kSide * kSide * kChannels), ones(kChannels, 1), zeros(kChannels, 0);
  for (size_t i = 0; i < y.size(); ++i) {  // Few values: many ties.
    y[i] =
        static_cast<float>(PhiloxBlock(1, Purpose::kTest, 0, 0, static_cast<uint32_t>(i))[0] % 4) -
        1.0f;
  }
  std::vector<float> pooled(9 * kChannels), dpooled(pooled.size());
  std::vector<uint8_t> chosen(pooled.size());
  const LinearNorm identity = {ones.data(), zeros.data()};
  NormReluPool(y.data(), 1, kSide, kSide, kChannels, identity, pooled.data(), chosen.data());
  for (size_t i = 0; i < dpooled.size(); ++i) dpooled[i] = static_cast<float>(i % 7) + 1;
  std::vector<float> g(y.size());
  std::vector<double> sum(kChannels), product(kChannels);
  PoolSums(dpooled.data(), chosen.data(), y.data(), 1, kSide, kSide, kChannels, identity,
           zeros.data(), g.data(), sum.data(), product.data());
  const auto nchw = [](std::vector<float>& v, int64_t side) {
    return torch::from_blob(v.data(), {1, side, side, kChannels}).permute({0, 3, 1, 2});
  };
  const torch::Tensor x = nchw(y, kSide).clone().requires_grad_(true);
  const torch::Tensor expected = torch::max_pool2d(torch::relu(x), 3, 2, 1);
  EXPECT_TRUE(torch::equal(nchw(pooled, 3), expected));
  const torch::Tensor dx = torch::autograd::grad({expected}, {x}, {nchw(dpooled, 3)})[0];
  EXPECT_TRUE(torch::equal(nchw(g, kSide), dx));
  const torch::Tensor sums = dx.sum({0, 2, 3}).contiguous();
  for (uint32_t c = 0; c < kChannels; ++c) EXPECT_NEAR(sum[c], sums.data_ptr<float>()[c], 1e-4);
}

TEST(ResNetKernelsTest, MeanVariance_KeepsTheVarianceOfANearlyConstantChannel) {
  constexpr uint64_t kRows = 5000;
  std::vector<float> y(kRows * 64);
  for (uint64_t r = 0; r < kRows; ++r) {
    for (int c = 0; c < 64; ++c) y[r * 64 + c] = 100.0f + 0.001f * static_cast<float>(r % 2) * c;
  }
  double mean[64], variance[64];
  MeanVariance(y.data(), kRows, 64, mean, variance);
  for (int c = 0; c < 64; ++c) {
    const double step = static_cast<double>(y[64 + c]) - y[c], exact = step * step / 4;
    EXPECT_NEAR(variance[c], exact, 1e-5 * exact) << c;
    EXPECT_NEAR(mean[c], y[c] + step / 2, 1e-6) << c;
  }
}

TEST(ResNetKernelsTest, Relu_KeepsNan) {
  std::vector<float> y(64, std::numeric_limits<float>::quiet_NaN()), ones(64, 1), z(64);
  NormRelu(y.data(), 1, 64, {ones.data(), ones.data()}, z.data());
  for (float v : z) EXPECT_TRUE(std::isnan(v));
  // As a map of 2 x 2 pixels: the pool hands it on.
  std::vector<float> map(4 * 64, std::numeric_limits<float>::quiet_NaN());
  std::vector<uint8_t> chosen(64);
  NormReluPool(map.data(), 1, 2, 2, 64, {ones.data(), ones.data()}, z.data(), chosen.data());
  for (float v : z) EXPECT_TRUE(std::isnan(v));
}

}  // namespace
}  // namespace dermis
