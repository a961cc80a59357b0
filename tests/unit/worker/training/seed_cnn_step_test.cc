// The hand-written pass against LibTorch's autograd of the plain graph.
#include "worker/training/seed_cnn_step.h"

#include <cmath>

#include "gtest/gtest.h"
#include <torch/nn/functional/loss.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include "common/philox.h"
#include "worker/models/seed_cnn.h"
#include "worker/training/optimizer.h"
#include "worker/training/seed_cnn_kernels.h"

namespace dermis {
namespace {

constexpr uint32_t kBatch = 6, kSize = 16;

Model RandomModel(uint32_t classes = 2) {
  Model model;
  model.layout = *LayoutOf(v1::MODEL_KIND_SEED_CNN, kSize, classes);
  InitializeModel(11, model);
  // Away from the initial zeros and ones, so that every gradient path counts.
  for (size_t i = 0; i < model.parameters.size(); ++i) {
    const auto words = PhiloxBlock(12, Purpose::kTest, 0, 0, static_cast<uint32_t>(i));
    model.parameters[i] += 0.05f * (ToUnitFloat(words[0]) - 0.5f);
  }
  for (size_t i = 0; i < model.statistics.size(); ++i) {
    model.statistics[i] +=
        0.5f * ToUnitFloat(PhiloxBlock(13, Purpose::kTest, 0, 0, static_cast<uint32_t>(i))[0]);
  }
  return model;
}

void FillInput(float* input, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    input[i] =
        4 * ToUnitFloat(PhiloxBlock(14, Purpose::kTest, 0, 0, static_cast<uint32_t>(i))[0]) - 2;
  }
}

double RelativeError(const float* a, const float* b, uint64_t n) {
  double difference = 0, norm = 0;
  for (uint64_t i = 0; i < n; ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / (norm + 1e-30));
}

struct Both {
  PassResult result;
  std::vector<float> gradients, expected;
  std::vector<double> statistics;
  double expected_loss = 0;
};

Both Compare(const Model& model, bool dropout, v1::Precision precision) {
  at::set_num_threads(
      1);  // As in the trainer; a busy machine makes many threads wait for each other.
  Both both;
  SeedCnnPass pass(model.layout, kBatch, precision);
  SeedCnnStepWeights weights(model.layout, precision);
  weights.Update(model.parameters.data());
  FillInput(pass.input(), kBatch * kSize * kSize * 3);
  std::vector<torch::Tensor> masks;
  for (uint32_t b = 0; b < 3 && dropout; ++b) {
    const int64_t side = kSize >> (b + 1), channels = 32 << b;
    torch::Tensor mask = torch::zeros({kBatch, side, side, channels});
    for (uint32_t i = 0; i < kBatch; ++i) {
      DropoutMask(1, 2, i, b, kSeedCnnDropout[b], pass.mask_units(b), pass.mask(b, i));
      for (uint32_t u = 0; u < pass.mask_units(b); ++u) {
        mask.data_ptr<float>()[i * pass.mask_units(b) + u] =
            pass.mask(b, i)[u] ? static_cast<float>(1 / (1 - kSeedCnnDropout[b])) : 0.0f;
      }
    }
    masks.push_back(mask.permute({0, 3, 1, 2}));
  }
  std::vector<uint32_t> labels;
  for (uint32_t i = 0; i < kBatch; ++i) labels.push_back(i % model.layout.classes);
  both.gradients.assign(model.layout.parameter_count, -7);
  both.statistics.assign(model.layout.statistic_count, -7);
  const float scale = 1.0f / kBatch;
  both.result =
      pass.Train(weights, labels, dropout, scale, both.gradients.data(), both.statistics.data());

  torch::Tensor flat = torch::from_blob(const_cast<float*>(model.parameters.data()),
                                        {static_cast<int64_t>(model.parameters.size())})
                           .clone()
                           .requires_grad_(true);
  torch::Tensor input =
      torch::from_blob(pass.input(), {kBatch, kSize, kSize, 3}).permute({0, 3, 1, 2});
  torch::Tensor target = torch::empty({kBatch}, torch::kLong);
  for (uint32_t i = 0; i < kBatch; ++i) target.data_ptr<int64_t>()[i] = labels[i];
  const SeedCnnGraph graph = SeedCnnForwardTraining(model.layout, flat, input, masks);
  torch::Tensor loss = torch::nn::functional::cross_entropy(graph.logits, target);
  const torch::Tensor gradient = torch::autograd::grad({loss}, {flat})[0].contiguous();
  both.expected.assign(gradient.data_ptr<float>(), gradient.data_ptr<float>() + gradient.numel());
  both.expected_loss = loss.item<double>();
  return both;
}

TEST(SeedCnnStepTest, Gradients_AreAutograds) {
  for (bool dropout : {false, true}) {
    for (uint32_t classes : {2u, 3u}) {
      const Model model = RandomModel(classes);
      const Both both = Compare(model, dropout, v1::PRECISION_FP32);
      EXPECT_NEAR(both.result.loss / kBatch, both.expected_loss, 1e-4 * both.expected_loss);
      for (const ParameterSpec& spec : model.layout.parameters) {
        EXPECT_LT(RelativeError(both.gradients.data() + spec.offset,
                                both.expected.data() + spec.offset, spec.count),
                  2e-3)
            << spec.name << " dropout " << dropout << " classes " << classes;
      }
    }
  }
}

TEST(SeedCnnStepTest, Bf16Gradients_PointTheSameWay) {
  const Model model = RandomModel();
  const Both both = Compare(model, true, v1::PRECISION_BF16);
  EXPECT_NEAR(both.result.loss / kBatch, both.expected_loss, 0.05 * both.expected_loss);
  double dot = 0, a = 0, b = 0;
  for (size_t i = 0; i < both.expected.size(); ++i) {
    dot += static_cast<double>(both.gradients[i]) * both.expected[i];
    a += std::pow(static_cast<double>(both.gradients[i]), 2);
    b += std::pow(static_cast<double>(both.expected[i]), 2);
  }
  EXPECT_GT(dot / std::sqrt(a * b), 0.97);
}

TEST(SeedCnnStepTest, Statistics_AreMeanAndBiasedVariance) {
  const Model model = RandomModel();
  const Both both = Compare(model, false, v1::PRECISION_FP32);
  SeedCnnPass pass(model.layout, kBatch, v1::PRECISION_FP32);
  FillInput(pass.input(), kBatch * kSize * kSize * 3);
  torch::Tensor input =
      torch::from_blob(pass.input(), {kBatch, kSize, kSize, 3}).permute({0, 3, 1, 2});
  torch::Tensor flat = torch::from_blob(const_cast<float*>(model.parameters.data()),
                                        {static_cast<int64_t>(model.parameters.size())});
  const SeedCnnGraph graph = SeedCnnForwardTraining(model.layout, flat, input, {});
  for (int k = 0; k < 6; ++k) {
    const torch::Tensor mean = graph.taps[k].to(torch::kDouble).mean({0, 2, 3}).contiguous();
    const torch::Tensor variance =
        graph.taps[k].to(torch::kDouble).var({0, 2, 3}, false).contiguous();
    const std::string bn = "bn" + std::to_string(k + 1);
    for (int64_t c = 0; c < mean.numel(); ++c) {
      const uint64_t m = model.layout.statistic(bn + ".running_mean").offset + c;
      const uint64_t v = model.layout.statistic(bn + ".running_var").offset + c;
      EXPECT_NEAR(both.statistics[m], mean.data_ptr<double>()[c], 1e-4) << bn << " " << c;
      EXPECT_NEAR(both.statistics[v], variance.data_ptr<double>()[c],
                  1e-4 * (1 + both.statistics[v]))
          << bn << " " << c;
    }
  }
}

TEST(SeedCnnStepTest, Evaluation_IsTheGraphs) {
  const Model model = RandomModel(3);
  SeedCnnPass pass(model.layout, kBatch, v1::PRECISION_FP32);
  SeedCnnStepWeights weights(model.layout, v1::PRECISION_FP32);
  weights.Update(model.parameters.data());
  FillInput(pass.input(), kBatch * kSize * kSize * 3);
  std::vector<float> logits(4 * 3);
  const std::vector<uint32_t> labels = {0, 1, 2, 0};
  const PassResult result = pass.Evaluate(weights, model.statistics.data(), labels, logits.data());
  const std::vector<float> expected = SeedCnnLogits(model, pass.input(), 4, v1::PRECISION_FP32);
  EXPECT_LT(RelativeError(logits.data(), expected.data(), expected.size()), 1e-5);
  EXPECT_GT(result.loss, 0);
}

TEST(SeedCnnKernelsTest, Dropout_DropsItsShareAndIsKeyedByMeaning) {
  std::vector<uint8_t> a(8192), b(8192);
  uint64_t kept = 0;
  for (uint32_t image = 0; image < 50; ++image) {
    DropoutMask(1, 5, image, 0, 0.2, 8192, a.data());
    for (uint8_t v : a) kept += v;
  }
  EXPECT_NEAR(static_cast<double>(kept) / (50 * 8192), 0.8, 0.003);
  DropoutMask(1, 5, 49, 0, 0.2, 8192, b.data());
  EXPECT_EQ(a, b);
  DropoutMask(1, 6, 49, 0, 0.2, 8192, b.data());
  EXPECT_NE(a, b);
  DropoutMask(1, 5, 49, 1, 0.2, 8192, b.data());
  EXPECT_NE(a, b);
}

TEST(SeedCnnKernelsTest, EluStatistics_KeepTheVarianceOfANearlyConstantChannel) {
  constexpr uint64_t kRows = 5000;
  std::vector<float> a(kRows * 32);
  for (uint64_t r = 0; r < kRows; ++r) {
    for (int c = 0; c < 32; ++c) a[r * 32 + c] = 100.0f + 0.001f * static_cast<float>(r % 2) * c;
  }
  double mean[32], variance[32], exact[32];
  for (int c = 0; c < 32; ++c) {
    const double step = static_cast<double>(a[32 + c]) - a[c];
    exact[c] = step * step / 4;
  }
  EluStatistics(a.data(), kRows, 32, mean, variance);
  for (int c = 0; c < 32; ++c) EXPECT_NEAR(variance[c], exact[c], 1e-5 * exact[c]) << c;
}

TEST(SeedCnnKernelsTest, Elu_IsExpm1ForNegativesAndKeepsNan) {
  std::vector<float> a(32 * 2000);
  for (size_t i = 0; i < a.size(); ++i)
    a[i] = -20.0f + 25.0f * static_cast<float>(i) / static_cast<float>(a.size());
  const std::vector<float> in = a;
  const std::vector<float> one(32, 1.0f), zero(32, 0.0f);
  EluAffine(a.data(), 2000, 32, one.data(), zero.data());
  for (size_t i = 0; i < a.size(); ++i) {
    const double expected = in[i] > 0 ? in[i] : std::expm1(static_cast<double>(in[i]));
    ASSERT_NEAR(a[i], expected, 2e-7) << in[i];
  }
  std::vector<float> odd(32, std::nanf(""));
  odd[1] = -INFINITY;
  odd[2] = INFINITY;
  EluAffine(odd.data(), 1, 32, one.data(), zero.data());
  EXPECT_TRUE(std::isnan(odd[0]));
  EXPECT_EQ(odd[1], -1.0f);
  EXPECT_EQ(odd[2], INFINITY);
}

}  // namespace
}  // namespace dermis
