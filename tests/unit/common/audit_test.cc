#include "common/audit.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace dermis {
namespace {

using ::testing::HasSubstr;

struct Log {
  explicit Log(int lines) {
    for (int i = 0; i < lines; ++i) {
      begins.push_back(text.size());
      text += NextAuditLine({"ann", "user", "Studies/Submit", "study " + std::to_string(i), "OK"},
                            1000 * i, head);
      heads.push_back(head);
    }
  }
  std::string text;
  AuditHead head;
  std::vector<size_t> begins;
  std::vector<AuditHead> heads;
};

TEST(Audit, ALog_FollowsFromItsFirstLine_AndFromAnyHead) {
  const Log log(5);
  AuditHead head;
  ASSERT_TRUE(FollowAudit(log.text, head).ok());
  EXPECT_EQ(head.entries, 5u);
  EXPECT_EQ(head.last, log.head.last);
  AuditHead from = log.heads[2];
  ASSERT_TRUE(FollowAudit(log.text.substr(log.begins[3]), from).ok());
  EXPECT_EQ(from.last, log.head.last);
}

TEST(Audit, ALineThatWasChangedTakenOutOrPutBetween_IsFoundAtTheNext) {
  const Log log(5);
  const auto follows = [](const std::string& text) {
    AuditHead head;
    return FollowAudit(text, head);
  };
  std::string changed = log.text;
  changed[changed.find("study 2") + 6] = '9';
  EXPECT_THAT(std::string(follows(changed).message()), HasSubstr("line 4"));
  std::string shorter = log.text;
  shorter.erase(log.begins[1], log.begins[2] - log.begins[1]);
  EXPECT_THAT(std::string(follows(shorter).message()), HasSubstr("line 2"));
  std::string twice = log.text;
  twice.insert(log.begins[2], log.text.substr(log.begins[1], log.begins[2] - log.begins[1]));
  EXPECT_THAT(std::string(follows(twice).message()), HasSubstr("line 3"));
  EXPECT_THAT(std::string(follows(log.text.substr(0, log.text.size() - 1)).message()),
              HasSubstr("cut off"));
  EXPECT_FALSE(follows("rubbish\n").ok());
}

// Whoever changes the last line, or all from a line on, makes a chain that follows: an earlier head
// shows it.
TEST(Audit, AHeadThatWasKept_ShowsThatALogWasWrittenAnew) {
  const Log log(5);
  for (const AuditHead& head : log.heads) EXPECT_TRUE(HoldsAudit(log.text, head).ok());
  EXPECT_TRUE(HoldsAudit(log.text, {}).ok());
  Log other(2);
  other.text += NextAuditLine({"eve", "user", "Studies/Delete", "study 2", "OK"}, 2000, other.head);
  EXPECT_TRUE(HoldsAudit(other.text, log.heads[1]).ok());
  const absl::Status status = HoldsAudit(other.text, log.heads[2]);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("written anew"));
}

TEST(Audit, ALine_SaysWhoDidWhatWhen) {
  AuditHead head;
  const std::string line =
      NextAuditLine({"ann \xff", "user", "Studies/Cancel", "study a", "no such \"study\"", 3},
                    1'700'000'000'123, head);
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["time"], "2023-11-14T22:13:20.123Z");
  EXPECT_EQ(json["who"], "ann \xEF\xBF\xBD");
  EXPECT_EQ(json["outcome"], "no such \"study\"");
  EXPECT_EQ(json["times"], 3);
  AuditHead again;
  EXPECT_TRUE(FollowAudit(line, again).ok());
}

}  // namespace
}  // namespace dermis
