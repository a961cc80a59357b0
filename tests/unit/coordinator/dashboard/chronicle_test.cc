#include "coordinator/dashboard/chronicle.h"

#include <functional>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/clock.h"
#include "coordinator/journal.h"
#include "tests/unit/common/test_folder.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

bool Within(absl::Duration patience, const std::function<bool()>& holds) {
  for (const absl::Duration until = Clock::Real().Now() + patience; Clock::Real().Now() < until;) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return holds();
}

JournalEntry Entry(const std::function<void(v1::Event&)>& fill) {
  JournalEntry entry;
  fill(entry.event);
  return entry;
}

TEST(ChronicleTest, TellsWhatHappenedToATask_WhileTheJournalIsWritten) {
  TestFolder folder;
  auto journal = OpenSqliteJournal(folder.path());
  ASSERT_TRUE(journal.ok());
  ASSERT_TRUE(
      (*journal)->Replay([](uint64_t, const JournalEntry&) { return absl::OkStatus(); }).ok());
  const Digest task = Sha256Of("task");
  const auto started = Entry([](v1::Event& event) { event.mutable_started()->set_incarnation(1); });
  ASSERT_TRUE((*journal)->Append({started}).ok());
  Chronicle chronicle(folder / "journal.sqlite", absl::Milliseconds(10));
  EXPECT_TRUE(
      Within(absl::Seconds(20), [&] { return chronicle.Of("", Digest(), 10).size() == 1; }));

  const auto lost = Entry([&](v1::Event& event) {
    event.mutable_attempt_lost()->set_task(task.bytes());
    event.mutable_attempt_lost()->set_worker("w1");
    event.mutable_attempt_lost()->set_cause("killed by signal 9");
  });
  JournalEntry result;
  result.event.mutable_task_completed();
  result.task = Sha256Of("other");
  const auto failed = Entry([&](v1::Event& event) {
    event.mutable_task_failed()->set_task(task.bytes());
    event.mutable_task_failed()->set_cause("poison");
    event.mutable_task_failed()->add_studies("s");
  });
  ASSERT_TRUE((*journal)->Append({lost, result, failed}).ok());
  ASSERT_TRUE(
      Within(absl::Seconds(20), [&] { return chronicle.Of("", Digest(), 10).size() == 3; }));
  const std::vector<Happening> of_task = chronicle.Of("", task, 10);
  ASSERT_EQ(of_task.size(), 2u);
  EXPECT_EQ(of_task[0].kind, "failed");  // The newest first.
  EXPECT_EQ(of_task[1].worker, "w1");
  EXPECT_THAT(of_task[1].text, HasSubstr("killed by signal 9"));
  EXPECT_EQ(chronicle.Of("s", Digest(), 10).size(), 1u);
  EXPECT_EQ(chronicle.Of("", Digest(), 1).size(), 1u);
}

TEST(ChronicleTest, WithoutAJournal_NothingHasHappened) {
  TestFolder folder;
  Chronicle chronicle(folder / "journal.sqlite", absl::Milliseconds(1));
  EXPECT_TRUE(chronicle.Of("", Digest(), 10).empty());
}

}  // namespace
}  // namespace dermis
