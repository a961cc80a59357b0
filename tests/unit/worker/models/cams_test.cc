#include "worker/models/cams.h"

#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <torch/types.h>

#include "common/model_methods.h"
#include "common/philox.h"
#include "worker/models/activations.h"
#include "worker/models/model.h"

namespace dermis {
namespace {

using testing::HasSubstr;

TEST(CamsTest, OfTwoChannelsByHand) {
  const std::vector<float> maps = {1, 2, 3, 0, -1, 2}, gradient = {1, -1, 3, 2, 0, -2};
  const LayerView layer{maps, gradient, 2, 3};
  EXPECT_THAT(GradCam(layer), testing::ElementsAre(1, 2, 3));  // Means 1 and 0.
  EXPECT_THAT(HiresCam(layer), testing::ElementsAre(1, -2, 9 - 4));
  EXPECT_THAT(LayerCam(layer), testing::ElementsAre(1, 0, 9));
  // Sums of the maps: 6 and 1. a = g^2 / (2 g^2 + sum g^3 + 1e-6).
  const double first = 1 / (2 + 6 + 1e-6) + 3 * 9 / (18 + 6 * 27 + 1e-6);
  const double second = 2 * 4 / (8 + 8 + 1e-6);
  const std::vector<float> plus = GradCamPlusPlus(layer);
  EXPECT_FLOAT_EQ(plus[0], static_cast<float>(first * 1));
  EXPECT_FLOAT_EQ(plus[2], static_cast<float>(first * 3 + second * 2));
}

struct Case {
  v1::ModelKind kind;
  v1::Stem stem;
  uint32_t size;
  const char* layer;
};

class ExactCamTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    model_.layout = *LayoutOf(GetParam().kind, GetParam().size, 2, GetParam().stem);
    model_.pixel_mean = 120;
    model_.pixel_deviation = 50;
    InitializeModel(3, model_);
    // A bias of the last layer that is not 0, or its share would go unseen.
    const char* const bias = GetParam().kind == v1::MODEL_KIND_SEED_CNN ? "dense.bias" : "fc.bias";
    const ParameterSpec& spec = model_.layout.parameter(bias);
    model_.parameters[spec.offset] = 0.375f;
    model_.parameters[spec.offset + 1] = -1.25f;
    data_.size = GetParam().size;
    data_.classes = 2;
    data_.labels = {0};
    for (uint32_t i = 0; i < data_.image_bytes(); ++i) {
      data_.pixels.push_back(static_cast<uint8_t>(PhiloxBlock(5, Purpose::kTest, 0, 0, i)[0]));
    }
  }

  absl::StatusOr<v1::ActivationOutput> Run(v1::CamKind kind, v1::OutputKind output) const {
    v1::ActivationTask task;
    task.mutable_model()->set_kind(GetParam().kind);
    task.set_output(output);
    task.set_cam(kind);
    return RunActivations(task, data_, SerializeModel(model_));
  }

  Model model_;
  ImageData data_;
};

// The seed's claim for its own network holds for this map alone.
TEST_P(ExactCamTest, HiresCamOfWhatTheLastLayerReads_AddsUpToTheOutput) {
  for (const auto output : {v1::OUTPUT_KIND_MARGIN, v1::OUTPUT_KIND_LOGIT}) {
    const auto maps = Run(v1::CAM_KIND_HIRES_CAM, output);
    ASSERT_TRUE(maps.ok()) << maps.status();
    const v1::LayerMaps& last = maps->layers(maps->layers_size() - 1);
    EXPECT_EQ(last.layer(), GetParam().layer);
    ASSERT_TRUE(last.has_offset());
    EXPECT_EQ(last.offset(), output == v1::OUTPUT_KIND_MARGIN ? -1.625 : -1.25);
    double sum = last.offset(), magnitude = 0;
    for (const float v : last.cam()) {
      sum += v;
      magnitude += std::abs(v);
    }
    EXPECT_GT(magnitude, 0.01);
    EXPECT_NEAR(sum, maps->full(), 1e-5);
    for (int k = 0; k + 1 < maps->layers_size(); ++k) EXPECT_FALSE(maps->layers(k).has_offset());
  }
  const auto probability = Run(v1::CAM_KIND_HIRES_CAM, v1::OUTPUT_KIND_PROBABILITY);
  ASSERT_TRUE(probability.ok()) << probability.status();
  for (const v1::LayerMaps& layer : probability->layers()) EXPECT_FALSE(layer.has_offset());
}

