#include "common/rank.h"

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
