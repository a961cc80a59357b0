#include "coordinator/dashboard/importance.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

#include "tests/unit/coordinator/dashboard/fake_sweep.h"

namespace dermis {
namespace {

// A number in [0, 1) of i that has nothing to do with other names.
double Noise(const std::string& name, uint32_t i) { return FakeNumber(absl::StrCat(name, i)); }

TEST(ImportanceTest, TheSettingThatDecides_ExplainsAll_AndOneThatDoesNothing_ExplainsNothing) {
  const auto made = FakeSweep(400, [](uint32_t) { return 0.; });
  const TrialSettings::Table& table = made->settings->table();
  const auto study = FakeSweep(
      400, [&](uint32_t t) { return std::log(table.numbers[0][t]) + .01 * Noise("n", t); });
  const ImportanceOfSettings importance = ImportanceIn(*study);
  EXPECT_EQ(importance.trials, 400u);
  ASSERT_EQ(importance.keys.size(), 2u);
  EXPECT_EQ(importance.keys[0].key, "clip_norm");
  EXPECT_GT(importance.keys[0].share, .95);
  EXPECT_GT(*importance.keys[0].correlation, .99);
  EXPECT_LT(importance.keys[1].share, .02);
  EXPECT_FALSE(importance.keys[1].correlation.has_value());
}

TEST(ImportanceTest, OneExplodedLoss_ChangesLittle) {
  std::vector<std::string> values;
  std::vector<double> scores;
  for (uint32_t i = 0; i < 200; ++i) {
    values.push_back(i % 2 == 0 ? "a" : "b");
    scores.push_back(i % 2 + Noise("s", i));
  }
  const double share = ShareExplained(values, {}, scores);
  scores[7] = 1e9;
  EXPECT_NEAR(ShareExplained(values, {}, scores), share, .02);
  EXPECT_GT(share, .5);
}

TEST(ImportanceTest, ManyValuesOfPureNoise_ExplainNothing) {
  std::vector<std::string> values;
  std::vector<double> scores;
  for (uint32_t i = 0; i < 60; ++i) {
    values.push_back(absl::StrCat(i % 20));
    scores.push_back(Noise("x", i));
  }
  EXPECT_LT(ShareExplained(values, {}, scores), .15);  // The plain share would be about a third.
}

TEST(ImportanceTest, RacingTrials_AreComparedAtTheFirstRung) {
  const auto spec = FakeSpec("a", 9, 0,
                             "sweep: {axes: [{key: training.augment, values: [true, false]}], "
                             "halving: {rungs: [2, 4], factor: 2}}\n");
  ASSERT_TRUE(spec.ok()) << spec.status();
  StudySnapshot study;
  study.settings = std::make_shared<TrialSettings>(*spec);
  for (uint32_t t = 0; t < 2; ++t) {
    TrialRow row;
    // Judged by its own score, the one that was dropped would have lost.
    row.score = t == 0 ? 5 : .1;
    row.scored = true;
    auto curve = std::make_shared<Curve>();
    for (uint32_t e = 1; e <= (t == 0 ? 2u : 9u); ++e)
      curve->points.push_back({e, 0, 0, t == 0 ? 1.f : 2.f / static_cast<float>(e), 0, 0});
    study.curves.push_back(std::move(curve));
    study.trials.push_back(row);
  }
  const ImportanceOfSettings importance = ImportanceIn(study);
  EXPECT_EQ(importance.epochs, 2u);
  EXPECT_EQ(importance.trials, 2u);
}

}  // namespace
}  // namespace dermis
