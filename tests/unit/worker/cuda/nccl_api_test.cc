#include "worker/cuda/nccl_api.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/unit/worker/cuda/nccl_gang.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(NcclApi, OtherVersions_AreRefused_WithWhatToInstall) {
  auto* say = StandIn<decltype(DermisStandInVersion)>("DermisStandInVersion");
  for (const auto& [version, name] : {std::pair{22005, "2.20.5"}, std::pair{30000, "3.0.0"}}) {
    say(version);
    const auto api = NcclApi::Load(DERMIS_NCCL_STAND_IN);
    say(0);
    EXPECT_EQ(api.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(api.status().message()),
                AllOf(HasSubstr(name), HasSubstr("2.28.0"), HasSubstr("install")));
  }
  const auto api = NcclApi::Load(DERMIS_NCCL_STAND_IN);
  ASSERT_TRUE(api.ok()) << api.status();
  EXPECT_EQ((*api)->version, 22809);
}

TEST(NcclApi, MissingLibrary_IsUnavailable_AndNamed) {
  const auto api = NcclApi::Load("libnccl-that-is-nowhere.so.2");
  EXPECT_EQ(api.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(api.status().message()), HasSubstr("libnccl-that-is-nowhere.so.2"));
}

TEST(NcclApi, AnotherLibrary_IsRefused_WithTheMissingNames) {
  const auto api = NcclApi::Load("libm.so.6");
  EXPECT_EQ(api.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(api.status().message()),
              AllOf(HasSubstr("libm.so.6"), HasSubstr("ncclSend"), HasSubstr("ncclCommAbort")));
}

// The names and the version code of the true library, on machines that have one; no GPU is needed
// for that.
TEST(NcclApi, TrueLibrary_HasAllNames) {
  const auto api = NcclApi::Load();
  if (absl::IsUnavailable(api.status())) GTEST_SKIP() << api.status();
  ASSERT_TRUE(api.ok()) << api.status();
  EXPECT_GE((*api)->version, kNcclOldest);
  EXPECT_STREQ((*api)->GetErrorString(kNcclSuccess), "no error");
  EXPECT_THAT((*api)->GetErrorString(kNcclRemoteError), HasSubstr("remote"));
  EXPECT_THAT((*api)->GetErrorString(kNcclInvalidUsage), HasSubstr("invalid usage"));
}

}  // namespace
}  // namespace dermis
