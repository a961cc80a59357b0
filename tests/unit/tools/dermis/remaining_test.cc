#include "tools/dermis/remaining.h"

#include "gtest/gtest.h"

namespace dermis {
namespace {

TEST(RemainingTimeTest, FollowsFromTheSpeedSinceItIsWatched) {
  RemainingTime remaining;
  // 400 were found at the start: no speed.
  remaining.See(absl::Seconds(100), 400, 1000);
  EXPECT_FALSE(remaining.left());
  for (int t = 1; t <= 30; ++t) remaining.See(absl::Seconds(100 + t), 400 + 10 * t, 1000);
  ASSERT_TRUE(remaining.left());
  EXPECT_NEAR(absl::ToDoubleSeconds(*remaining.left()), 30, 1e-6);
}

TEST(RemainingTimeTest, ForgetsHowFastItWasLongAgo) {
  RemainingTime remaining;
  for (int t = 0; t < 600; ++t) remaining.See(absl::Seconds(t), 100 * t, 1'000'000);  // Fast.
  for (int t = 600; t < 1000; ++t) remaining.See(absl::Seconds(t), 60'000 + (t - 600), 1'000'000);
  EXPECT_NEAR(absl::ToDoubleSeconds(*remaining.left()), 1'000'000 - 60'399, 1);
}

TEST(RemainingTimeTest, SaysNothing_BeforeAnythingWentBy_AndWhenAllIsDone) {
  RemainingTime remaining;
  remaining.See(absl::Seconds(0), 0, 10);
  remaining.See(absl::Seconds(1), 1, 10);
  EXPECT_FALSE(remaining.left()) << "a second says nothing yet";
  remaining.See(absl::Seconds(60), 1, 10);
  EXPECT_TRUE(remaining.left());
  remaining.See(absl::Seconds(61), 10, 10);
  EXPECT_FALSE(remaining.left());
}

TEST(RemainingTimeTest, ManyLooksASecond_ChangeNothing) {
  RemainingTime seldom, often;
  for (int t = 0; t <= 40; ++t) seldom.See(absl::Seconds(t), 5 * t, 1000);
  for (int t = 0; t <= 4000; ++t) often.See(absl::Milliseconds(10 * t), 5 * t / 100, 1000);
  EXPECT_NEAR(absl::ToDoubleSeconds(*often.left()), absl::ToDoubleSeconds(*seldom.left()), 1);
}

TEST(RoughTimeTest, IsAsExactAsItIsKnown) {
  EXPECT_EQ(RoughTime(absl::Seconds(0.2)), "1 s");
  EXPECT_EQ(RoughTime(absl::Seconds(7)), "7 s");
  EXPECT_EQ(RoughTime(absl::Seconds(43)), "45 s");
  EXPECT_EQ(RoughTime(absl::Seconds(170)), "3 min");
  EXPECT_EQ(RoughTime(absl::Minutes(134)), "2 h 10 min");
}

}  // namespace
}  // namespace dermis
