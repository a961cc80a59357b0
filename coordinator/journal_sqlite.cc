#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status_macros.h"
#include "coordinator/journal.h"

namespace dermis {
namespace {

constexpr int kFormat = 1;

// A statement that is finalised when it goes.
class Statement {
 public:
  Statement() = default;
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  int Prepare(sqlite3* db, const char* sql) {
    return sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr);
  }
  sqlite3_stmt* get() const { return statement_; }

 private:
  sqlite3_stmt* statement_ = nullptr;
};

std::string_view Column(sqlite3_stmt* statement, int column) {
  const void* data = sqlite3_column_blob(statement, column);
  if (data == nullptr) return {};
  return {static_cast<const char*>(data),
          static_cast<size_t>(sqlite3_column_bytes(statement, column))};
}

Digest RowHash(const Digest& previous, std::string_view event) {
  Sha256 hash;
  hash.Update(previous.array().data(), Digest::kSize);
  hash.Update(event.data(), event.size());
  return hash.Finish();
}

class SqliteJournal : public Journal {
 public:
  explicit SqliteJournal(std::string directory)
      : directory_(std::move(directory)), path_(directory_ + "/journal.sqlite") {}

  ~SqliteJournal() override {
    // Statements hold their connection open: they go first.
    insert_.reset();
    read_.reset();
    rows_.reset();
    sqlite3_close(reader_);
    sqlite3_close(writer_);
    if (lock_ >= 0) close(lock_);
  }

  absl::Status Open() {
    if (mkdir(directory_.c_str(), 0700) != 0 && errno != EEXIST) {
      return absl::InternalError(absl::StrCat("cannot make the store ", directory_, ": ",
                                              strerror(errno), "; choose another --store"));
    }
    RETURN_IF_ERROR(Lock());
    RETURN_IF_ERROR(Connect(&writer_));
    for (const char* pragma :
         {"PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA wal_autocheckpoint=4000"}) {
      RETURN_IF_ERROR(Execute(pragma));
    }
    int format = 0;
    {
      Statement version;
      if (version.Prepare(writer_, "PRAGMA user_version") != SQLITE_OK) return Error("open");
      if (sqlite3_step(version.get()) != SQLITE_ROW) return Error("open");
      format = sqlite3_column_int(version.get(), 0);
    }
    if (format == 0) {
      RETURN_IF_ERROR(
          Execute("BEGIN IMMEDIATE;"
                  "CREATE TABLE events(row INTEGER PRIMARY KEY, task BLOB, event BLOB NOT NULL, "
                  "hash BLOB NOT NULL);"
                  "CREATE INDEX events_task ON events(task) WHERE task IS NOT NULL;"
                  "PRAGMA user_version=1;"
                  "COMMIT"));
    } else if (format != kFormat) {
      return absl::FailedPreconditionError(
          absl::StrCat(path_, " has format ", format, ", this coordinator reads ", kFormat,
                       ": run the version of Dermis that wrote it"));
    }
    insert_ = std::make_unique<Statement>();
    if (insert_->Prepare(writer_, "INSERT INTO events(row, task, event, hash) VALUES(?,?,?,?)") !=
        SQLITE_OK) {
      return Error("prepare");
    }
    RETURN_IF_ERROR(Connect(&reader_));
    read_ = std::make_unique<Statement>();
    if (read_->Prepare(reader_,
                       "SELECT event FROM events WHERE task=? ORDER BY row DESC LIMIT 1") !=
        SQLITE_OK) {
      return Error("prepare", reader_);
    }
    rows_ = std::make_unique<Statement>();
    if (rows_->Prepare(reader_, "SELECT row, task, event FROM events WHERE row>? ORDER BY row LIMIT ?") !=
        SQLITE_OK) {
      return Error("prepare", reader_);
    }
    return absl::OkStatus();
  }

