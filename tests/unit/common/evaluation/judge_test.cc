#include "common/evaluation/judge.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "common/philox.h"

namespace dermis {
namespace {

// `each`: images of a lesion. 240 images: 80 validate, 160 test.
v1::ImageSetManifest Manifest(uint32_t each) {
  v1::ImageSetManifest manifest;
  manifest.add_classes("benign");
  manifest.add_classes("malignant");
  for (uint32_t i = 0; i < 240; ++i) {
    v1::ImageEntry& entry = *manifest.add_images();
    entry.set_label(i / each % 2);
    if (each > 1) entry.set_group("lesion " + std::to_string(i / each));
    v1::Attribute& attribute = *entry.add_attributes();
    attribute.set_key("sex");
    attribute.set_value(i / each % 4 < 2 ? "female" : "male");
  }
  return manifest;
}
JudgedImages Images(uint32_t each) {
  std::vector<uint32_t> validation, test;
  for (uint32_t i = 0; i < 240; ++i) (i < 80 ? validation : test).push_back(i);
  return ImagesToJudge(Manifest(each), validation, test).value();
}
ScoredRun RunOf(const JudgedImages& images, double signal, uint32_t seed) {
  ScoredRun run;
  uint32_t at = 0;
  for (const bool is_test : {false, true}) {
    for (const uint32_t label : is_test ? images.test_label : images.validation_label) {
      const auto block = PhiloxBlock(seed, Purpose::kTest, at++, 0, 0);
      const double margin =
          signal * (label - .5) + 4 * (ToUnitDouble(block[0], block[1]) - .5) + .4;
      std::vector<float>& logits = is_test ? run.test_logits : run.validation_logits;
      logits.push_back(0);
      logits.push_back(static_cast<float>(margin));
    }
  }
  return run;
}
constexpr JudgeOptions kQuick{200, 99, 1};

TEST(Judge, SaysEverything_AndItsPartsAgree) {
  const JudgedImages images = Images(1);
  const std::vector<ScoredRun> runs = {RunOf(images, 3, 1), RunOf(images, 3, 2),
                                       RunOf(images, 3, 3)};
  const auto report = JudgeModel("seed", images, runs, kQuick);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->test_images, 160u);
  EXPECT_EQ(report->test_lesions, 160u);
  EXPECT_EQ(report->test_positives, 80u);
  EXPECT_EQ(report->operating_points.size(), 7u);
  EXPECT_EQ(report->at_chosen.threshold, report->operating_points[1].threshold);
  EXPECT_EQ(report->at_chosen.accuracy.value, report->operating_points[1].accuracy.value);
  EXPECT_EQ(report->at_chosen.accuracy.interval.low,
            report->operating_points[1].accuracy.interval.low);
  ASSERT_TRUE(report->delong.has_value());
  EXPECT_DOUBLE_EQ(report->delong->area, report->at_half.area.value);
  // Two ways to the same interval.
  EXPECT_NEAR(report->delong->interval.low, report->at_half.area.interval.low, .03);
  EXPECT_EQ(report->subgroups.size(), 2u);
  EXPECT_LT(report->subgroups[0].area.estimate.interval.low,
            report->subgroups[0].area.estimate.interval.high);
  EXPECT_EQ(report->runs, 3u);
  EXPECT_EQ(report->area.values[0], report->at_half.area.value);
  EXPECT_GT(report->area.deviation, 0);
  EXPECT_EQ(report->area.low,
            *std::min_element(report->area.values.begin(), report->area.values.end()));
  EXPECT_LT(report->area.low, report->area.high);
  // Noise of three runs averages out.
  ASSERT_TRUE(report->averaged_area.has_value());
  EXPECT_GT(report->averaged_area->value, report->area.mean);
  EXPECT_LT(report->after.log_loss, report->before.log_loss + .05);
}

TEST(Judge, GivesTheSameBits_Again) {
  const JudgedImages images = Images(2);
  const std::vector<ScoredRun> runs = {RunOf(images, 2, 1)};
  const auto one = JudgeModel("m", images, runs, kQuick),
             other = JudgeModel("m", images, runs, kQuick);
  ASSERT_TRUE(one.ok() && other.ok());
  EXPECT_EQ(one->before.slope.interval.low, other->before.slope.interval.low);
  EXPECT_EQ(one->subgroups[1].area.p, other->subgroups[1].area.p);
  EXPECT_TRUE(std::isnan(one->area.deviation)) << "one run says nothing of others";
  EXPECT_FALSE(one->averaged_area.has_value());
}

TEST(JudgeSeeds, GivesJudgeModelsNumbers_WithoutValidationImages) {
  JudgedImages images = Images(2);
  std::vector<ScoredRun> runs = {RunOf(images, 2, 1), RunOf(images, 2, 2)};
  const auto whole = JudgeModel("m", images, runs, kQuick);
  images.validation_label.clear();
  images.validation_group.clear();
  for (ScoredRun& run : runs) run.validation_logits.clear();
  const auto over = JudgeSeeds(images, runs, kQuick);
  ASSERT_TRUE(whole.ok() && over.ok()) << over.status();
  EXPECT_EQ(over->areas.values, whole->area.values);
  EXPECT_EQ(over->accuracies.deviation, whole->accuracy.deviation);
  EXPECT_EQ(over->area.interval.low, whole->at_half.area.interval.low);
  EXPECT_EQ(over->accuracy.interval.high, whole->at_half.accuracy.interval.high);
  EXPECT_EQ(over->averaged_area->interval.low, whole->averaged_area->interval.low);
  EXPECT_LT(over->averaged_area->interval.low, over->averaged_area->value);
  EXPECT_GT(over->averaged_area->interval.high, over->averaged_area->value);
  const auto one = JudgeSeeds(images, {runs.data(), 1}, kQuick);
  ASSERT_TRUE(one.ok());
  EXPECT_FALSE(one->averaged_area.has_value());
  EXPECT_TRUE(std::isnan(one->areas.deviation));
}

TEST(JudgeWithRule, AsIfTheValidationImagesHadChosen_AndWithoutARuleOnlyAtHalf) {
  JudgedImages images = Images(2);
  const ScoredRun run = RunOf(images, 2, 1);
  const auto whole = JudgeModel("m", images, std::vector<ScoredRun>{run}, kQuick);
  const auto rule = ChooseRule(images, run);
  ASSERT_TRUE(whole.ok() && rule.ok());
  images.validation_label.clear();
  images.validation_group.clear();
  const auto frozen = JudgeWithRule("m", images, {{}, run.test_logits}, *rule, kQuick);
  ASSERT_TRUE(frozen.ok()) << frozen.status();
  EXPECT_FALSE(frozen->rule_unknown);
  EXPECT_EQ(frozen->at_chosen.threshold, whole->at_chosen.threshold);
  EXPECT_EQ(frozen->at_chosen.recall.interval.low, whole->at_chosen.recall.interval.low);
  EXPECT_EQ(frozen->after.log_loss, whole->after.log_loss);
  EXPECT_EQ(frozen->validation_images, 80u);
  EXPECT_TRUE(frozen->operating_points.empty());
  const auto none = JudgeWithRule("m", images, {{}, run.test_logits}, std::nullopt, kQuick);
  ASSERT_TRUE(none.ok());
  EXPECT_TRUE(none->rule_unknown);
  EXPECT_EQ(none->at_half.area.interval.low, whole->at_half.area.interval.low);
  EXPECT_EQ(none->at_chosen.threshold, .5);
  EXPECT_EQ(none->after.log_loss, whole->before.log_loss);
}

TEST(Judge, SaysWhyThereIsNoDeLong_WhereLesionsRepeat) {
  const JudgedImages images = Images(2);
  const auto report = JudgeModel("m", images, std::vector<ScoredRun>{RunOf(images, 2, 1)}, kQuick);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->test_lesions, 80u);
  EXPECT_FALSE(report->delong.has_value());
  EXPECT_NE(report->why_no_delong.find("80 of 80 lesions"), std::string::npos);
  const auto comparison =
      CompareModels("a", RunOf(images, 2, 1), "b", RunOf(images, 2, 2), images, kQuick);
  ASSERT_TRUE(comparison.ok());
  EXPECT_FALSE(comparison->delong || comparison->mcnemar);
  EXPECT_FALSE(comparison->why_no_tests.empty());
}

