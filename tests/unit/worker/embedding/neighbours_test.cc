#include "worker/embedding/neighbours.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/worker/embedding/test_data.h"

namespace dermis {
namespace {

TEST(LeaveGroupOut, ByHand) {
  // Two lesions of two pictures each lie on one spot; the other lesion is what remains.
  const std::vector<double> at = {0, 0.1, 1, 5, 5.1, 6};
  const std::vector<uint32_t> label = {1, 1, 0, 0, 0, 1}, group = {0, 0, 1, 2, 2, 3};
  const DistanceRows rows = DistanceRows::OfPoints(at, 1);
  const absl::StatusOr<Separation> found =
      LeaveGroupOut(rows, label, group, {.neighbours = 1, .draws = 50});
  ASSERT_TRUE(found.ok()) << found.status();
  // Of 0 and 0.1: 1 is nearest (0). Of 1: 0.1 (1). Of 5 and 5.1: 6 (1). Of 6: 5.1 (0).
  EXPECT_EQ(found->score, (std::vector<double>{0, 0, 1, 1, 1, 0}));
  EXPECT_EQ(found->balanced_accuracy, 0);
  EXPECT_EQ(found->area, 0);
  // With groups of their own the twins find each other.
  const absl::StatusOr<Separation> alone =
      LeaveGroupOut(rows, label, {0, 1, 2, 3, 4, 5}, {.neighbours = 1, .draws = 50});
  EXPECT_EQ(alone->score, (std::vector<double>{1, 1, 1, 0, 0, 0}));
  EXPECT_DOUBLE_EQ(alone->balanced_accuracy, 2.0 / 3);
  // Positives: 1, 1, 0; negatives: 1, 0, 0. Wins: 2 + 2 + 0; ties: 1 + 1 + 2.
  EXPECT_DOUBLE_EQ(alone->area, 6.0 / 9);
  EXPECT_LE(alone->area_interval.low, alone->area);
  EXPECT_GE(alone->area_interval.high, alone->area);
}

TEST(LeaveGroupOut, EqualDistances_GoByIndex) {
  const std::vector<double> at = {0, 1, -1, 1};
  const absl::StatusOr<Separation> found =
      LeaveGroupOut(DistanceRows::OfPoints(at, 1), {0, 1, 0, 0}, {0, 1, 2, 3},
                    {.neighbours = 1, .draws = 10});
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->score[0], 1);
}

TEST(LeaveGroupOut, TakesAllThereAre_WhereLessThanKAreOutside) {
  const std::vector<double> at = {0, 1, 2};
  const absl::StatusOr<Separation> found =
      LeaveGroupOut(DistanceRows::OfPoints(at, 1), {0, 1, 1}, {7, 9, 7},
                    {.neighbours = 15, .draws = 10});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->score, (std::vector<double>{1, 0.5, 1}));
}

TEST(LeaveGroupOut, CloudsSeparate_AndNoiseDoesNot) {
  const size_t n = 300;
  std::vector<uint32_t> label, group;
  for (size_t i = 0; i < n; ++i) {
    label.push_back(i % 2);
    group.push_back(static_cast<uint32_t>(i / 3));
  }
  const auto apart =
      LeaveGroupOut(DistanceRows::OfPoints(Clouds(n, 4, 2, 5), 4), label, group, {});
  EXPECT_EQ(apart->balanced_accuracy, 1);
  EXPECT_EQ(apart->area_interval.low, 1);
  const auto noise =
      LeaveGroupOut(DistanceRows::OfPoints(Clouds(n, 4, 2, 0), 4), label, group, {});
  EXPECT_LT(noise->area_interval.low, 0.5);
  EXPECT_GT(noise->area_interval.high, 0.4);
  EXPECT_LT(noise->area, 0.65);
}

TEST(LeaveGroupOut, OfPointsAndOfTheirDistances_IsTheSame_ForAnyThreads) {
  const size_t n = 90;
  const std::vector<double> points = Clouds(n, 3, 2, 1);
  std::vector<uint32_t> label, group;
  for (size_t i = 0; i < n; ++i) {
    label.push_back(i % 2);
    group.push_back(static_cast<uint32_t>(i / 2));
  }
  const DistanceRows rows = DistanceRows::OfPoints(points, 3);
  std::vector<double> matrix(n * n);
  for (size_t i = 0; i < n; ++i) rows.Row(i, &matrix[i * n]);
  const auto one = LeaveGroupOut(rows, label, group, {.draws = 20});
  const auto other = LeaveGroupOut(DistanceRows::OfMatrix(matrix, n, n), label, group,
                                   {.draws = 20, .threads = 3});
  EXPECT_EQ(one->score, other->score);
  EXPECT_EQ(one->area_interval.low, other->area_interval.low);
}

TEST(ByTraining, ScoresTestPoints_ByTrainingNeighboursOfOtherGroups) {
  const std::vector<double> test = {0, 10}, training = {0.5, 1, 2, 9, 11, 12};
  const DistanceRows rows = DistanceRows::OfPoints(test, training, 1);
  const auto found = ByTraining(rows, {1, 0}, {0, 1}, {0, 1, 1, 0, 0, 1}, {0, 5, 6, 7, 8, 9},
                                {.neighbours = 3, .draws = 10});
  ASSERT_TRUE(found.ok()) << found.status();
  // Of 0: 0.5 is of its group; 1, 2 and 9 are left. Of 10: 9, 11, 12.
  EXPECT_EQ(found->score, (std::vector<double>{2.0 / 3, 1.0 / 3}));
  EXPECT_EQ(found->balanced_accuracy, 1);
}

TEST(LeaveGroupOut, Refuses_WhatSaysNothing) {
  const std::vector<double> at = {0, 1, 2};
  const DistanceRows rows = DistanceRows::OfPoints(at, 1);
  EXPECT_FALSE(LeaveGroupOut(rows, {0, 0, 0}, {0, 1, 2}, {}).ok());
  EXPECT_FALSE(LeaveGroupOut(rows, {0, 1, 2}, {0, 1, 2}, {}).ok());
  EXPECT_FALSE(LeaveGroupOut(rows, {0, 1}, {0, 1}, {}).ok());
  EXPECT_FALSE(LeaveGroupOut(rows, {0, 1, 1}, {0, 0, 0}, {}).ok());
  EXPECT_FALSE(LeaveGroupOut(rows, {0, 1, 1}, {0, 1, 2}, {.neighbours = 0}).ok());
}

TEST(Distances, FromAGramMatrix_AreThoseOfThePoints) {
  const std::vector<double> at = {1, 2, -3, 5, 0, 7};
  std::vector<double> gram(9);
  for (size_t i = 0; i < 3; ++i) {
    for (size_t j = 0; j < 3; ++j) {
      gram[3 * i + j] = at[2 * i] * at[2 * j] + at[2 * i + 1] * at[2 * j + 1];
    }
  }
  GramToDistances(absl::MakeSpan(gram), 3);
  EXPECT_EQ(gram, (std::vector<double>{0, 25, 26, 25, 0, 13, 26, 13, 0}));
}

}  // namespace
}  // namespace dermis