  absl::Status Replay(
      const std::function<absl::Status(uint64_t, const JournalEntry&)>& apply) override {
    Statement rows;
    if (rows.Prepare(writer_, "SELECT row, task, event, hash FROM events ORDER BY row") !=
        SQLITE_OK) {
      return Error("replay");
    }
    row_ = 0;
    last_ = Digest();
    int code;
    while ((code = sqlite3_step(rows.get())) == SQLITE_ROW) {
      const uint64_t row = static_cast<uint64_t>(sqlite3_column_int64(rows.get(), 0));
      if (row != row_ + 1) return Broken(row_ + 1, "it is not there");
      const std::string_view event = Column(rows.get(), 2);
      const Digest hash = RowHash(last_, event);
      if (Column(rows.get(), 3) != hash.bytes()) {
        return Broken(row, "its bytes, or those of a row before it, do not match its hash");
      }
      JournalEntry entry;
      absl::StatusOr<Digest> task = Digest::FromBytes(Column(rows.get(), 1));
      if (!task.ok()) return Broken(row, task.status().message());
      entry.task = *task;
      if (!entry.event.ParseFromArray(event.data(), static_cast<int>(event.size()))) {
        return Broken(row, "it is not an event");
      }
      if (entry.event.has_task_completed() &&
          entry.event.task_completed().result().task() != entry.task.bytes()) {
        return Broken(row, "its task column is not its task");
      }
      RETURN_IF_ERROR(apply(row, entry));
      row_ = row;
      last_ = hash;
    }
    if (code != SQLITE_DONE) return Error("replay");
    return absl::OkStatus();
  }

  absl::Status Append(absl::Span<const JournalEntry> entries) override {
    if (failed_) {
      return absl::FailedPreconditionError(
          "the journal failed before; start the coordinator again");
    }
    absl::Status status = Transaction(entries);
    if (!status.ok()) {
      failed_ = true;
      sqlite3_exec(writer_, "ROLLBACK", nullptr, nullptr, nullptr);
    }
    return status;
  }

  absl::StatusOr<v1::TaskResult> ReadResult(const Digest& task) const override {
    absl::MutexLock lock(&read_mutex_);
    sqlite3_stmt* statement = read_->get();
    sqlite3_reset(statement);
    sqlite3_bind_blob(statement, 1, task.array().data(), Digest::kSize, SQLITE_STATIC);
    const int code = sqlite3_step(statement);
    absl::StatusOr<v1::TaskResult> result =
        absl::NotFoundError(absl::StrCat("no result of task ", task.short_hex()));
    if (code == SQLITE_ROW) {
      const std::string_view bytes = Column(statement, 0);
      v1::Event event;
      if (event.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) &&
          event.has_task_completed()) {
        result = std::move(*event.mutable_task_completed()->mutable_result());
      } else {
        result = absl::DataLossError(
            absl::StrCat(path_, ": the row of task ", task.short_hex(), " is damaged"));
      }
    } else if (code != SQLITE_DONE) {
      result = Error("read", reader_);
    }
    sqlite3_reset(statement);  // Ends the read transaction: a checkpoint must not wait for it.
    return result;
  }

  absl::StatusOr<std::vector<Row>> Read(uint64_t after, size_t most) const override {
    absl::MutexLock lock(&read_mutex_);
    sqlite3_stmt* statement = rows_->get();
    sqlite3_reset(statement);
    sqlite3_bind_int64(statement, 1, static_cast<int64_t>(after));
    sqlite3_bind_int64(statement, 2, static_cast<int64_t>(most));
    std::vector<Row> rows;
    absl::Status status;
    int code;
    while (status.ok() && (code = sqlite3_step(statement)) == SQLITE_ROW) {
      Row& row = rows.emplace_back();
      row.row = static_cast<uint64_t>(sqlite3_column_int64(statement, 0));
      const absl::StatusOr<Digest> task = Digest::FromBytes(Column(statement, 1));
      const std::string_view event = Column(statement, 2);
      if (!task.ok() ||
          !row.entry.event.ParseFromArray(event.data(), static_cast<int>(event.size()))) {
        status = Broken(row.row, "it is not an event");
      } else {
        row.entry.task = *task;
      }
    }
    if (status.ok() && code != SQLITE_DONE) status = Error("read", reader_);
    sqlite3_reset(statement);
    RETURN_IF_ERROR(status);
    return rows;
  }

