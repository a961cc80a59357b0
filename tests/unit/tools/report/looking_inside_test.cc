#include "tools/report/looking_inside.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/digest.h"
#include "tests/unit/tools/report/fake_study.h"
#include "tools/report/picture.h"

namespace dermis {
namespace {

using testing::HasSubstr;
using testing::Not;

Scene SomeScene(double cam_sign = 1) {
  Scene scene;
  scene.id = "picture1";
  scene.width = scene.height = 8;
  scene.positive = "malignant";
  scene.cam_sign = cam_sign;
  return scene;
}

v1::PixelAttribution Pixels() {
  v1::PixelAttribution pixels;
  pixels.set_height(2);
  pixels.set_width(2);
  pixels.set_channels(3);
  // Sums of the channels: 0.5, -0.25, 0, 0.125.
  for (const float v :
       {0.25f, 0.125f, 0.125f, -0.5f, 0.25f, 0.f, 1.f, -1.f, 0.f, 0.f, 0.f, 0.125f}) {
    pixels.add_values(v);
  }
  pixels.set_full(1.5);
  pixels.set_reference(1.125);
  pixels.set_additivity_residual(3e-7);
  pixels.set_background(std::string(32, '\xab'));
  pixels.set_evaluations(100);
  return pixels;
}

TEST(LookingInsideTest, Pixels_AreTheSumsOfTheirChannels_RedAboveAndBlueBelow) {
  const std::string html = PixelFigure(SomeScene(), Pixels(), "DeepSHAP");
  // Limit: the 99.9th percentile of .5, .25, 0, .125.
  const double limit = 0.5 - 0.25 * 0.003;
  EXPECT_THAT(html,
              HasSubstr(PngUri(ShapleyOverlay({0.5, -0.25, 0, 0.125}, {0, 1, 2, 3}, 2, 2, limit))));
  EXPECT_THAT(html, HasSubstr("opacity=\".15\""));
  EXPECT_THAT(html, HasSubstr("towards <em>malignant</em>"));
}

TEST(LookingInsideTest, Numbers_SayWhatIsNotAvailable) {
  const std::string row = PixelNumbersRow(Pixels(), "DeepSHAP");
  EXPECT_THAT(row, HasSubstr("<td>100</td><td>1.500</td><td>1.125</td><td>3.0e-07</td>"));
  EXPECT_THAT(row, HasSubstr("<code>abababababab</code>"));
  const std::string none = "<td class=\"none\">not available</td>";
  EXPECT_THAT(row, HasSubstr("<td>3.0e-07</td>" + none + none + "<td><code>"))
      << "it draws nothing";
  v1::PixelAttribution drawn = Pixels();
  for (const float error : {0.02f, 0.01f, 0.03f, 0.02f}) drawn.add_standard_errors(error);
  drawn.set_sum_standard_error(0.125);
  EXPECT_THAT(PixelNumbersRow(drawn, "Expected gradients"),
              HasSubstr("<td>3.0e-07</td><td>1.2e-01</td><td>3.0e-02</td><td><code>"));
  v1::PixelAttribution smooth = Pixels();
  smooth.clear_reference();
  smooth.clear_additivity_residual();
  smooth.clear_background();
  EXPECT_THAT(PixelNumbersRow(smooth, "SmoothGrad"), HasSubstr(none + none + none + none + none));
}

TEST(LookingInsideTest, ValuesThatDoNotFit_AreAnError) {
  v1::PixelAttribution pixels = Pixels();
  pixels.add_values(1);
  EXPECT_FALSE(CheckPixels(pixels).ok());
  EXPECT_TRUE(CheckPixels(Pixels()).ok());
  EXPECT_FALSE(CheckPixels({}).ok());
}

v1::ActivationOutput Maps(std::initializer_list<float> cam) {
  v1::ActivationOutput maps;
  v1::LayerMaps& layer = *maps.add_layers();
  layer.set_layer("pool3");
  layer.set_height(1);
  layer.set_width(2);
  for (const float v : cam) layer.add_cam(v);
  maps.set_full(2.25);
  return maps;
}

TEST(LookingInsideTest, Cam_ShowsItsOwnGridBeside_AndSaysWhereItIsExact) {
  v1::ActivationOutput maps = Maps({1, 3});
  EXPECT_THAT(CamSection(SomeScene(), "HiResCAM", maps, true), Not(HasSubstr("exact")));
  maps.mutable_layers(0)->set_offset(-1.75);
  const std::string html = CamSection(SomeScene(), "HiResCAM", maps, true);
  EXPECT_THAT(html, HasSubstr("class=\"native\""));
  EXPECT_THAT(html, HasSubstr(PngUri(Heat({0, 1}, 2, 1, Inferno))));
  EXPECT_THAT(html, HasSubstr("−1.750 add up to 2.250 (f(x) = 2.250)"));
}

TEST(LookingInsideTest, CamWithoutAPositiveValue_SaysSo) {
  const std::string html = CamSection(SomeScene(), "HiResCAM", Maps({-1, -3}), true);
  EXPECT_THAT(html, HasSubstr("no positive evidence</text>"));
  EXPECT_THAT(html, Not(HasSubstr("class=\"native\"")));
  EXPECT_THAT(CamSection(SomeScene(-1), "HiResCAM", Maps({-1, -3}), true),
              Not(HasSubstr("no positive")))
      << "minus a linear map is the map of -f";
}

TEST(LookingInsideTest, CamOfMinusF_IsAMapOfItsOwn_WhereTheResultHasOne) {
  const v1::ActivationOutput maps = Maps({-1, -3, 5, 2});
  EXPECT_THAT(CamSection(SomeScene(), "Layer-CAM", maps, true), HasSubstr("no positive evidence"));
  EXPECT_THAT(CamSection(SomeScene(-1), "Layer-CAM", maps, true),
              HasSubstr(PngUri(Heat({1, 0}, 2, 1, Inferno))));
  EXPECT_THAT(CamSection(SomeScene(), "Layer-CAM", Maps({1, 2, 3}), true),
              HasSubstr("differ in size"));
}

TEST(LookingInsideTest, AReport_HasThemAll) {
  FakeStudy study(60, 32, 1);
  const auto add = [&](v1::Payload payload) {
    v1::MethodResult& result = *study.results.mutable_explained(0)->add_results();
    result.mutable_result()->set_task(
        Sha256Of(absl::StrCat(study.payloads.size(), "more")).bytes());
    study.payloads[result.result().task()] = std::move(payload);
    return result.mutable_method();
  };
  v1::Payload pixels, maps;
  *pixels.mutable_gradient() = Pixels();
  *maps.mutable_activations() = Maps({1, 3});
  add(pixels)->mutable_deep_shap();
  add(pixels)->mutable_smooth_grad();
  add(maps)->mutable_hires_cam();
  add(v1::Payload())->mutable_integrated_gradients();
  const auto html = RenderReport(study.results, study.Inputs());
  ASSERT_TRUE(html.ok()) << html.status();
  EXPECT_THAT(*html, HasSubstr("<b>DeepSHAP</b>"));
  EXPECT_THAT(*html,
              HasSubstr("<th>largest standard error of a pixel</th><th>background set</th>"));
  EXPECT_THAT(*html, HasSubstr("<details><summary>HiResCAM by layer"));
  EXPECT_THAT(*html, HasSubstr("<details open><summary>Grad-CAM by layer"));
  EXPECT_THAT(*html, HasSubstr("<b>Integrated gradients</b> the attribution"));
}

}  // namespace
}  // namespace dermis
