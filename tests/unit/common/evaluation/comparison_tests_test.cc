// DeLong's and McNemar's tests.
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/evaluation/delong.h"
#include "common/evaluation/mcnemar.h"
#include "common/philox.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

std::vector<uint32_t> Alone(size_t n) {
  std::vector<uint32_t> group(n);
  std::iota(group.begin(), group.end(), 0u);
  return group;
}

TEST(DeLong, HoldsByHand) {
  // Positives .9 .4, negatives .5 .1: shares beaten 1 and 1/2; beaten by 1/2 and 1.
  const auto area = DeLong({.9, .4, .5, .1}, std::vector<uint32_t>{1, 1, 0, 0}, Alone(4));
  ASSERT_TRUE(area.ok()) << area.status();
  EXPECT_DOUBLE_EQ(area->area, .75);
  // Two sample variances of 1/8, over two images each.
  EXPECT_DOUBLE_EQ(area->variance, .125);
  EXPECT_EQ(area->interval.high, 1);
}

TEST(DeLong, IsRefused_WhereLesionsRepeat) {
  const std::vector<uint32_t> label = {1, 1, 0, 0}, lesion = {0, 0, 1, 2};
  const auto area = DeLong({.9, .4, .5, .1}, label, lesion);
  EXPECT_EQ(area.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(area.status().message(), HasSubstr("1 of 3 lesions"));
  const auto test = McNemar(label, label, label, lesion);
  EXPECT_EQ(test.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(DeLong({.9, .4, .5}, std::vector<uint32_t>{1, 0, 0}, Alone(3)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(DeLong, SeesNoDifference_WhereScoresOrderAlike) {
  const std::vector<double> score = {.9, .4, .5, .1, .3, .8};
  std::vector<double> logarithm;
  for (const double s : score) logarithm.push_back(std::log(s));
  const auto test =
      PairedDeLong(score, logarithm, std::vector<uint32_t>{1, 1, 0, 0, 1, 0}, Alone(6));
  ASSERT_TRUE(test.ok());
  EXPECT_EQ(test->difference, 0);
  EXPECT_EQ(test->z, 0);
  EXPECT_EQ(test->p, 1);
}

TEST(DeLong, IsAntisymmetric_AndItsVarianceIsThatOfTheDifference) {
  std::vector<double> a, b;
  std::vector<uint32_t> label;
  for (uint32_t i = 0; i < 80; ++i) {
    const auto block = PhiloxBlock(3, Purpose::kTest, i, 0, 0);
    label.push_back(i % 2);
    a.push_back(std::floor(8 * (ToUnitDouble(block[0], block[1]) + .4 * label[i])));
    b.push_back(ToUnitDouble(block[2], block[3]) + .2 * label[i]);
  }
  const auto one = PairedDeLong(a, b, label, Alone(80)),
             other = PairedDeLong(b, a, label, Alone(80));
  ASSERT_TRUE(one.ok() && other.ok());
  EXPECT_DOUBLE_EQ(one->z, -other->z);
  EXPECT_DOUBLE_EQ(one->p, other->p);
  const double variance = one->first.variance + one->second.variance - 2 * one->covariance;
  EXPECT_NEAR(one->z, one->difference / std::sqrt(variance), 1e-9);
}

TEST(DeLong, RejectsAsOftenAsItSays_WhereBothAreAlike) {
  int rejected = 0;
  for (uint32_t repeat = 0; repeat < 400; ++repeat) {
    std::vector<double> a, b;
    std::vector<uint32_t> label;
    for (uint32_t i = 0; i < 100; ++i) {
      const auto block = PhiloxBlock(repeat, Purpose::kTest, i, 1, 0);
      label.push_back(i % 2);
      a.push_back(ToUnitDouble(block[0], block[1]) + .3 * label[i]);
      b.push_back(ToUnitDouble(block[2], block[3]) + .3 * label[i]);
    }
    rejected += PairedDeLong(a, b, label, Alone(100))->p < .05;
  }
  EXPECT_GE(rejected, 8);
  EXPECT_LE(rejected, 34);
}

TEST(McNemar, HoldsByHand) {
  // One of four: P(X <= 1) = 5/16, twice.
  EXPECT_DOUBLE_EQ(McNemarOf(1, 3).p, 10 / 16.);
  EXPECT_DOUBLE_EQ(McNemarOf(0, 0).p, 1);
  EXPECT_DOUBLE_EQ(McNemarOf(2, 2).p, 1);
  EXPECT_TRUE(McNemarOf(10, 14).exact);
  EXPECT_FALSE(McNemarOf(10, 15).exact);
  EXPECT_NEAR(McNemarOf(15, 15).p, 1, 1e-12);
  EXPECT_EQ(McNemarOf(8, 30).p, McNemarOf(30, 8).p);
}

TEST(McNemar, CountsWhereOnlyOneIsRight) {
  const std::vector<uint32_t> first = {1, 1, 0, 0, 1}, second = {1, 0, 0, 1, 1},
                              label = {1, 1, 1, 1, 0};
  const auto test = McNemar(first, second, label, Alone(5));
  ASSERT_TRUE(test.ok());
  EXPECT_EQ(test->only_first, 1u);
  EXPECT_EQ(test->only_second, 1u);
}

}  // namespace
}  // namespace dermis