 private:
  absl::Status Lock() {
    const std::string path = directory_ + "/coordinator.lock";
    lock_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock_ < 0) {
      return absl::InternalError(
          absl::StrCat("cannot open ", path, ": ", strerror(errno), "; is the store writable?"));
    }
    if (flock(lock_, LOCK_EX | LOCK_NB) != 0) {
      char text[32] = {};
      const ssize_t n = pread(lock_, text, sizeof(text) - 1, 0);
      return absl::FailedPreconditionError(
          absl::StrCat("another coordinator ", n > 0 ? absl::StrCat("(process ", text, ") ") : "",
                       "uses the store ", directory_, ": stop it, or choose another --store"));
    }
    const std::string pid = absl::StrCat(getpid());
    if (ftruncate(lock_, 0) != 0 ||
        pwrite(lock_, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
      DERMIS_LOG(kWarning, "cannot write ", path, ": ", strerror(errno));
    }
    return absl::OkStatus();
  }

  absl::Status Connect(sqlite3** db) {
    if (sqlite3_open_v2(path_.c_str(), db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        nullptr) != SQLITE_OK) {
      return Error("open", *db);
    }
    sqlite3_busy_timeout(*db, 5000);
    return absl::OkStatus();
  }

  absl::Status Execute(const char* sql) {
    if (sqlite3_exec(writer_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return Error(sql);
    return absl::OkStatus();
  }

  absl::Status Transaction(absl::Span<const JournalEntry> entries) {
    RETURN_IF_ERROR(Execute("BEGIN IMMEDIATE"));
    uint64_t row = row_;
    Digest last = last_;
    std::string bytes;
    for (const JournalEntry& entry : entries) {
      if (!entry.event.SerializeToString(&bytes)) {
        return absl::InternalError("an event does not serialise");
      }
      const Digest hash = RowHash(last, bytes);
      sqlite3_stmt* statement = insert_->get();
      sqlite3_reset(statement);
      sqlite3_bind_int64(statement, 1, static_cast<int64_t>(++row));
      if (entry.task.none()) {
        sqlite3_bind_null(statement, 2);
      } else {
        sqlite3_bind_blob(statement, 2, entry.task.array().data(), Digest::kSize, SQLITE_STATIC);
      }
      sqlite3_bind_blob64(statement, 3, bytes.data(), bytes.size(), SQLITE_STATIC);
      sqlite3_bind_blob(statement, 4, hash.array().data(), Digest::kSize, SQLITE_STATIC);
      const int code = sqlite3_step(statement);
      if (code != SQLITE_DONE) {
        absl::Status status = Error("write");
        sqlite3_reset(statement);
        return status;
      }
      last = hash;
    }
    sqlite3_reset(insert_->get());
    RETURN_IF_ERROR(Execute("COMMIT"));
    row_ = row;
    last_ = last;
    return absl::OkStatus();
  }

  absl::Status Broken(uint64_t row, absl::string_view why) const {
    return absl::DataLossError(absl::StrCat(path_, ": row ", row, " is damaged: ", why,
                                            ". Restore the store from a backup."));
  }

  absl::Status Error(absl::string_view what, sqlite3* db = nullptr) const {
    if (db == nullptr) db = writer_;
    const int code = db == nullptr ? SQLITE_NOMEM : sqlite3_errcode(db);
    const std::string text =
        absl::StrCat(path_, ": ", what, ": ", db == nullptr ? "out of memory" : sqlite3_errmsg(db));
    switch (code & 0xff) {
      case SQLITE_FULL:
        return absl::ResourceExhaustedError(
            absl::StrCat(text, ": the disk is full; free space and start again"));
      case SQLITE_CORRUPT:
      case SQLITE_NOTADB:
        return absl::DataLossError(absl::StrCat(text, "; restore the store from a backup"));
      case SQLITE_BUSY:
        return absl::FailedPreconditionError(absl::StrCat(text, ": another process uses it"));
      default:
        return absl::InternalError(text);
    }
  }

  const std::string directory_;
  const std::string path_;
  int lock_ = -1;
  sqlite3* writer_ = nullptr;
  sqlite3* reader_ = nullptr;
  std::unique_ptr<Statement> insert_;
  mutable absl::Mutex read_mutex_;
  std::unique_ptr<Statement> read_, rows_;
  uint64_t row_ = 0;
  Digest last_;
  bool failed_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Journal>> OpenSqliteJournal(const std::string& directory) {
  auto journal = std::make_unique<SqliteJournal>(directory);
  RETURN_IF_ERROR(journal->Open());
  return journal;
}

}  // namespace dermis
