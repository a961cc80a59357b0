#include "tools/report/abcd.h"

#include <cmath>
#include <functional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/unit/tools/report/fake_study.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

constexpr int kSide = 101;

LesionShape Shape(
    const std::function<bool(double, double)>& inside,
    const std::function<int(int, int)>& grey = [](int, int) { return 120; }) {
  std::string pixels, mask;
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      mask.push_back(static_cast<char>(inside(x - 50, y - 50)));
      pixels.append(3, static_cast<char>(grey(x, y)));
    }
  }
  const auto shape = ShapeOf(pixels, mask, kSide, kSide);
  EXPECT_TRUE(shape.has_value());
  return shape.value_or(LesionShape());
}

bool Disc(double x, double y) { return std::hypot(x, y) <= 30; }

TEST(LesionShape, ADisc_IsSymmetric_RegularAndOfOneColour) {
  const LesionShape disc = Shape(Disc);
  EXPECT_LT(disc.asymmetry, .01);
  EXPECT_NEAR(disc.border, 1.11, .03)
      << "a digital disc: its outline is stairs, or eighths of a turn";
  EXPECT_NEAR(disc.diameter, 61, .01);
  EXPECT_NEAR(disc.colour, 0, 1e-4);
  EXPECT_NEAR(disc.area, M_PI * 900 / (kSide * kSide), .005);
  EXPECT_FALSE(disc.cut);
}

TEST(LesionShape, AnEllipse_IsSymmetricHoweverItLies) {
  for (const double angle : {0.0, 0.3, 0.8, 2.0}) {
    const LesionShape ellipse = Shape([&](double x, double y) {
      const double u = x * std::cos(angle) + y * std::sin(angle),
                   v = y * std::cos(angle) - x * std::sin(angle);
      return std::hypot(u / 40, v / 15) <= 1;
    });
    EXPECT_LT(ellipse.asymmetry, .06) << angle;
    EXPECT_NEAR(ellipse.diameter, 81, 2) << angle;
  }
}

TEST(LesionShape, WhatIsLopsided_Ragged_OrColourful_IsFoundSo) {
  const LesionShape disc = Shape(Disc);
  const LesionShape comma =
      Shape([](double x, double y) { return Disc(x, y) || (x > 0 && y > 10 && y < 22 && x < 48); });
  EXPECT_GT(comma.asymmetry, disc.asymmetry + .05);
  const LesionShape star = Shape([](double x, double y) {
    return std::hypot(x, y) <= 26 + 6 * std::cos(9 * std::atan2(y, x));
  });
  EXPECT_GT(star.border, disc.border + .3);
  EXPECT_LT(star.asymmetry, comma.asymmetry + .1);
  const LesionShape spotted =
      Shape(Disc, [](int x, int y) { return (x / 5 + y / 5) % 2 ? 60 : 180; });
  EXPECT_GT(spotted.colour, 15);
  // What lies outside of the lesion has no say in its colour.
  EXPECT_NEAR(
      Shape(Disc, [](int x, int y) { return Disc(x - 50, y - 50) ? 120 : (x * y) % 255; }).colour,
      0, 1e-4);
}

TEST(LesionShape, OneThatIsCutOff_IsSaidToBe_AndOneOfNothing_IsNone) {
  EXPECT_TRUE(Shape([](double x, double y) { return Disc(x - 40, y); }).cut);
  const std::string pixels(3 * kSide * kSide, 'x'), none(kSide * kSide, '\0');
  EXPECT_FALSE(ShapeOf(pixels, none, kSide, kSide).has_value());
  std::string line = none;
  for (int x = 0; x < kSide; ++x) line[50 * kSide + x] = 1;
  EXPECT_FALSE(ShapeOf(pixels, line, kSide, kSide).has_value())
      << "it has no area within its outline";
}

TEST(LocalContrast, IsHighAtAnEdge_AndNothingWhereAllIsAlike) {
  std::string pixels;
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) pixels.append(3, static_cast<char>(x < 50 ? 50 : 200));
  }
  const std::vector<double> contrast = LocalContrast(pixels, kSide, kSide, 3);
  EXPECT_NEAR(contrast[50 * kSide + 10], 0, 1e-9);
  EXPECT_GT(contrast[50 * kSide + 49], 10);
  EXPECT_GT(contrast[50 * kSide + 52], 10);
}

