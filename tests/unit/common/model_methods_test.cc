#include "common/model_methods.h"

#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/background.h"
#include "common/checks.h"
#include "common/spec_yaml.h"
#include "common/tasks.h"

namespace dermis {
namespace {

using testing::HasSubstr;

constexpr char kAll[] =
    "name: a\ntraining: {model: resnet18}\nexplanation: {output: logit, methods: [deep_shap, "
    "expected_gradients, integrated_gradients, smooth_grad, cam, grad_cam, grad_cam_plus_plus, "
    "hires_cam, layer_cam, activation_maps]}\n";

struct Study {
  explicit Study(const std::string& yaml = kAll) {
    spec = ResolveSpec(*ParseStudyYaml(yaml, "s.yaml")).value();
    images.set_size(32);
    model.set_weights(std::string(32, 'w'));
  }
  v1::TaskSpec Task(int method, uint64_t seed = 1) const {
    return MakeTask(ModelTaskOf(spec.explanation().methods(method),
                                {images, 17, model, spec.explanation(), seed}),
                    "cpu/test");
  }
  v1::StudySpec spec;
  v1::ImageSource images;
  v1::ModelRef model;
};

TEST(ModelMethodsTest, EachNamesItsImageModelAndOutput) {
  const Study study;
  const char* const names[] = {
      "deep_shap", "expected_gradients", "integrated_gradients", "smooth_grad",
      "cam",       "activations",        "grad_cam_plus_plus",   "hires_cam",
      "layer_cam", "activations"};
  for (int m = 0; m < study.spec.explanation().methods_size(); ++m) {
    const v1::TaskSpec task = study.Task(m);
    EXPECT_EQ(Describe(task), std::string(names[m]) + " of image 17");
    EXPECT_EQ(task.has_gradient(), m < 4);
    EXPECT_EQ(task.has_gradient() ? task.gradient().output() : task.activations().output(),
              v1::OUTPUT_KIND_LOGIT);
  }
  EXPECT_EQ(*TaskDigest(study.Task(5)), *TaskDigest(study.Task(9)))
      << "Grad-CAM and activation maps are one task";
}

TEST(ModelMethodsTest, OnlyWhatDrawsDependsOnTheSeed) {
  const Study study;
  for (int m = 0; m < study.spec.explanation().methods_size(); ++m) {
    const v1::MethodSpec& method = study.spec.explanation().methods(m);
    const bool draws =
        method.has_deep_shap() || method.has_expected_gradients() || method.has_smooth_grad();
    EXPECT_EQ(*TaskDigest(study.Task(m, 1)) != *TaskDigest(study.Task(m, 2)), draws) << m;
  }
}

TEST(ModelMethodsTest, OnlyMeansOverDraws_AskForStandardErrors) {
  const Study study;
  for (int m = 0; m < 4; ++m) {
    const v1::GradientTask task = study.Task(m).gradient();
    EXPECT_EQ(task.standard_errors(), task.has_expected_gradients() || task.has_smooth_grad());
  }
  // What an attribution is compared with needs none.
  v1::StabilityTask stability;
  *stability.mutable_attribution() = study.Task(3);
  stability.set_seeds(1);
  stability.set_noise_draws(1);
  for (const v1::TaskSpec& need : NeedsOf([&] {
         v1::TaskSpec task;
         *task.mutable_stability() = stability;
         return MakeTask(task, "cpu/test");
       }())) {
    if (!need.has_gradient()) continue;
    const bool own = *TaskDigest(need) == *TaskDigest(study.Task(3));
    EXPECT_EQ(need.gradient().standard_errors(), own);
  }
}

TEST(ModelMethodsTest, DefaultsAreFilled_TheBackgroundOnlyWhereItIsLookedAt) {
  const Study study;
  EXPECT_EQ(study.spec.explanation().background().per_class(), kBackgroundPerClass);
  EXPECT_EQ(study.Task(0).gradient().background().per_class(), kBackgroundPerClass);
  EXPECT_EQ(study.Task(1).gradient().expected_gradients().samples(), 200u);
  EXPECT_EQ(study.Task(2).gradient().integrated_gradients().steps(), 50u);
  EXPECT_FALSE(study.Task(2).gradient().has_background());
  EXPECT_EQ(study.Task(3).gradient().smooth_grad().noise(), 0.1);
  const Study other("name: a\nexplanation: {methods: [smooth_grad, hires_cam]}\n");
  EXPECT_FALSE(other.spec.explanation().has_background());
  const Study small("name: a\nexplanation: {background: {per_class: 7}, methods: [deep_shap]}\n");
  EXPECT_EQ(small.Task(0).gradient().background().per_class(), 7u);
}

TEST(ModelMethodsTest, WhatTheModelCannotGive_IsRefused) {
  const auto why = [](const std::string& yaml) {
    return std::string(ResolveSpec(*ParseStudyYaml(yaml, "s.yaml")).status().message());
  };
  EXPECT_THAT(why("name: a\nexplanation: {methods: [cam]}\n"), HasSubstr("hires_cam"));
  EXPECT_THAT(why("name: a\ntraining: {model: resnet18}\nexplanation: {output: probability, "
                  "methods: [cam]}\n"),
              HasSubstr("margin or a logit"));
  EXPECT_THAT(why("name: a\nexplanation: {methods: [{smooth_grad: {noise: 2}}]}\n"),
              HasSubstr("smooth_grad.noise"));
  EXPECT_THAT(why("name: a\nexplanation: {background: {per_class: 0}, methods: [deep_shap]}\n"),
              HasSubstr("per_class"));
}

v1::Payload Pixels() {
  v1::Payload payload;
  v1::PixelAttribution& pixels = *payload.mutable_gradient();
  pixels.set_height(2);
  pixels.set_width(1);
  pixels.set_channels(3);
  for (int i = 0; i < 6; ++i) pixels.add_values(static_cast<float>(i));
  pixels.set_reference(0);
  pixels.set_additivity_residual(0);
  pixels.set_background(std::string(32, 'b'));
  return payload;
}

TEST(ModelMethodsTest, PayloadsThatDoNotFit_AreRefused) {
  const Study study;
  const auto why = [&](const v1::Payload& payload, int method = 0) {
    return std::string(CheckPayload(study.Task(method), payload).message());
  };
  EXPECT_EQ(why(Pixels()), "");
  v1::Payload payload = Pixels();
  payload.mutable_gradient()->add_values(1);
  EXPECT_THAT(why(payload), HasSubstr("7 values for 2 x 1 x 3"));
  payload = Pixels();
  payload.mutable_gradient()->set_values(2, INFINITY);
  EXPECT_THAT(why(payload), HasSubstr("not finite"));
  payload = Pixels();
  payload.mutable_gradient()->clear_background();
  EXPECT_THAT(why(payload), HasSubstr("background"));
  EXPECT_THAT(why(Pixels(), 3), HasSubstr("background"));
  payload = Pixels();
  payload.mutable_gradient()->add_standard_errors(1);
  payload.mutable_gradient()->add_standard_errors(1);
  EXPECT_THAT(why(payload, 1), HasSubstr("2 standard errors for 2 x 1")) << "none of the sum";
  payload.mutable_gradient()->set_sum_standard_error(2);
  EXPECT_EQ(why(payload, 1), "");
  EXPECT_THAT(why(payload, 0), HasSubstr("standard errors")) << "deep_shap draws nothing";
  payload.mutable_gradient()->set_standard_errors(1, INFINITY);
  EXPECT_THAT(why(payload, 1), HasSubstr("not finite"));
  payload = Pixels();
  payload.mutable_gradient()->clear_reference();
  EXPECT_THAT(why(payload), HasSubstr("come together"));

  v1::Payload maps;
  v1::LayerMaps& layer = *maps.mutable_activations()->add_layers();
  layer.set_layer("layer4");
  layer.set_channels(1);
  layer.set_height(1);
  layer.set_width(1);
  layer.add_cam(1);
  EXPECT_EQ(why(maps, 7), "");
  EXPECT_THAT(why(maps, 8), HasSubstr("do not fit")) << "that of -f is missing";
  EXPECT_THAT(why(maps, 5), HasSubstr("do not fit"));
}

}  // namespace
}  // namespace dermis
