#include <gtest/gtest.h>

#include "common/clock.h"
#include "common/log.h"
#include "gmock/gmock.h"

namespace dermis {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(RealClock, NeverRunsBackwards) {
  absl::Duration last = Clock::Real().Now();
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration now = Clock::Real().Now();
    ASSERT_GE(now, last);
    last = now;
  }
  EXPECT_GT(Clock::Real().UnixMillis(), 1'600'000'000'000u);
}

TEST(FakeClock, MovesOnlyWhenTold_AndWallTimeByItself) {
  FakeClock clock;
  const absl::Duration now = clock.Now();
  const uint64_t wall = clock.UnixMillis();
  EXPECT_EQ(clock.Now(), now);
  clock.Advance(absl::Milliseconds(1500));
  EXPECT_EQ(clock.Now() - now, absl::Milliseconds(1500));
  EXPECT_EQ(clock.UnixMillis() - wall, 1500u);
  clock.JumpWall(-5000);
  EXPECT_EQ(clock.Now() - now, absl::Milliseconds(1500));
  EXPECT_EQ(clock.UnixMillis(), wall - 3500);
}

TEST(Log, MessageIsOneLine_WithLevelAndProcess) {
  SetLogProcess("worker/7");
  testing::internal::CaptureStderr();
  DERMIS_LOG(kWarning, "lost: ", 3, "\nsecond");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, EndsWith(" warning worker/7 lost: 3 | second\n"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST(Log, LinesBelowTheLevel_AreNotWritten) {
  SetLogLevel(LogLevel::kError);
  testing::internal::CaptureStderr();
  DERMIS_LOG(kWarning, "quiet");
  DERMIS_LOG(kError, "loud");
  const std::string text = testing::internal::GetCapturedStderr();
  SetLogLevel(LogLevel::kInfo);
  EXPECT_THAT(text, Not(HasSubstr("quiet")));
  EXPECT_THAT(text, HasSubstr("loud"));
}

}  // namespace
}  // namespace dermis