TEST(Abcd, AMarginThatFollowsTheDiameter_IsFound_AndOneOfChanceIsNot) {
  FakeStudy study(400, 64, 0);
  for (int i = 0; i < study.results.test_images_size(); ++i) {
    const uint32_t image = study.results.test_images(i);
    const auto shape = ShapeOf(*study.images->Pixels(image), *study.images->Mask(image), 64, 64);
    ASSERT_TRUE(shape.has_value());
    study.results.set_test_logits(2 * i, 0);
    study.results.set_test_logits(2 * i + 1, static_cast<float>(shape->diameter - 40));
  }
  const auto report = JudgeAbcd(study.results, study.Inputs());
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->images, static_cast<uint64_t>(study.results.test_images_size()));
  ASSERT_EQ(report->properties.size(), 12u) << "four properties, among all and in each class";
  const auto find = [&](const std::string& property, const std::string& among) {
    for (const AbcdCorrelation& one : report->properties) {
      if (one.property == property && one.among == among) return one;
    }
    ADD_FAILURE() << property;
    return AbcdCorrelation();
  };
  EXPECT_NEAR(*find("diameter", "all").margin.rho, 1, 1e-9);
  EXPECT_NEAR(*find("diameter", "malignant").margin.rho, 1, 1e-9);
  EXPECT_THAT(RenderAbcd(*report), HasSubstr("diameter (+1.00)"));
  EXPECT_THAT(RenderAbcd(*report), HasSubstr("look within each class"));
  EXPECT_THAT(AbcdCsv(*report), HasSubstr("\r\ndiameter,malignant,"));
}

TEST(Abcd, AttributionThatFollowsContrast_IsFound) {
  FakeStudy study(120, 64, 6);
  for (const v1::ExplainedImage& explained : study.results.explained()) {
    const std::vector<double> contrast =
        LocalContrast(*study.images->Pixels(explained.image()), 64, 64, 2);
    for (const v1::MethodResult& method : explained.results()) {
      if (!method.method().has_shapley() || !method.method().shapley().superpixels().has_slic())
        continue;
      const v1::SuperpixelOutput& superpixels =
          study.payloads[method.superpixels().task()].superpixels();
      v1::Attribution& fit = *study.payloads[method.result().task()].mutable_fit();
      for (double& value : *fit.mutable_values()) value = 0;
      for (size_t p = 0; p < contrast.size(); ++p) {
        const int label = static_cast<uint8_t>(superpixels.labels()[2 * p]);
        fit.set_values(label,
                       fit.values(label) - contrast[p]);  // Its sign is not what is asked for.
      }
    }
  }
  const auto report = JudgeAbcd(study.results, study.Inputs());
  ASSERT_TRUE(report.ok()) << report.status();
  bool seen = false;
  for (const ContrastCorrelation& one : report->contrast) {
    if (one.method != "Shapley · SLIC") continue;
    seen = true;
    EXPECT_EQ(one.images, 6u);
    EXPECT_NEAR(one.mean, 1, 1e-9);
    EXPECT_NEAR(one.interval.low, 1, 1e-9);
  }
  EXPECT_TRUE(seen);
}

TEST(LesionSizes, PartTheTestImages_ByTheShareOfTheirLesion) {
  const FakeStudy study(60, 64, 0);
  const std::vector<uint32_t> test(study.results.test_images().begin(),
                                   study.results.test_images().end());
  const auto sizes = LesionSizes(*study.images, test);
  ASSERT_TRUE(sizes.ok() && sizes->has_value());
  ASSERT_EQ((*sizes)->value.size(), test.size());
  for (size_t i = 0; i < test.size(); ++i) {
    const double area =
        ShapeOf(*study.images->Pixels(test[i]), *study.images->Mask(test[i]), 64, 64)->area;
    EXPECT_EQ((*sizes)->value[i], area < .1   ? "below 10 %"
                                  : area < .3 ? "10 to below 30 %"
                                              : "30 % and above");
  }
  auto& manifest = const_cast<v1::ImageSetManifest&>(study.images->manifest());
  for (v1::ImageEntry& entry : *manifest.mutable_images()) entry.set_has_mask(false);
  EXPECT_FALSE((*LesionSizes(*study.images, test)).has_value());
}

}  // namespace
}  // namespace dermis
