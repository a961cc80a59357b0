#include "coordinator/audit_log.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class AuditLogTest : public testing::Test {
 protected:
  AuditLogTest() {
    SetLogLevel(static_cast<LogLevel>(4));  // Not a word.
    std::string name = (fs::temp_directory_path() / "dermis-audit-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    path_ = folder_ / "audit.jsonl";
  }
  ~AuditLogTest() override { fs::remove_all(folder_); }

  std::unique_ptr<AuditLog> Open() {
    auto log = AuditLog::Open(path_, clock_);
    EXPECT_TRUE(log.ok()) << log.status();
    return log.ok() ? *std::move(log) : nullptr;
  }
  std::string Text() const {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  static AuditEntry Submitted(const std::string& study) {
    return {"ann", "user", "Studies/Submit", study, "OK"};
  }
  static AuditEntry Refused(const std::string& who) {
    return {who, "worker", "Studies/Delete", "", "a worker may not"};
  }

  FakeClock clock_;
  fs::path folder_, path_;
};

TEST_F(AuditLogTest, GoesOnWhereItEnded_AndOnlyItsOwnerMayReadIt) {
  AuditHead head;
  {
    auto log = Open();
    log->Record(Submitted("a"));
    head = log->Head();
  }
  struct stat mode;
  ASSERT_EQ(stat(path_.c_str(), &mode), 0);
  EXPECT_EQ(mode.st_mode & 0777, 0600u);
  auto log = Open();
  log->Record(Submitted("b"));
  EXPECT_EQ(log->Head().entries, 2u);
  EXPECT_TRUE(HoldsAudit(Text(), head).ok());
  EXPECT_TRUE(HoldsAudit(Text(), log->Head()).ok());
}

TEST_F(AuditLogTest, ALineThatWasCutOff_IsTakenAway_AndThatIsSaid) {
  {
    auto log = Open();
    log->Record(Submitted("a"));
  }
  std::ofstream(path_, std::ios::app) << R"({"n":2,"ti)";
  auto log = Open();
  EXPECT_EQ(log->Head().entries, 2u);
  EXPECT_THAT(Text(), HasSubstr("cut off"));
  EXPECT_TRUE(HoldsAudit(Text(), log->Head()).ok());
}

TEST_F(AuditLogTest, ALogThatWasChanged_IsNotGoneOnWith) {
  {
    auto log = Open();
    for (const char* study : {"a", "b", "c"}) log->Record(Submitted(study));
  }
  std::string text = Text();
  text[text.find("\"b\"") + 1] = 'x';
  std::ofstream(path_, std::ios::binary | std::ios::trunc) << text;
  const auto log = AuditLog::Open(path_, clock_);
  EXPECT_EQ(log.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(log.status().message()), HasSubstr("line 3"));
}

TEST_F(AuditLogTest, WhoKnocksAgainAndAgain_IsCounted) {
  auto log = Open();
  for (int i = 0; i < 1000; ++i) log->Record(Refused("w1"));
  log->Record(Submitted("a"));
  EXPECT_EQ(log->Head().entries, 3u);
  EXPECT_THAT(Text(), HasSubstr("\"times\":999"));
  // A second later a knock is a line again.
  clock_.Advance(absl::Seconds(2));
  log->Record(Refused("w1"));
  EXPECT_EQ(log->Head().entries, 4u);
  log->Record(Refused("w2"));
  EXPECT_EQ(log->Head().entries, 5u);
}

TEST_F(AuditLogTest, WhoKnocksInEverNewWays_FillsNoDisk) {
  auto log = Open();
  for (int i = 0; i < 10'000; ++i) log->Record(Refused(absl::StrCat("w", i)));
  EXPECT_EQ(log->Head().entries, AuditLog::kRefusalsAtOnce + 1);
  EXPECT_THAT(Text(), HasSubstr("\"times\":9900"));
  // What succeeds is always written.
  for (int i = 0; i < 200; ++i) log->Record(Submitted("a"));
  EXPECT_EQ(log->Head().entries, AuditLog::kRefusalsAtOnce + 201);
  clock_.Advance(absl::Seconds(3));
  for (int i = 0; i < 10; ++i) log->Record(Refused(absl::StrCat("x", i)));
  EXPECT_EQ(log->Head().entries, AuditLog::kRefusalsAtOnce + 201 + 4);
  EXPECT_TRUE(HoldsAudit(Text(), log->Head()).ok());
}

TEST_F(AuditLogTest, Strangers_HideNothingOfCallersWithACertificate) {
  auto log = Open();
  for (int i = 0; i < 10'000; ++i) log->Record({"", "", "a handshake", "", absl::StrCat("failed ", i)});
  log->Record(Refused("a thief"));
  EXPECT_THAT(Text(), HasSubstr("a thief"));
  EXPECT_TRUE(HoldsAudit(Text(), log->Head()).ok());
}

TEST_F(AuditLogTest, WhatWasCountedBefore_CountsForAll) {
  auto log = Open();
  AuditEntry several = Refused("w1");
  several.times = 5;
  for (int i = 0; i < 3; ++i) log->Record(several);
  for (int i = 0; i < 1000; ++i) log->Record(Refused(absl::StrCat("w", 2 + i)));
  several.who = "late";
  log->Record(several);
  log->Head();
  EXPECT_THAT(Text(), HasSubstr("\"times\":10")) << "the second and third";
  EXPECT_THAT(Text(), HasSubstr(absl::StrCat("\"times\":", 1000 - 99 + 5)));
}

TEST_F(AuditLogTest, ALongLog_IsFollowedPieceByPiece) {
  {
    auto log = Open();
    for (int i = 0; i < 15'000; ++i) log->Record(Submitted("a"));
  }
  ASSERT_GT(Text().size(), 2u << 20);
  EXPECT_EQ(Open()->Head().entries, 15'000u);
}

TEST_F(AuditLogTest, Read_GivesWholeLines) {
  auto log = Open();
  for (const char* study : {"a", "b", "c"}) log->Record(Submitted(study));
  const std::string text = Text();
  const auto part = log->Read(0, text.size() - 5);
  ASSERT_TRUE(part.ok());
  AuditHead head;
  EXPECT_TRUE(FollowAudit(*part, head).ok());
  EXPECT_EQ(head.entries, 2u);
  const auto rest = log->Read(part->size(), 1 << 20);
  ASSERT_TRUE(rest.ok());
  EXPECT_TRUE(FollowAudit(*rest, head).ok());
  EXPECT_EQ(head.last, log->Head().last);
}

TEST_F(AuditLogTest, WhereALineDoesNotFitOnTheDisk_NothingHalfIsLeft) {
  auto log = Open();
  log->Record(Submitted("a"));
  const std::string before = Text();
  signal(SIGXFSZ, SIG_IGN);
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small = {before.size() + 10, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  log->Record(Submitted("b"));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  EXPECT_EQ(Text(), before);
  log->Record(Submitted("c"));
  EXPECT_EQ(log->Head().entries, 2u);
  EXPECT_TRUE(HoldsAudit(Text(), log->Head()).ok());
}

}  // namespace
}  // namespace dermis
