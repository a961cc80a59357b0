#include "common/bootstrap.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

#include "common/metrics.h"
#include "common/philox.h"

namespace dermis {
namespace {

double Draw(uint32_t a, uint32_t b) {
  const auto block = PhiloxBlock(7, Purpose::kTest, a, b, 0);
  return ToUnitDouble(block[0], block[1]);
}
// Standard normal, by the sum of twelve.
double Normal(uint32_t a, uint32_t b) {
  double sum = -6;
  for (uint32_t k = 0; k < 12; ++k) sum += Draw(a, 12 * b + k);
  return sum;
}

TEST(WeightedArea, EqualsEvaluate_WhereEachCountsOnce) {
  std::vector<double> score;
  std::vector<uint32_t> label;
  for (uint32_t i = 0; i < 200; ++i) {
    score.push_back(std::floor(20 * Draw(1, i)) / 20);  // With ties.
    label.push_back(Draw(2, i) < score.back() ? 1 : 0);
  }
  EXPECT_DOUBLE_EQ(WeightedArea(score, label)(std::vector<uint32_t>(200, 1)),
                   Evaluate(score, label).roc_area);
}

TEST(WeightedArea, CountsAnItemAsOftenAsItIsDrawn) {
  const std::vector<double> score = {.1, .4, .4, .8}, written_out = {.1, .4, .4, .4, .8, .8};
  const std::vector<uint32_t> label = {0, 1, 0, 1}, label_out = {0, 1, 0, 0, 1, 1};
  EXPECT_DOUBLE_EQ(WeightedArea(score, label)(std::vector<uint32_t>{1, 1, 2, 2}),
                   Evaluate(written_out, label_out).roc_area);
  EXPECT_TRUE(std::isnan(WeightedArea(score, label)(std::vector<uint32_t>{0, 1, 0, 1})));
}

TEST(Bootstrap, CoversTheMean_AboutAsOftenAsItSays) {
  int covered = 0;
  for (uint32_t repeat = 0; repeat < 200; ++repeat) {
    std::vector<double> values;
    std::vector<uint32_t> group;
    for (uint32_t i = 0; i < 60; ++i) {
      values.push_back(Normal(100 + repeat, i));
      group.push_back(i);
    }
    const Interval interval = BootstrapByGroup(group, 400, repeat, [&](Counts counts) {
      double sum = 0, n = 0;
      for (size_t i = 0; i < values.size(); ++i) sum += counts[i] * values[i], n += counts[i];
      return sum / n;
    });
    covered += interval.low <= 0 && 0 <= interval.high;
  }
  EXPECT_GE(covered, 180);
  EXPECT_LE(covered, 199);
}

TEST(Bootstrap, IsWider_WhereImagesShareALesion) {
  // Ten images each of twelve lesions, all alike within a lesion: there are twelve observations,
  // not 120.
  std::vector<double> values;
  std::vector<uint32_t> lesion, alone;
  for (uint32_t i = 0; i < 120; ++i) {
    values.push_back(Normal(3, i / 10));
    lesion.push_back(i / 10);
    alone.push_back(i);
  }
  const auto mean = [&](Counts counts) {
    double sum = 0, n = 0;
    for (size_t i = 0; i < values.size(); ++i) sum += counts[i] * values[i], n += counts[i];
    return sum / n;
  };
  const Interval by_lesion = BootstrapByGroup(lesion, 1000, 1, mean);
  const Interval by_image = BootstrapByGroup(alone, 1000, 1, mean);
  EXPECT_GT(by_lesion.high - by_lesion.low, 2 * (by_image.high - by_image.low));
}

TEST(Bootstrap, HasNoInterval_WhereTheStatisticIsNever_Defined) {
  const Interval none = BootstrapByGroup({0, 1}, 10, 1, [](Counts) { return std::nan(""); });
  EXPECT_TRUE(std::isnan(none.low));
  EXPECT_TRUE(std::isnan(none.high));
}

TEST(Groups, GiveAnImageWithoutAGroupOneOfItsOwn) {
  v1::ImageSetManifest manifest;
  for (const char* group : {"a", "", "b", "a", ""}) manifest.add_images()->set_group(group);
  EXPECT_EQ(GroupsOf(manifest, {0, 1, 2, 3, 4}), (std::vector<uint32_t>{0, 1, 2, 0, 3}));
}

}  // namespace
}  // namespace dermis
