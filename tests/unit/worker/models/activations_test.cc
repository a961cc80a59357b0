#include "worker/models/activations.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <torch/types.h>

#include "common/philox.h"
#include "worker/models/model.h"
#include "worker/models/seed_cnn.h"

namespace dermis {
namespace {

constexpr uint32_t kSize = 16;

Model RandomModel() {
  Model model;
  model.layout = *LayoutOf(v1::MODEL_KIND_SEED_CNN, kSize, 2);
  model.pixel_mean = 120;
  model.pixel_deviation = 50;
  InitializeModel(3, model);
  return model;
}

ImageData OneImage() {
  ImageData data;
  data.size = kSize;
  data.classes = 2;
  data.labels = {0};
  for (uint32_t i = 0; i < kSize * kSize * 3; ++i) {
    data.pixels.push_back(static_cast<uint8_t>(PhiloxBlock(5, Purpose::kTest, 0, 0, i)[0]));
  }
  return data;
}

v1::ActivationTask TaskOf(v1::OutputKind output) {
  v1::ActivationTask task;
  task.mutable_model()->set_kind(v1::MODEL_KIND_SEED_CNN);
  task.set_output(output);
  return task;
}

TEST(ActivationsTest, Layers_HaveTheNetworksShapes) {
  const auto out =
      RunActivations(TaskOf(v1::OUTPUT_KIND_MARGIN), OneImage(), SerializeModel(RandomModel()));
  ASSERT_TRUE(out.ok()) << out.status();
  ASSERT_EQ(out->layers_size(), 6);
  for (int k = 0; k < 6; ++k) {
    const v1::LayerMaps& maps = out->layers(k);
    EXPECT_EQ(maps.layer(), "conv" + std::to_string(k + 1));
    EXPECT_EQ(maps.channels(), 32u << (k / 2));
    EXPECT_EQ(maps.height(), kSize >> (k / 2));
    EXPECT_EQ(maps.activations_size(),
              static_cast<int>(maps.channels() * maps.height() * maps.width()));
    EXPECT_EQ(maps.grad_cam_size(), static_cast<int>(maps.height() * maps.width()));
    for (float v : maps.activations())
      EXPECT_GE(v, -1.0f);  // ELU's range: tapped before batch norm.
  }
}

// Grad-CAM of the last layer where it can be had by hand: the gradient there is routed by the
// pooling alone.
TEST(ActivationsTest, LastGradCam_IsTheDenseLayersThroughThePooling) {
  const Model model = RandomModel();
  const auto out =
      RunActivations(TaskOf(v1::OUTPUT_KIND_MARGIN), OneImage(), SerializeModel(model));
  ASSERT_TRUE(out.ok()) << out.status();
  const v1::LayerMaps& maps = out->layers(5);
  const int side = static_cast<int>(maps.height()), half = side / 2;
  std::vector<double> expected(side * side, 0.0);
  for (int c = 0; c < 128; ++c) {
    // Batch norm is linear with scale gamma / sqrt(1 + eps) = positive; each window passes its
    // dense weight on.
    double alpha = 0;
    for (int p = 0; p < half * half; ++p) {
      const int j = c * half * half + p;
      alpha += (model.at("dense.weight")[128 * half * half + j] - model.at("dense.weight")[j]) /
               std::sqrt(1 + 1e-3);
    }
    alpha /= side * side;
    for (int p = 0; p < side * side; ++p)
      expected[p] += alpha * maps.activations(c * side * side + p);
  }
  for (int p = 0; p < side * side; ++p) EXPECT_NEAR(maps.grad_cam(p), expected[p], 1e-5);
}

// Where fc follows the average of the last stage, Grad-CAM there is CAM (Zhou 2016): fc's weights.
TEST(ActivationsTest, ResNetsLastGradCam_IsItsClassActivationMap) {
  Model model;
  model.layout = *LayoutOf(v1::MODEL_KIND_RESNET18, kSize, 2, v1::STEM_SMALL);
  model.pixel_mean = 120;
  model.pixel_deviation = 50;
  InitializeModel(3, model);
  v1::ActivationTask task = TaskOf(v1::OUTPUT_KIND_MARGIN);
  task.mutable_model()->set_kind(v1::MODEL_KIND_RESNET18);
  const auto out = RunActivations(task, OneImage(), SerializeModel(model));
  ASSERT_TRUE(out.ok()) << out.status();
  ASSERT_EQ(out->layers_size(), 5);
  EXPECT_EQ(out->layers(0).layer(), "conv1");
  EXPECT_EQ(out->layers(0).height(), kSize);
  const v1::LayerMaps& maps = out->layers(4);
  EXPECT_EQ(maps.layer(), "layer4");
  ASSERT_EQ(maps.channels(), 512u);
  const int pixels = static_cast<int>(maps.height() * maps.width());
  ASSERT_EQ(pixels, 4);
  for (int p = 0; p < pixels; ++p) {
    double expected = 0;
    for (int c = 0; c < 512; ++c) {
      expected += (model.at("fc.weight")[512 + c] - model.at("fc.weight")[c]) / pixels *
                  maps.activations(c * pixels + p);
    }
    EXPECT_NEAR(maps.grad_cam(p), expected, 1e-4 * (1 + std::abs(expected)));
  }
}

TEST(ActivationsTest, Probability_IsTheMarginsMapScaled) {
  const std::string weights = SerializeModel(RandomModel());
  const auto margin = RunActivations(TaskOf(v1::OUTPUT_KIND_MARGIN), OneImage(), weights);
  const auto probability = RunActivations(TaskOf(v1::OUTPUT_KIND_PROBABILITY), OneImage(), weights);
  ASSERT_TRUE(margin.ok() && probability.ok());
  // Two classes: dp = p (1 - p) d(margin).
  const double ratio = probability->layers(2).grad_cam(7) / margin->layers(2).grad_cam(7);
  EXPECT_GT(ratio, 0);
  EXPECT_LE(ratio, 0.2501);
  for (int p = 0; p < margin->layers(2).grad_cam_size(); ++p) {
    EXPECT_NEAR(probability->layers(2).grad_cam(p), ratio * margin->layers(2).grad_cam(p), 1e-5);
  }
}

TEST(ActivationsTest, WrongInputs_AreErrors) {
  const std::string weights = SerializeModel(RandomModel());
  v1::ActivationTask task = TaskOf(v1::OUTPUT_KIND_MARGIN);
  task.set_image(1);
  EXPECT_THAT(std::string(RunActivations(task, OneImage(), weights).status().message()),
              testing::HasSubstr("no image 1"));
  ImageData other = OneImage();
  other.size = 8;
  EXPECT_FALSE(RunActivations(TaskOf(v1::OUTPUT_KIND_MARGIN), other, weights).ok());
  EXPECT_FALSE(RunActivations(TaskOf(v1::OUTPUT_KIND_MARGIN), OneImage(), "junk").ok());
}

}  // namespace
}  // namespace dermis
