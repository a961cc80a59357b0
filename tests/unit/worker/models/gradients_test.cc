#include "worker/models/gradients.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <torch/autograd.h>
#include <torch/types.h>
#include <torch/utils.h>

#include "common/background.h"
#include "common/metrics.h"
#include "common/philox.h"
#include "common/progress.h"
#include "tests/unit/worker/explain/test_data.h"
#include "worker/models/model.h"
#include "worker/models/network.h"
#include "worker/models/normals.h"

namespace dermis {
namespace {

using testing::HasSubstr;

constexpr uint32_t kSize = 16, kImages = 40;

ImageData Images(uint32_t size = kSize) {
  ImageData data = TestImageData(kImages, 32, 32, size);
  data.classes = 2;
  data.labels.clear();
  for (uint32_t i = 0; i < kImages; ++i) {
    data.labels.push_back(i % 2);
    if (i >= 4) data.split.training.push_back(i);
  }
  data.channel_mean = {108, 128, 148};
  return data;
}

Model RandomModel(v1::ModelKind kind = v1::MODEL_KIND_SEED_CNN,
                  v1::Stem stem = v1::STEM_UNSPECIFIED, uint32_t size = kSize) {
  Model model;
  model.layout = *LayoutOf(kind, size, 2, stem);
  model.pixel_mean = 120;
  model.pixel_deviation = 20;
  InitializeModel(3, model);
  return model;
}

v1::GradientTask TaskOf(uint32_t image, v1::OutputKind output = v1::OUTPUT_KIND_MARGIN) {
  v1::GradientTask task;
  task.set_image(image);
  task.mutable_model()->set_kind(v1::MODEL_KIND_SEED_CNN);
  task.set_output(output);
  task.set_seed(9);
  return task;
}

v1::GradientTask DeepShapTask(uint32_t image, v1::OutputKind output = v1::OUTPUT_KIND_MARGIN) {
  v1::GradientTask task = TaskOf(image, output);
  task.mutable_deep_shap();
  task.mutable_background()->set_per_class(10);
  task.mutable_background()->set_seed(5);
  return task;
}

v1::PixelAttribution Explain(const v1::GradientTask& task, const Model& model, const ImageData& data) {
  GradientCache cache;
  auto result = RunGradient(task, data, SerializeModel(model), cache);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : v1::PixelAttribution();
}

// The residual over what the issue measures it by.
double RelativeResidual(const v1::PixelAttribution& result) {
  double magnitude = 0;
  for (const float v : result.values()) magnitude += std::abs(v);
  return std::abs(result.additivity_residual()) /
         std::max(std::abs(result.full() - result.reference()), 0.01 * magnitude);
}

double OutputOfImage(const Model& model, const ImageData& data, uint32_t image) {
  torch::NoGradGuard no_graph;
  return OutputOfRow(v1::OUTPUT_KIND_MARGIN, GraphOf(model, *InputsOf(model, data, {image})).logits,
                     0);
}

TEST(DeepShapTest, AddsUp_AndNamesWhatItIsComparedWith) {
  const Model model = RandomModel();
  const ImageData data = Images();
  for (const auto output :
       {v1::OUTPUT_KIND_MARGIN, v1::OUTPUT_KIND_LOGIT, v1::OUTPUT_KIND_PROBABILITY}) {
    const v1::PixelAttribution result = Explain(DeepShapTask(1, output), model, data);
    EXPECT_EQ(result.height(), kSize);
    EXPECT_EQ(result.values_size(), static_cast<int>(3 * kSize * kSize));
    EXPECT_LE(RelativeResidual(result), 1e-5);
    EXPECT_EQ(result.evaluations(), 20u);
  }
  const v1::PixelAttribution result = Explain(DeepShapTask(1), model, data);
  EXPECT_NEAR(result.full(), OutputOfImage(model, data, 1), 1e-5);
  const std::vector<uint32_t> background =
      BackgroundImages(data.split.training, data.labels, 5, 10);
  double mean = 0;
  for (const uint32_t b : background) mean += OutputOfImage(model, data, b) / 20;
  EXPECT_NEAR(result.reference(), mean, 1e-5);
  EXPECT_EQ(result.background(), BackgroundDigest(data.set->manifest(), background).bytes());
}

TEST(DeepShapTest, AddsUp_ForAResNet) {
  const Model model = RandomModel(v1::MODEL_KIND_RESNET18, v1::STEM_SMALL);
  v1::GradientTask task = DeepShapTask(1);
  task.mutable_model()->set_kind(v1::MODEL_KIND_RESNET18);
  task.mutable_background()->set_per_class(3);
  EXPECT_LE(RelativeResidual(Explain(task, model, Images())), 1e-4);
}

// What the issue asks of the seed network at its own size.
TEST(DeepShapTest, AddsUp_AtTheSeedNetworksSize) {
  const Model model = RandomModel(v1::MODEL_KIND_SEED_CNN, v1::STEM_UNSPECIFIED, 32);
  const ImageData data = Images(32);
  for (const uint32_t image : {0u, 1u, 2u}) {
    const v1::PixelAttribution result = Explain(DeepShapTask(image), model, data);
    EXPECT_EQ(result.values_size(), 3 * 32 * 32);
    EXPECT_LE(RelativeResidual(result), 1e-5) << image;
  }
}

// Or a worker that explains a large network would be taken for stuck.
TEST(DeepShapTest, GivesASignOfLife_AfterEachPass) {
  std::atomic<uint64_t> progress{0};
  const ProgressScope scope(&progress);
  Explain(DeepShapTask(1), RandomModel(), Images());
  EXPECT_GT(progress, 0u);
}

// What a thread did before, and how much it may remember, decides no bits.
TEST(DeepShapTest, CacheDecidesNoBits) {
  const std::string weights = SerializeModel(RandomModel());
  const ImageData data = Images();
  GradientCache warm, small(600'000), none(0);
  ASSERT_TRUE(RunGradient(DeepShapTask(0), data, weights, warm).ok());
  v1::GradientTask expected = TaskOf(0);
  *expected.mutable_background() = DeepShapTask(0).background();
  expected.mutable_expected_gradients()->set_samples(7);
  const auto alone = RunGradient(expected, data, weights, none);
  ASSERT_TRUE(alone.ok());
  EXPECT_EQ(RunGradient(expected, data, weights, warm)->SerializeAsString(),
            alone->SerializeAsString());
  const std::string fresh = Explain(DeepShapTask(2), RandomModel(), data).SerializeAsString();
  for (GradientCache* cache : {&warm, &small, &none, &warm, &small}) {
    const auto result = RunGradient(DeepShapTask(2), data, weights, *cache);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->SerializeAsString(), fresh);
  }
  // Another background is another entry.
  v1::GradientTask other = DeepShapTask(2);
  other.mutable_background()->set_seed(6);
  EXPECT_NE(RunGradient(other, data, weights, warm)->SerializeAsString(), fresh);
  EXPECT_EQ(RunGradient(DeepShapTask(2), data, weights, warm)->SerializeAsString(), fresh);
}

TEST(ExpectedGradientsTest, AddUpAboutAsWellAsTheirDraws) {
  const Model model = RandomModel();
  const ImageData data = Images();
  v1::GradientTask task = DeepShapTask(1);
  task.mutable_expected_gradients()->set_samples(400);
  const v1::PixelAttribution result = Explain(task, model, data),
                             shap = Explain(DeepShapTask(1), model, data);
  EXPECT_EQ(result.background(), shap.background());
  EXPECT_DOUBLE_EQ(result.reference(), shap.reference());
  double magnitude = 0;
  for (const float v : result.values()) magnitude += std::abs(v);
  EXPECT_LT(std::abs(result.additivity_residual()), 0.2 * magnitude);
  // Another method, but of about the same game: pixels agree.
  double both = 0, own = 0, other = 0;
  for (int i = 0; i < result.values_size(); ++i) {
    both += double{result.values(i)} * shap.values(i);
    own += double{result.values(i)} * result.values(i);
    other += double{shap.values(i)} * shap.values(i);
  }
  EXPECT_GT(both / std::sqrt(own * other), 0.4);
  task.set_seed(10);
  EXPECT_NE(Explain(task, model, data).values(0), result.values(0));
}

TEST(IntegratedGradientsTest, AddUpBetterTheMorePoints) {
  const Model model = RandomModel();
  const ImageData data = Images();
  double residual[2];
  for (const int k : {0, 1}) {
    v1::GradientTask task = TaskOf(1);
    task.mutable_integrated_gradients()->set_steps(k == 0 ? 1 : 300);
    const v1::PixelAttribution result = Explain(task, model, data);
    residual[k] = RelativeResidual(result);
    EXPECT_TRUE(result.background().empty());
    EXPECT_EQ(result.evaluations(), k == 0 ? 1u : 300u);
  }
  EXPECT_LT(residual[1], 0.01);
  EXPECT_LT(residual[1], residual[0]);
}

// Against differences of f itself. Without noise all copies are the image.
TEST(SmoothGradTest, WithoutNoise_IsTheGradientByThePixel) {
  const Model model = RandomModel();
  ImageData data = Images();
  v1::GradientTask task = TaskOf(1);
  task.mutable_smooth_grad()->set_samples(3);
  const v1::PixelAttribution result = Explain(task, model, data);
  EXPECT_FALSE(result.has_reference());
  EXPECT_FALSE(result.has_additivity_residual());
  const torch::Tensor input = *InputsOf(model, data, {1});
  const auto f = [&](int64_t at, double step) {
    torch::NoGradGuard no_graph;
    torch::Tensor moved = input.to(torch::kDouble);
    moved.data_ptr<double>()[at] += step * InputRange(model);
    return OutputOfRow(v1::OUTPUT_KIND_MARGIN, GraphOf(model, moved.to(torch::kFloat32)).logits, 0);
  };
  double largest = 0;
  for (const float v : result.values()) largest = std::max<double>(largest, std::abs(v));
  for (const int64_t pixel : {0, 37, 120, 255}) {
    for (const int64_t c : {0, 2}) {
      const int64_t at = c * kSize * kSize + pixel;
      const double slope = (f(at, 2e-3) - f(at, -2e-3)) / 4e-3;
      // A pool's kink may lie between.
      EXPECT_NEAR(result.values(static_cast<int>(pixel * 3 + c)), slope, 0.05 * largest) << pixel;
    }
  }
  task.mutable_smooth_grad()->set_noise(0.1);
  const v1::PixelAttribution noisy = Explain(task, model, data);
  EXPECT_NE(noisy.values(0), result.values(0));
  task.set_seed(10);
  EXPECT_NE(Explain(task, model, data).values(0), noisy.values(0));
}

// A ResNet explained by sampling, and what a test says of it by hand.
struct Sampled {
  Sampled() : model(RandomModel(v1::MODEL_KIND_RESNET18, v1::STEM_SMALL)), data(Images()) {}
  v1::GradientTask Task(bool smooth) const {
    v1::GradientTask task = DeepShapTask(1);
    task.mutable_model()->set_kind(v1::MODEL_KIND_RESNET18);
    task.mutable_background()->set_per_class(3);
    task.mutable_expected_gradients()->set_samples(kSamples);
    task.set_standard_errors(true);
    if (!smooth) return task;
    task.clear_background();
    task.mutable_smooth_grad()->set_samples(kSamples);
    task.mutable_smooth_grad()->set_noise(0.1);
    return task;
  }
  // What draw `i` says of each value, 3 x size x size.
  std::vector<double> Draw(bool smooth, uint32_t i) const {
    const torch::Tensor image = *InputsOf(model, data, {1});
    torch::Tensor at = image.clone();
    torch::Tensor by = torch::full_like(image, InputRange(model));
    if (smooth) {
      for (uint32_t k = 0; k < at.numel(); ++k) {
        const auto words = PhiloxBlock(9, Purpose::kSmoothGrad, i, 1, k / 4);
        const auto [first, second] =
            k % 4 < 2 ? Normals(words[0], words[1]) : Normals(words[2], words[3]);
        at.data_ptr<float>()[k] +=
            static_cast<float>(0.1 * InputRange(model) * (k % 2 == 0 ? first : second));
      }
    } else {
      const std::vector<uint32_t> background =
          BackgroundImages(data.split.training, data.labels, 5, 3);
      const auto words = PhiloxBlock(9, Purpose::kExpectedGradients, i, 1, 0);
      const torch::Tensor from =
          *InputsOf(model, data, {background[uint64_t{words[2]} * background.size() >> 32]});
      by = image - from;
      at = from + ToUnitDouble(words[0], words[1]) * by;
    }
    at.requires_grad_(true);
    const torch::Tensor logits = GraphOf(model, at).logits;
    const torch::Tensor margin = logits[0][1] - logits[0][0];
    const torch::Tensor values =
        (torch::autograd::grad({margin}, {at})[0] * by).contiguous().to(torch::kDouble);
    return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
  }
  static const Sampled& Shared() {  // Its weights take a while to draw.
    static const Sampled shared;
    return shared;
  }
  static constexpr uint32_t kSamples = 7;  // Of a ResNet more than a pass.
  const Model model;
  const ImageData data;
};

class SampledGradients : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Methods, SampledGradients, testing::Bool(), [](const auto& info) {
  return std::string(info.param ? "smooth_grad" : "expected_gradients");
});

TEST_P(SampledGradients, OfAResNet_AreTheMeanOfTheirDraws_AndTheirErrorsItsStandardErrors) {
  const Sampled& sampled = Sampled::Shared();
  const v1::PixelAttribution result =
      Explain(sampled.Task(GetParam()), sampled.model, sampled.data);
  constexpr size_t kPixels = size_t{kSize} * kSize, kDraws = Sampled::kSamples;
  ASSERT_EQ(result.standard_errors_size(), static_cast<int>(kPixels));
  std::vector<std::vector<double>> draws;
  for (uint32_t i = 0; i < kDraws; ++i) draws.push_back(sampled.Draw(GetParam(), i));
  double largest = 0;
  for (const float v : result.values()) largest = std::max<double>(largest, std::abs(v));
  const auto error_of = [](const std::vector<double>& values) {
    double mean = 0, squares = 0;
    for (const double v : values) mean += v / kDraws;
    for (const double v : values) squares += (v - mean) * (v - mean);
    return std::sqrt(squares / (kDraws * (kDraws - 1)));
  };
  std::vector<double> sums(kDraws);
  for (size_t p = 0; p < kPixels; ++p) {
    std::vector<double> pixel(kDraws);
    for (size_t c = 0; c < 3; ++c) {
      double mean = 0;
      for (size_t i = 0; i < kDraws; ++i) {
        const double v = draws[i][c * kPixels + p];
        mean += v / kDraws;
        pixel[i] += v;
        sums[i] += v;
      }
      EXPECT_NEAR(result.values(static_cast<int>(3 * p + c)), mean, 1e-4 * largest) << p;
    }
    EXPECT_NEAR(result.standard_errors(static_cast<int>(p)), error_of(pixel), 1e-4 * largest) << p;
  }
  EXPECT_NEAR(result.sum_standard_error(), error_of(sums), 1e-3 * error_of(sums));
}

TEST_P(SampledGradients, ErrorsChangeNoValue_AndNeedTwoDraws) {
  const Sampled& sampled = Sampled::Shared();
  v1::GradientTask task = sampled.Task(GetParam());
  v1::PixelAttribution with = Explain(task, sampled.model, sampled.data);
  task.clear_standard_errors();
  const v1::PixelAttribution without = Explain(task, sampled.model, sampled.data);
  EXPECT_TRUE(without.standard_errors().empty());
  with.clear_standard_errors();
  with.clear_sum_standard_error();
  EXPECT_EQ(with.SerializeAsString(), without.SerializeAsString());
  task.set_standard_errors(true);
  if (GetParam()) {
    task.mutable_smooth_grad()->set_samples(1);
  } else {
    task.mutable_expected_gradients()->set_samples(1);
  }
  const v1::PixelAttribution one = Explain(task, sampled.model, sampled.data);
  EXPECT_TRUE(one.standard_errors().empty());
  EXPECT_FALSE(one.has_sum_standard_error());
}

TEST_P(SampledGradients, OfAResNet_AreTheSameBits_OnAnyNumberOfThreads) {
  const Sampled& sampled = Sampled::Shared();
  const v1::GradientTask task = sampled.Task(GetParam());
  const std::string alone = Explain(task, sampled.model, sampled.data).SerializeAsString();
  std::vector<std::string> beside(3);
  std::vector<std::thread> threads;
  for (std::string& result : beside) {
    threads.emplace_back([&] {
      at::set_num_threads(4);
      result = Explain(task, sampled.model, sampled.data).SerializeAsString();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& result : beside) EXPECT_EQ(result, alone);
}

// The sum of expected gradients is f(x) - mean f up to its draws: what is left over is their error.
TEST(ExpectedGradientsTest, WhatIsLeftOver_IsAsLargeAsTheSumsError_Over200Seeds) {
  const Model model = RandomModel();
  const ImageData data = Images();
  v1::GradientTask task = DeepShapTask(1);
  task.mutable_expected_gradients()->set_samples(12);
  task.set_standard_errors(true);
  GradientCache cache;
  const std::string weights = SerializeModel(model);
  int covered = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    task.set_seed(seed);
    const auto result = RunGradient(task, data, weights, cache);
    ASSERT_TRUE(result.ok()) << result.status();
    covered += std::abs(result->additivity_residual()) <=
               2.2 * result->sum_standard_error();  // Student's t.
  }
  EXPECT_GE(covered, 180);
  EXPECT_LE(covered, 198);
}

// Of each pixel, against the mean of so many draws that its own error does not count.
TEST_P(SampledGradients, Intervals_CoverThePixelsMeans_In90To99PercentOf200Repeats) {
  constexpr uint32_t kSide = 8, kSamples = 40, kRepeats = 200;
  const std::string weights =
      SerializeModel(RandomModel(v1::MODEL_KIND_SEED_CNN, v1::STEM_UNSPECIFIED, kSide));
  const ImageData data = Images(kSide);
  GradientCache cache;
  const auto explain = [&](uint64_t seed, uint32_t samples) {
    v1::GradientTask task = DeepShapTask(1);
    task.mutable_expected_gradients()->set_samples(samples);
    if (GetParam()) {
      task.clear_background();
      task.mutable_smooth_grad()->set_samples(samples);
      task.mutable_smooth_grad()->set_noise(0.1);
    }
    task.set_seed(seed);
    task.set_standard_errors(true);
    auto result = RunGradient(task, data, weights, cache);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : v1::PixelAttribution();
  };
  const auto value = [](const v1::PixelAttribution& result, int pixel) {
    return double{result.values(3 * pixel)} + result.values(3 * pixel + 1) +
           result.values(3 * pixel + 2);
  };
  const v1::PixelAttribution mean = explain(1000, 100 * kSamples);
  constexpr int kPixels = kSide * kSide;
  std::vector<int> covered(kPixels, 0);
  for (uint64_t seed = 1; seed <= kRepeats; ++seed) {
    const v1::PixelAttribution result = explain(seed, kSamples);
    ASSERT_EQ(result.standard_errors_size(), kPixels);
    for (int p = 0; p < kPixels; ++p) {
      covered[p] += std::abs(value(result, p) - value(mean, p)) <= 1.96 * result.standard_errors(p);
    }
  }
  const int all = std::accumulate(covered.begin(), covered.end(), 0);
  EXPECT_GE(all, 0.90 * kRepeats * kPixels);
  EXPECT_LE(all, 0.99 * kRepeats * kPixels);
  // Of one pixel 200 repeats say less.
  for (int p = 0; p < kPixels; ++p) EXPECT_GE(covered[p], 0.86 * kRepeats) << "pixel " << p;
}

TEST(GradientsTest, WrongTasks_AreErrors) {
  const std::string weights = SerializeModel(RandomModel());
  const ImageData data = Images();
  GradientCache cache;
  const auto why = [&](const v1::GradientTask& task) {
    return std::string(RunGradient(task, data, weights, cache).status().message());
  };
  EXPECT_THAT(why(TaskOf(1)), HasSubstr("no method"));
  EXPECT_THAT(why(DeepShapTask(kImages)), HasSubstr("no image 40"));
  v1::GradientTask empty = DeepShapTask(1);
  empty.mutable_background()->set_per_class(0);
  EXPECT_THAT(why(empty), HasSubstr("background set is empty"));
  v1::GradientTask other = DeepShapTask(1);
  other.mutable_model()->set_kind(v1::MODEL_KIND_RESNET18);
  EXPECT_THAT(why(other), HasSubstr("the weights are of MODEL_KIND_SEED_CNN"));
  Model diverged = RandomModel();
  diverged.parameters[0] = NAN;
  GradientCache fresh;
  EXPECT_THAT(
      std::string(
          RunGradient(DeepShapTask(1), data, SerializeModel(diverged), fresh).status().message()),
      HasSubstr("not finite"));
}

}  // namespace
}  // namespace dermis
