#include "common/rank.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace dermis {
namespace {

TEST(Ranks, EqualValuesShareTheMeanOfTheirRanks) {
  EXPECT_EQ(RanksOf({3.0, 1.0, 3.0, 2.0}), (std::vector<double>{3.5, 1, 3.5, 2}));
  EXPECT_EQ(RanksOf({7.0, 7.0, 7.0}), (std::vector<double>{2, 2, 2}));
}

TEST(Spearman, ByHand) {
  // 1 - 6 sum d^2 / (n (n^2 - 1)) without ties: d = 0, 1, -1, 0.
  EXPECT_DOUBLE_EQ(*Spearman({1.0, 2.0, 3.0, 4.0}, {10.0, 30.0, 20.0, 40.0}), 0.8);
  EXPECT_DOUBLE_EQ(*Spearman({1.0, 2.0, 3.0}, {9.0, 8.0, -5.0}), -1);
  // Any growing function of the values has the same ranks.
  EXPECT_DOUBLE_EQ(*Spearman({-2.0, 0.5, 3.0, 9.0}, {-8.0, 0.125, 27.0, 729.0}), 1);
}

TEST(Spearman, IsNotDefined_WhereOneSideDoesNotVary) {
  EXPECT_FALSE(Spearman({1.0, 1.0, 1.0}, {1.0, 2.0, 3.0}));
  EXPECT_FALSE(Spearman({1.0, 2.0}, {1.0, 2.0, 3.0}));
  EXPECT_FALSE(Spearman({1.0}, {2.0}));
}

TEST(SpearmanByGroup, HoldsRhoWithinItsInterval_AndGroupsMoveTogether) {
  const std::vector<double> a = {1, 2, 2, 4, 5, 6, 7, 8}, b = {2, 1, 3, 3, 6, 5, 8, 7};
  const std::vector<uint32_t> group = {0, 1, 2, 3, 4, 5, 6, 7};
  const RankCorrelation found = SpearmanByGroup(a, b, group, 500, 1);
  EXPECT_EQ(found.rho, Spearman(a, b));
  EXPECT_LT(found.interval.low, *found.rho);
  EXPECT_GT(found.interval.high, *found.rho);
  EXPECT_LE(found.interval.high, 1);
  // In one group there is one sample: all items, each as often.
  const RankCorrelation one = SpearmanByGroup(a, b, std::vector<uint32_t>(8, 0), 20, 1);
  EXPECT_DOUBLE_EQ(one.interval.low, *one.rho);
  EXPECT_DOUBLE_EQ(one.interval.high, *one.rho);
}

TEST(SpearmanByGroup, OfADraw_IsThatOfTheItemsAsOftenAsTheyCount) {
  // Two groups; what a draw of (2, 0), (1, 1) or (0, 2) gives is known.
  const std::vector<double> a = {1, 2, 3, 4, 5, 6}, b = {3, 1, 2, 4, 6, 5};
  const std::vector<uint32_t> group = {0, 0, 0, 1, 1, 1};
  const double low = *Spearman({1.0, 1.0, 2.0, 2.0, 3.0, 3.0}, {3.0, 3.0, 1.0, 1.0, 2.0, 2.0});
  const double high = *Spearman(a, b);
  const RankCorrelation found = SpearmanByGroup(a, b, group, 400, 1);
  EXPECT_DOUBLE_EQ(found.interval.low, low);
  EXPECT_DOUBLE_EQ(found.interval.high, high);
}

TEST(SpearmanByGroup, IsNotDefined_WhereOneSideDoesNotVary) {
  const RankCorrelation found = SpearmanByGroup({1.0, 1.0}, {1.0, 2.0}, {0, 1}, 10, 1);
  EXPECT_FALSE(found.rho);
  EXPECT_TRUE(std::isnan(found.interval.low));
}

TEST(Quantile, IsLinearBetweenOrderStatistics) {
  EXPECT_DOUBLE_EQ(QuantileOf({4.0, 1.0, 3.0, 2.0}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(QuantileOf({4.0, 1.0, 3.0, 2.0}, 0.25), 1.75);
  EXPECT_DOUBLE_EQ(QuantileOf({5.0}, 0.75), 5);
}

TEST(SignTest, ByHand) {
  EXPECT_DOUBLE_EQ(SignTest(0, 5), 1);
  EXPECT_NEAR(SignTest(5, 5), 1.0 / 32, 1e-12);
  EXPECT_NEAR(SignTest(4, 5), 6.0 / 32, 1e-12);
  EXPECT_NEAR(SignTest(22, 32), 0.025051,
              1e-6);  // scipy.stats.binomtest(22, 32, alternative='greater').
}

}  // namespace
}  // namespace dermis
