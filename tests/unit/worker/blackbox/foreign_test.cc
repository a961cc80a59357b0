#include "worker/blackbox/foreign.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/unit/worker/explain/test_data.h"
#include "worker/evaluation/evaluate.h"
#include "worker/explain/explain.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::ForeignModel Plain() {
  v1::ForeignModel model;
  model.set_format(v1::MODEL_FORMAT_ONNX);
  model.set_outputs(v1::MODEL_OUTPUTS_LOGITS);
  v1::ModelInputSpec& input = *model.mutable_input();
  input.set_range(1);
  input.set_channels(v1::CHANNEL_ORDER_RGB);
  for (int c = 0; c < 3; ++c) {
    input.add_mean(0);
    input.add_deviation(1);
  }
  return model;
}

TEST(FillTensorTest, OrdersByChannel_AndNormalisesEachByItsOwnNumbers) {
  v1::ModelInputSpec input = Plain().input();
  input.set_range(255);
  for (int c = 0; c < 3; ++c) {
    input.set_mean(c, 10 * (c + 1));
    input.set_deviation(c, c + 1);
  }
  const std::vector<float> image = {110, 120, 130, 10, 20, 30, 0, 0, 0, 255, 255, 255};  // 2 x 2
  std::vector<float> tensor(12);
  FillTensor(input, 2, image.data(), tensor.data());
  EXPECT_THAT(tensor, ElementsAre(100, 0, -10, 245, 50, 0, -10, 117.5, 100.f / 3, 0, -10, 75));
  // The model's first channel is blue, and so are its first mean and deviation.
  input.set_channels(v1::CHANNEL_ORDER_BGR);
  FillTensor(input, 2, image.data(), tensor.data());
  EXPECT_EQ(tensor[0], 120);
  EXPECT_EQ(tensor[8], (110.f - 30) / 3);
}

TEST(LogitsOfTest, OneOutputStandsForTheLastOfTwoClasses) {
  EXPECT_THAT(*LogitsOf(Plain(), {1.5f}), ElementsAre(0, 1.5f));
  v1::ForeignModel model = Plain();
  model.set_outputs(v1::MODEL_OUTPUTS_PROBABILITIES);
  const auto logits = *LogitsOf(model, {.8f});
  EXPECT_NEAR(logits[1], std::log(.8 / .2), 1e-6);
}

TEST(LogitsOfTest, ColumnsGiveTheClassesTheirOutputs) {
  v1::ForeignModel model = Plain();
  model.set_width(4);
  model.add_columns(3);
  model.add_columns(1);
  EXPECT_THAT(*LogitsOf(model, {0, 1, 2, 3}), ElementsAre(3, 1));
  EXPECT_THAT(std::string(LogitsOf(model, {0, 1, 2}).status().message()),
              AllOf(HasSubstr("3 outputs"), HasSubstr("model.classes")));
}

TEST(LogitsOfTest, CertainProbabilitiesStayFinite_AndWhatIsNoneIsToldApart) {
  v1::ForeignModel model = Plain();
  model.set_outputs(v1::MODEL_OUTPUTS_PROBABILITIES);
  const auto certain = *LogitsOf(model, {0, 1});
  EXPECT_TRUE(std::isfinite(certain[0]));
  EXPECT_EQ(certain[1], 0);
  EXPECT_THAT(std::string(LogitsOf(model, {-3, 2}).status().message()),
              HasSubstr("are they logits?"));
  EXPECT_FALSE(LogitsOf(Plain(), {0, std::numeric_limits<float>::quiet_NaN()}).ok());
}

// Gives the mean of each channel; counts its runs.
class Means final : public ForeignRuntime {
 public:
  explicit Means(uint32_t size) : pixels_(size_t{size} * size) {}
  absl::StatusOr<std::vector<float>> Run(const float* tensor) override {
    std::vector<float> means(3);
    for (size_t c = 0; c < 3; ++c) {
      for (size_t p = 0; p < pixels_; ++p)
        means[c] += tensor[c * pixels_ + p] / static_cast<float>(pixels_);
    }
    return means;
  }

 private:
  const size_t pixels_;
};

