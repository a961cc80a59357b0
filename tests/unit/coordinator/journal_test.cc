#include "coordinator/journal.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>
#include <sqlite3.h>

namespace dermis {
namespace {

class JournalTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "/dermis-journal-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<Journal> Open() {
    absl::StatusOr<std::unique_ptr<Journal>> journal = OpenSqliteJournal(directory_);
    EXPECT_TRUE(journal.ok()) << journal.status();
    return journal.ok() ? *std::move(journal) : nullptr;
  }

  static JournalEntry Started(uint64_t incarnation) {
    JournalEntry entry;
    entry.event.mutable_started()->set_incarnation(incarnation);
    return entry;
  }

  static absl::StatusOr<std::vector<uint64_t>> Rows(Journal& journal) {
    std::vector<uint64_t> rows;
    absl::Status status = journal.Replay([&](uint64_t row, const JournalEntry& entry) {
      EXPECT_EQ(row, rows.size() + 1);
      rows.push_back(entry.event.started().incarnation());
      return absl::OkStatus();
    });
    if (!status.ok()) return status;
    return rows;
  }

  void Sql(const std::string& sql) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open((directory_ + "/journal.sqlite").c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(db);
  }

  void WriteThree() {
    auto journal = Open();
    ASSERT_TRUE(Rows(*journal).ok());
    ASSERT_TRUE(journal->Append({Started(1), Started(2)}).ok());
    ASSERT_TRUE(journal->Append({Started(3)}).ok());
  }

  std::string directory_;
};

TEST_F(JournalTest, Replay_GivesWhatWasAppended_InOrder) {
  WriteThree();
  auto journal = Open();
  const auto rows = Rows(*journal);
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ(*rows, (std::vector<uint64_t>{1, 2, 3}));
  // The chain goes on after a replay.
  ASSERT_TRUE(journal->Append({Started(4)}).ok());
  journal.reset();
  EXPECT_EQ(Rows(*Open())->size(), 4u);
}

TEST_F(JournalTest, ReadResult_FindsAResultByItsTask) {
  auto journal = Open();
  ASSERT_TRUE(Rows(*journal).ok());
  JournalEntry entry;
  entry.task = Sha256Of("task");
  v1::TaskResult& result = *entry.event.mutable_task_completed()->mutable_result();
  result.set_task(entry.task.bytes());
  result.set_payload("the payload");
  ASSERT_TRUE(journal->Append({entry}).ok());
  const auto read = journal->ReadResult(entry.task);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->payload(), "the payload");
  EXPECT_EQ(journal->ReadResult(Sha256Of("another")).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(JournalTest, Read_GivesCommittedRows_PageByPage) {
  WriteThree();
  auto journal = Open();
  ASSERT_TRUE(Rows(*journal).ok());
  const auto first = journal->Read(0, 2);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_EQ(first->size(), 2u);
  EXPECT_EQ((*first)[1].row, 2u);
  EXPECT_EQ((*first)[1].entry.event.started().incarnation(), 2u);
  const auto rest = journal->Read(2, 2);
  ASSERT_TRUE(rest.ok());
  ASSERT_EQ(rest->size(), 1u);
  EXPECT_EQ((*rest)[0].entry.event.started().incarnation(), 3u);
  EXPECT_TRUE(journal->Read(3, 2)->empty());
}

TEST_F(JournalTest, ChangedRow_IsNamed) {
  WriteThree();
  Sql("UPDATE events SET event = x'12020805' WHERE row = 2");
  const auto rows = Rows(*Open());
  EXPECT_EQ(rows.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(rows.status().ToString().find("row 2"), std::string::npos) << rows.status();
}

TEST_F(JournalTest, LostRow_IsNamed) {
  WriteThree();
  Sql("DELETE FROM events WHERE row = 2");
  const auto rows = Rows(*Open());
  EXPECT_EQ(rows.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(rows.status().ToString().find("row 2"), std::string::npos) << rows.status();
}

TEST_F(JournalTest, RowWithRecomputedHash_BreaksTheNextOne) {
  WriteThree();
  // Someone changes row 1 and gives it a fitting hash: the next row still tells.
  std::string bytes;
  Started(9).event.SerializeToString(&bytes);
  Sha256 hash;
  hash.Update(Digest().array().data(), Digest::kSize);
  hash.Update(bytes.data(), bytes.size());
  std::string hex;
  for (unsigned char c : bytes) absl::StrAppend(&hex, absl::Hex(c, absl::kZeroPad2));
  Sql(absl::StrCat("UPDATE events SET event = x'", hex, "', hash = x'", hash.Finish().hex(),
                   "' WHERE row = 1"));
  const auto rows = Rows(*Open());
  EXPECT_EQ(rows.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(rows.status().ToString().find("row 2"), std::string::npos) << rows.status();
}

TEST_F(JournalTest, TornLog_LosesAtMostTheLastTransactions) {
  auto journal = Open();
  ASSERT_TRUE(Rows(*journal).ok());
  for (uint64_t i = 1; i <= 20; ++i) ASSERT_TRUE(journal->Append({Started(i)}).ok());
  // A copy as a crash would leave it, its log cut in the middle of a page.
  const std::string copy = directory_ + "/copy";
  std::filesystem::create_directory(copy);
  for (const char* name : {"/journal.sqlite", "/journal.sqlite-wal"}) {
    std::filesystem::copy_file(directory_ + name, copy + name);
  }
  const auto size = std::filesystem::file_size(copy + "/journal.sqlite-wal");
  std::filesystem::resize_file(copy + "/journal.sqlite-wal", size - 3000);
  auto torn = OpenSqliteJournal(copy);
  ASSERT_TRUE(torn.ok()) << torn.status();
  const auto rows = Rows(**torn);
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_LT(rows->size(), 20u);
  ASSERT_GT(rows->size(), 10u);
  for (size_t i = 0; i < rows->size(); ++i) EXPECT_EQ((*rows)[i], i + 1);
}

TEST_F(JournalTest, SecondCoordinatorOnOneStore_IsRefused) {
  auto journal = Open();
  const auto second = OpenSqliteJournal(directory_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(second.status().ToString().find("another coordinator"), std::string::npos);
  journal.reset();
  EXPECT_TRUE(OpenSqliteJournal(directory_).ok());
}

TEST_F(JournalTest, FileThatIsNoDatabase_IsAnErrorThatNamesIt) {
  std::ofstream(directory_ + "/journal.sqlite") << std::string(8192, 'x');
  const auto journal = OpenSqliteJournal(directory_);
  EXPECT_EQ(journal.status().code(), absl::StatusCode::kDataLoss) << journal.status();
  EXPECT_NE(journal.status().ToString().find("journal.sqlite"), std::string::npos);
}

}  // namespace
}  // namespace dermis