TEST_P(ExactCamTest, CamIsThatMapOfAResNet_AndAnErrorElsewhere) {
  const auto cam = Run(v1::CAM_KIND_CAM, v1::OUTPUT_KIND_MARGIN);
  if (GetParam().kind == v1::MODEL_KIND_SEED_CNN) {
    EXPECT_THAT(std::string(cam.status().message()), HasSubstr("hires_cam"));
    return;
  }
  ASSERT_TRUE(cam.ok()) << cam.status();
  const auto hires = Run(v1::CAM_KIND_HIRES_CAM, v1::OUTPUT_KIND_MARGIN);
  ASSERT_EQ(cam->layers_size(), 1);
  const v1::LayerMaps& last = cam->layers(0);
  EXPECT_EQ(last.SerializeAsString(), hires->layers(4).SerializeAsString());
  // By the definition: the last layer's weights on the maps, over the number of places.
  v1::ActivationTask task;
  task.mutable_model()->set_kind(GetParam().kind);
  const auto maps = RunActivations(task, data_, SerializeModel(model_));
  const int pixels = last.cam_size(), channels = static_cast<int>(last.channels());
  for (int p = 0; p < pixels; ++p) {
    double expected = 0;
    for (int c = 0; c < channels; ++c) {
      expected += (model_.at("fc.weight")[channels + c] - model_.at("fc.weight")[c]) / pixels *
                  maps->layers(4).activations(c * pixels + p);
    }
    EXPECT_NEAR(last.cam(p), expected, 1e-5 * (1 + std::abs(expected)));
  }
  EXPECT_THAT(std::string(Run(v1::CAM_KIND_CAM, v1::OUTPUT_KIND_PROBABILITY).status().message()),
              HasSubstr("probability"));
}

// Or the preview would price the checks of fewer maps than are judged.
TEST_P(ExactCamTest, AsManyLayersHaveAMap_AsIsSaidBeforeAnyRuns) {
  v1::MethodSpec grad_cam, plus, hires, layer, cam;
  grad_cam.mutable_grad_cam();
  plus.mutable_grad_cam_plus_plus();
  hires.mutable_hires_cam();
  layer.mutable_layer_cam();
  cam.mutable_cam();
  for (const v1::MethodSpec& method : {grad_cam, plus, hires, layer, cam}) {
    if (method.has_cam() && GetParam().kind == v1::MODEL_KIND_SEED_CNN) continue;
    const auto maps = Run(CamKindOf(method), v1::OUTPUT_KIND_MARGIN);
    ASSERT_TRUE(maps.ok()) << maps.status();
    EXPECT_EQ(static_cast<uint64_t>(maps->layers_size()), MapsOf(method, GetParam().kind))
        << method.ShortDebugString();
  }
}

TEST_P(ExactCamTest, OfMapsThatAreNotLinearInTheGradient_BothSignsAreThere) {
  for (const auto kind : {v1::CAM_KIND_GRAD_CAM_PLUS_PLUS, v1::CAM_KIND_LAYER_CAM}) {
    const auto maps = Run(kind, v1::OUTPUT_KIND_MARGIN);
    ASSERT_TRUE(maps.ok()) << maps.status();
    for (const v1::LayerMaps& layer : maps->layers()) {
      const int pixels = static_cast<int>(layer.height() * layer.width());
      ASSERT_EQ(layer.cam_size(), 2 * pixels);
      EXPECT_TRUE(layer.activations().empty());
      EXPECT_TRUE(layer.grad_cam().empty());
    }
  }
  // Layer-CAM of f less that of -f is the sum without its max: HiResCAM.
  const auto layer = Run(v1::CAM_KIND_LAYER_CAM, v1::OUTPUT_KIND_MARGIN);
  const auto hires = Run(v1::CAM_KIND_HIRES_CAM, v1::OUTPUT_KIND_MARGIN);
  for (int k = 0; k < layer->layers_size(); ++k) {
    const int pixels = hires->layers(k).cam_size();
    for (int p = 0; p < pixels; ++p) {
      EXPECT_NEAR(layer->layers(k).cam(p) - layer->layers(k).cam(pixels + p),
                  hires->layers(k).cam(p), 1e-4);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Networks, ExactCamTest,
    testing::Values(Case{v1::MODEL_KIND_SEED_CNN, v1::STEM_UNSPECIFIED, 32, "pool3"},
                    Case{v1::MODEL_KIND_RESNET18, v1::STEM_SMALL, 32, "layer4"},
                    Case{v1::MODEL_KIND_RESNET18, v1::STEM_IMAGENET, 64, "layer4"},
                    Case{v1::MODEL_KIND_RESNET34, v1::STEM_SMALL, 32, "layer4"},
                    Case{v1::MODEL_KIND_RESNET50, v1::STEM_SMALL, 32, "layer4"},
                    Case{v1::MODEL_KIND_RESNET50, v1::STEM_IMAGENET, 64, "layer4"}));

}  // namespace
}  // namespace dermis