TEST(ForeignModelTest, LearnsItsClassesFromTheFile_AndItsMeanColourFromTheInput) {
  v1::ForeignModel model = Plain();
  model.mutable_input()->set_channels(v1::CHANNEL_ORDER_BGR);
  for (int c = 0; c < 3; ++c) model.mutable_input()->set_mean(c, .1 * (c + 1));
  const auto box = MakeForeignModel(model, 2, std::make_unique<Means>(2));
  ASSERT_TRUE(box.ok()) << box.status();
  EXPECT_EQ((*box)->classes(), 3u);
  const auto mean = (*box)->mean_color();
  EXPECT_NEAR(mean[0], .3 * 255, 1e-9) << "red is the model's last channel";
  EXPECT_NEAR(mean[2], .1 * 255, 1e-9);
}

TEST(ForeignPlanTest, TorchScriptIsRefused_UnlessTheOperatorAllowsIt) {
  v1::ForeignModel model = Plain();
  model.set_format(v1::MODEL_FORMAT_TORCHSCRIPT);
  const auto refused = MakeForeignPlan(model, "bytes", 16, {});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--allow-torchscript"));
}

// A model without layers, as a baseline is one: a logistic regression of pixel values.
class Regression final : public BlackBox {
 public:
  explicit Regression(uint32_t size) : size_(size) {}
  uint32_t size() const override { return size_; }
  uint32_t classes() const override { return 2; }
  absl::Status Logits(uint32_t count, const float* images, float* logits) override {
    const size_t n = size_t{size_} * size_ * 3;
    for (uint32_t b = 0; b < count; ++b) {
      double z = 0;
      for (size_t i = 0; i < n; ++i)
        z += images[b * n + i] * std::sin(static_cast<double>(i)) / 100;
      logits[2 * b] = 0;
      logits[2 * b + 1] = static_cast<float>(z);
    }
    return absl::OkStatus();
  }
  std::array<double, 3> mean_color() const override { return {128, 128, 128}; }

 private:
  const uint32_t size_;
};

TEST(BlackBoxPlanTest, WhatIsExplainedWithNothingHidden_IsWhatIsEvaluated_BitForBit) {
  constexpr uint32_t kSize = 32;
  ImageData data = TestImageData(3, 64, 64, kSize);
  data.split.test = {0, 1, 2};
  const std::unique_ptr<InferencePlan> plan = MakeBlackBoxPlan(std::make_unique<Regression>(kSize));
  v1::EvaluateTask evaluate;
  evaluate.set_count(3);
  const auto evaluated = RunEvaluate(evaluate, data, *plan);
  ASSERT_TRUE(evaluated.ok()) << evaluated.status();

  v1::SuperpixelTask cut;
  cut.set_image(1);
  cut.mutable_superpixels()->mutable_slic()->set_count(9);
  v1::PerturbTask task;
  task.mutable_perturbation()->set_image(1);
  task.mutable_perturbation()->set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  task.mutable_perturbation()->mutable_shapley()->set_permutations(2);
  const auto output = RunPerturb(task, data, *RunSuperpixels(cut, *data.set), *plan);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->logits(0), evaluated->logits(2));
  EXPECT_EQ(output->logits(1), evaluated->logits(3));
}

TEST(BlackBoxPlanTest, WithoutTrainingImages_TheModelsMeanHides) {
  constexpr uint32_t kSize = 32;
  const ImageData data = TestImageData(1, 64, 64, kSize);
  const std::unique_ptr<InferencePlan> plan = MakeBlackBoxPlan(std::make_unique<Regression>(kSize));
  v1::SuperpixelTask cut;
  cut.mutable_superpixels()->mutable_slic()->set_count(9);
  v1::PerturbTask task;
  task.mutable_perturbation()->set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  task.mutable_perturbation()->mutable_shapley()->set_permutations(1);
  const auto output = RunPerturb(task, data, *RunSuperpixels(cut, *data.set), *plan);
  ASSERT_TRUE(output.ok()) << output.status();
  const std::vector<float> grey(size_t{kSize} * kSize * 3, 128.f);
  float expected[2];
  ASSERT_TRUE(Regression(kSize).Logits(1, grey.data(), expected).ok());
  EXPECT_NEAR(output->logits(3), expected[1], 1e-3) << "row 1: all hidden";
}

}  // namespace
}  // namespace dermis