TEST(CompareModels, FindsTheBetterOne_EachWayRound) {
  const JudgedImages images = Images(1);
  const ScoredRun good = RunOf(images, 4, 1), bad = RunOf(images, .5, 2);
  const auto one = CompareModels("good", good, "bad", bad, images, kQuick);
  const auto other = CompareModels("bad", bad, "good", good, images, kQuick);
  ASSERT_TRUE(one.ok() && other.ok());
  EXPECT_GT(one->area.interval.low, 0);
  EXPECT_GT(one->accuracy.interval.low, 0);
  EXPECT_LT(one->brier.interval.high, 0);
  EXPECT_DOUBLE_EQ(one->area.value, -other->area.value);
  EXPECT_DOUBLE_EQ(one->area.interval.low, -other->area.interval.high);
  ASSERT_TRUE(one->delong && one->mcnemar);
  EXPECT_LT(one->delong->p, .001);
  EXPECT_LT(one->mcnemar->p, .01);
  EXPECT_EQ(one->mcnemar->only_first, other->mcnemar->only_second);
}

TEST(CompareModels, SeesNothing_WhereBothAreOne) {
  const JudgedImages images = Images(1);
  const ScoredRun run = RunOf(images, 2, 1);
  const auto same = CompareModels("a", run, "b", run, images, kQuick);
  ASSERT_TRUE(same.ok());
  EXPECT_EQ(same->area.value, 0);
  EXPECT_EQ(same->area.interval.low, 0);
  EXPECT_EQ(same->delong->p, 1);
  EXPECT_EQ(same->mcnemar->p, 1);
}

TEST(Judge, RefusesWhatItCannotJudge) {
  v1::ImageSetManifest manifest = Manifest(1);
  EXPECT_FALSE(ImagesToJudge(manifest, {1, 2}, {}).ok());
  EXPECT_FALSE(ImagesToJudge(manifest, {1, 2}, {1000}).ok());
  manifest.add_classes("third");
  EXPECT_FALSE(ImagesToJudge(manifest, {1, 2}, {3, 4}).ok());
  const JudgedImages images = Images(1);
  EXPECT_FALSE(JudgeModel("m", images, {}, kQuick).ok());
  ScoredRun run = RunOf(images, 1, 1);
  run.test_logits.pop_back();
  EXPECT_FALSE(JudgeModel("m", images, std::vector<ScoredRun>{run}, kQuick).ok());
}

}  // namespace
}  // namespace dermis
