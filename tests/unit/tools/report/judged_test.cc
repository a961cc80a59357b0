#include "tools/report/judged.h"

#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/unit/tools/report/fake_judged.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr JudgeOptions kQuick{100, 99, 1};

// "malignant" holds a "nan" of its own.
std::string WithoutClass(const std::string& html) {
  return absl::StrReplaceAll(html, {{"malignant", ""}});
}

TEST(Judged, ShowsEveryPart_InWords) {
  const FakeJudged fake = MakeFakeJudged(600, 1, false, kQuick);
  const std::string html = RenderJudged(fake.view, fake.manifest);
  for (const char* part :
       {"Table 1", "Operating points", "Calibration", "decision curve", "Subgroups",
        "Over training seeds", "Comparisons", "Leak check", "of 100 malignant images",
        "No image stands in two parts", "Seed network − Random forest", "DeLong", "mid-p"}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
  EXPECT_THAT(WithoutClass(html), Not(HasSubstr("nan")));
  EXPECT_THAT(html, Not(HasSubstr("not a number")));
  EXPECT_THAT(html, Not(HasSubstr("inf<")));
  EXPECT_EQ(html, RenderJudged(fake.view, fake.manifest));
}

TEST(Judged, SaysWhyThereIsNoTest_AndNamesWhatLeaks) {
  const FakeJudged fake = MakeFakeJudged(600, 2, true, kQuick);
  const std::string html = RenderJudged(fake.view, fake.manifest);
  EXPECT_THAT(html, HasSubstr("lesions have more than one test image"));
  EXPECT_THAT(html, HasSubstr("near-duplicate"));
  EXPECT_THAT(html, HasSubstr("the same pixels"));
  EXPECT_THAT(html, HasSubstr("ISIC_1000009.jpg"));
  EXPECT_THAT(WithoutClass(html), Not(HasSubstr("nan")));
}

TEST(Judged, EscapesNames) {
  FakeJudged fake = MakeFakeJudged(300, 1, false, kQuick);
  fake.view.models[0].name = fake.view.comparisons[0].first = "<b>&";
  fake.view.models[0].positive = "<i>";
  fake.view.models[0].subgroups[0].value = "<u>";
  const std::string html = RenderJudged(fake.view, fake.manifest);
  for (const char* raw : {"<b>&", "<i>", "<u>"}) EXPECT_THAT(html, Not(HasSubstr(raw)));
}

TEST(Judged, IsNothing_WhereNothingWasJudged) {
  EXPECT_EQ(RenderJudged({}, {}), "");
  JudgedView view;
  view.leaks = LeakReport{};
  view.leaks->not_looked_for = "there are no fingerprints of the images";
  EXPECT_THAT(RenderJudged(view, {}), HasSubstr("were not looked for"));
}

TEST(Judged, WithoutARule_ClaimsNothingOfValidationImages) {
  FakeJudged fake = MakeFakeJudged(300, 1, false, kQuick);
  fake.view.models.resize(1);
  fake.view.comparisons.clear();
  EvaluationReport& model = fake.view.models[0];
  model.rule_unknown = true;
  model.runs = 1;
  model.validation_images = 0;
  model.operating_points.clear();
  const std::string html = RenderJudged(fake.view, fake.manifest);
  EXPECT_THAT(html, HasSubstr("At a threshold of .5, of 100 "));
  EXPECT_THAT(html, HasSubstr("no temperature is known"));
  EXPECT_THAT(html, HasSubstr("Not available: the validation images that would choose"));
  for (const char* claim : {"validation images chose", "validation-chosen", "after temperature",
                            "fitted on the validation", "(Youden)"}) {
    EXPECT_THAT(html, Not(HasSubstr(claim)));
  }
  EXPECT_THAT(WithoutClass(html), Not(HasSubstr("nan")));
}

TEST(Judged, BearsNumbersThatAreNotThere) {
  FakeJudged fake = MakeFakeJudged(300, 1, false, kQuick);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EvaluationReport& model = fake.view.models[0];
  for (Estimate* e : {&model.at_half.precision, &model.before.slope, &model.after.slope,
                      &model.operating_points[0].precision}) {
    *e = {nan, {nan, nan}};
  }
  model.operating_points[3].threshold = std::numeric_limits<double>::infinity();
  model.temperature.at_bound = true;
  model.subgroups.clear();
  const std::string html = RenderJudged(fake.view, fake.manifest);
  EXPECT_THAT(WithoutClass(html), Not(HasSubstr("nan")));
  EXPECT_THAT(html, HasSubstr("nobody"));
  EXPECT_THAT(html, HasSubstr("at its bound"));
  EXPECT_THAT(html, HasSubstr("nothing of its images"));
}

TEST(Judged, DrawsSubgroups_WhereAllAreRight) {
  FakeJudged fake = MakeFakeJudged(300, 1, false, kQuick);
  EvaluationReport& model = fake.view.models[0];
  model.at_chosen.recall = {1, {1, 1}};
  ASSERT_FALSE(model.subgroups.empty());
  for (Subgroup& row : model.subgroups) row.sensitivity.estimate = {1, {1, 1}};
  EXPECT_THAT(WithoutClass(RenderJudged(fake.view, fake.manifest)), Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace dermis
