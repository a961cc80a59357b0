#include "worker/embedding/familiarity.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

constexpr uint32_t kFeatures = 16;

// Points around one direction.
std::vector<float> Cloud(size_t count, uint32_t seed, double spread) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) {
    const double length = 1 + 5 * std::abs(normal(random));  // Which is divided out.
    for (uint32_t k = 0; k < kFeatures; ++k) {
      values.push_back(static_cast<float>(length * ((k == 0 ? 1 : 0) + spread * normal(random))));
    }
  }
  return values;
}

std::vector<float> Row(const std::vector<float>& rows, size_t i) {
  const auto begin = rows.begin() + static_cast<std::ptrdiff_t>(i * kFeatures);
  return {begin, begin + kFeatures};
}

FeatureSpace Space(uint32_t training, uint32_t validation, uint32_t neighbours = 5) {
  FeatureSpace space;
  const std::vector<float> known = Cloud(training, 1, .1), others = Cloud(validation, 2, .1);
  for (uint32_t i = 0; i < training; ++i) EXPECT_TRUE(AddTraining(100 + i, Row(known, i), space).ok());
  for (uint32_t i = 0; i < validation; ++i) {
    EXPECT_TRUE(AddValidation(Row(others, i), neighbours, space).ok());
  }
  return space;
}

TEST(FamiliarityTest, OneValidationImageInAHundred_LiesBeyondTheThreshold) {
  for (const uint32_t count : {1u, 99u, 100u, 101u, 500u, 1000u}) {
    const FeatureSpace space = Space(300, count);
    ASSERT_EQ(space.validation.size(), count);
    const double threshold = FamiliarityThreshold(space.validation);
    const auto beyond = std::count_if(space.validation.begin(), space.validation.end(),
                                      [&](double distance) { return distance > threshold; });
    EXPECT_EQ(beyond, static_cast<int64_t>(count / 100)) << count;
  }
  const auto alone = FamiliarityOf(Space(300, 0), std::vector<float>(kFeatures, 1), 5, 5);
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_FALSE(alone->has_threshold());
  EXPECT_EQ(alone->nearest_size(), 5);
}

TEST(FamiliarityTest, ImagesOfTheSameKind_AreFamiliar_OthersAreNot) {
  const FeatureSpace space = Space(300, 400);
  int unlike = 0;
  const std::vector<float> more = Cloud(500, 3, .1);
  for (size_t i = 0; i < 500; ++i) {
    const auto output = FamiliarityOf(space, Row(more, i), 5, 5);
    ASSERT_TRUE(output.ok()) << output.status();
    unlike += output->distance() > output->threshold() ? 1 : 0;
  }
  EXPECT_LT(unlike, 25);  // 1 % is expected, of the cloud and not only of those 400.
  const std::vector<float> others = Cloud(100, 4, 10);  // Any direction.
  for (size_t i = 0; i < 100; ++i) {
    const auto output = FamiliarityOf(space, Row(others, i), 5, 5);
    EXPECT_GT(output->distance(), output->threshold()) << i;
  }
}

TEST(FamiliarityTest, NearestComeFirst_ATrainingImageIsItsOwnNearest) {
  const FeatureSpace space = Space(50, 20);
  const std::vector<float> training = Cloud(50, 1, .1);
  const auto output = FamiliarityOf(space, Row(training, 7), 5, 5);
  ASSERT_TRUE(output.ok());
  ASSERT_EQ(output->nearest_size(), 5);
  EXPECT_EQ(output->nearest(0).image(), 107u);
  EXPECT_NEAR(output->nearest(0).distance(), 0, 1e-6);
  for (int k = 1; k < 5; ++k) {
    EXPECT_GE(output->nearest(k).distance(), output->nearest(k - 1).distance());
  }
  EXPECT_EQ(output->distance(), output->nearest(4).distance());  // The fifth's.
  EXPECT_EQ(output->validation_images(), 20u);
}

TEST(FamiliarityTest, ImageWithoutFeatures_IsFarFromAll_AndWrongSizesAreRefused) {
  const FeatureSpace space = Space(50, 20);
  const auto none = FamiliarityOf(space, std::vector<float>(kFeatures, 0), 5, 5);
  ASSERT_TRUE(none.ok());
  EXPECT_NEAR(none->distance(), 1, 1e-6);
  EXPECT_GT(none->distance(), none->threshold());
  EXPECT_TRUE(absl::IsInvalidArgument(FamiliarityOf(space, {1, 2}, 5, 5).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      FamiliarityOf(space, std::vector<float>(kFeatures, 1), 0, 5).status()));
  FeatureSpace other;
  EXPECT_TRUE(absl::IsInvalidArgument(AddValidation({1, 2, 3}, 5, other)));
  EXPECT_TRUE(absl::IsInvalidArgument(AddTraining(0, {}, other)));
  EXPECT_TRUE(absl::IsInvalidArgument(AddTraining(0, {1, std::nanf("")}, other)));
  ASSERT_TRUE(AddTraining(0, {1, 2, 3}, other).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(AddTraining(1, {1, 2}, other)));
  // Fewer training images than neighbours: the farthest.
  const auto few = FamiliarityOf(Space(3, 2, 10), std::vector<float>(kFeatures, 1), 10, 5);
  ASSERT_TRUE(few.ok());
  EXPECT_EQ(few->nearest_size(), 3);
  EXPECT_EQ(few->distance(), few->nearest(2).distance());
}

}  // namespace
}  // namespace dermis
