#include "tools/report/lesion.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/tools/report/fake_lesions.h"
#include "tests/unit/tools/report/fake_study.h"
#include "tools/report/forest.h"

namespace dermis {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string Report(const FakeStudy& study) {
  auto html = RenderReport(study.results, study.Inputs());
  EXPECT_TRUE(html.ok()) << html.status();
  return html.ok() ? *html : "";
}

// Before the numbers.
std::string FirstScreen(const std::string& html) {
  const size_t main = html.find("<main>"), tiles = html.find("<div class=\"tiles\">");
  EXPECT_LT(main, tiles);
  return html.substr(main, tiles - main);
}

TEST(LesionReport, ANetworkThatDoesWithoutTheLesionIsSaidOnTheFirstScreen) {
  FakeStudy study(80, 64, 1);
  AddFakeLesions(study, .68);
  EXPECT_THAT(
      FirstScreen(Report(study)),
      AllOf(HasSubstr("Shortcut: this network tells malignant from benign without the lesion"),
            HasSubstr("0.680 (95 % interval 0.600 to 0.760)"), HasSubstr("the blurred image")));
}

TEST(LesionReport, AnIntervalThatHoldsChanceIsNoWarning) {
  FakeStudy study(80, 64, 1);
  AddFakeLesions(study, .57);
  const std::string html = Report(study);
  EXPECT_THAT(FirstScreen(html), Not(HasSubstr("Shortcut")));
  EXPECT_THAT(html, HasSubstr("surroundings only"));
}

TEST(LesionReport, SaysThePrimaryHypothesis_ItsUnitAndItsMasks) {
  FakeStudy study(80, 64, 1);
  AddFakeLesions(study, .5);
  const std::string html = RenderLesions(study.results, study.Inputs());
  EXPECT_THAT(html, AllOf(HasSubstr("Primary hypothesis, both bands over core: supported."),
                          HasSubstr("p = 0.004, one-sided, 512 lesions, against zones shifted"),
                          HasSubstr("lesion masks (origin: expert)"), HasSubstr("Holm-adjusted")));
  // Share per area of the inner band.
  EXPECT_THAT(html, HasSubstr("<td>3.50</td>"));
  EXPECT_THAT(html, HasSubstr("both bands over core, malignant"));
}

TEST(LesionReport, DoesNotCallMasksExpertThatNobodyCalledSo) {
  FakeStudy study(80, 64, 1);
  AddFakeLesions(study, .5, .3);
  v1::Payload& payload = study.payloads.at(study.results.lesion_test().result().task());
  payload.mutable_lesion_summary()->clear_mask_origin();
  const std::string html = RenderLesions(study.results, study.Inputs());
  EXPECT_THAT(html, AllOf(HasSubstr("lesion masks of unknown origin"), Not(HasSubstr("expert")),
                          HasSubstr("not supported")));
}

TEST(LesionReport, WhatIsNotThereYetIsSaid_AndWhatNobodyAskedForIsNot) {
  FakeStudy study(80, 64, 1);
  EXPECT_EQ(RenderLesions(study.results, study.Inputs()), "");
  AddFakeLesions(study, .5);
  study.results.mutable_lesion_test()->clear_result();
  study.results.mutable_shortcut()->clear_result();
  const std::string html = RenderLesions(study.results, study.Inputs());
  EXPECT_THAT(html, AllOf(HasSubstr("The lesion test is not there yet"),
                          HasSubstr("The shortcut check is not there yet")));
  EXPECT_EQ(RenderLesionWarnings(study.results, study.Inputs()), "");
}

TEST(LesionReport, ANetworkTrainedOnTheSurroundingsAloneIsWarnedOf) {
  FakeStudy study(80, 64, 1);
  EXPECT_TRUE(RetrainedWarnings(study.results, study.images->manifest()).empty());
  v1::HideSpec& hide = *study.results.mutable_spec()->mutable_images()->mutable_hide();
  hide.set_show(v1::LESION_REGION_SURROUNDINGS);
  hide.set_hidden(v1::HIDDEN_VALUE_INPAINT);
  // Logits that know the class.
  for (int i = 0; i < study.results.test_images_size(); ++i) {
    const uint32_t label =
        study.images->manifest().images(static_cast<int>(study.results.test_images(i))).label();
    study.results.set_test_logits(2 * i, 0);
    study.results.set_test_logits(2 * i + 1, label == 1 ? 1.f : -1.f);
  }
  const auto warnings = RetrainedWarnings(study.results, study.images->manifest());
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0],
              AllOf(HasSubstr("trained on the surroundings alone"), HasSubstr("1.000")));
  hide.set_show(v1::LESION_REGION_LESION);
  EXPECT_TRUE(RetrainedWarnings(study.results, study.images->manifest()).empty());
}

TEST(Forest, ClampsWhatLiesBeyondItsAxis_AndEscapes) {
  Forest forest;
  forest.title = "a < b";
  forest.rows = {{"head", true}, {"x & y", false, true, 0, -9, 9, "p"}};
  const std::string svg = RenderForest(forest);
  EXPECT_THAT(svg, AllOf(HasSubstr("a &lt; b"), HasSubstr("x &amp; y"), HasSubstr("M268.0"),
                         HasSubstr("H624.0")));
}

}  // namespace
}  // namespace dermis
