#include "coordinator/dashboard/chronicle.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include <sqlite3.h>

namespace dermis {
namespace {

constexpr size_t kKept = 5000;
// Of a long journal only the end is looked through.
constexpr uint64_t kRowsBack = 500'000;

}  // namespace

bool Describe(const v1::Event& event, Happening& out) {
  out.unix_ms = event.unix_ms();
  switch (event.kind_case()) {
    case v1::Event::kStarted:
      out.kind = "started";
      out.text = absl::StrCat("coordinator ", event.started().version(), ", start ",
                              event.started().incarnation());
      return true;
    case v1::Event::kStudySubmitted:
      out.kind = "submitted";
      out.studies = {event.study_submitted().id()};
      out.text = event.study_submitted().user().empty()
                     ? "submitted"
                     : absl::StrCat("by ", event.study_submitted().user());
      return true;
    case v1::Event::kStudyPinned:
      out.kind = "pinned";
      out.studies = {event.study_pinned().id()};
      out.text = absl::StrCat("to numerics class ", event.study_pinned().numerics_class());
      return true;
    case v1::Event::kStudyCancelled:
      out.kind = "cancelled";
      out.studies = {event.study_cancelled().id()};
      return true;
    case v1::Event::kAttemptLost: {
      const v1::AttemptLost& lost = event.attempt_lost();
      out.kind = "lost";
      out.worker = lost.worker();
      if (auto task = Digest::FromBytes(lost.task()); task.ok()) out.task = *task;
      out.text = absl::StrCat("an attempt was lost", lost.alone() ? " (it ran alone)" : "", ": ",
                              lost.cause());
      return true;
    }
    case v1::Event::kTaskFailed: {
      const v1::TaskFailed& failed = event.task_failed();
      out.kind = "failed";
      out.worker = failed.worker();
      out.studies.assign(failed.studies().begin(), failed.studies().end());
      if (auto task = Digest::FromBytes(failed.task()); task.ok()) out.task = *task;
      out.text = failed.cause();
      return true;
    }
    case v1::Event::kFailuresCleared:
      out.kind = "retried";
      out.studies = {event.failures_cleared().study()};
      return true;
    case v1::Event::kBlobDropped:
      out.kind = "blob lost";
      out.text = event.blob_dropped().cause();
      return true;
    default:
      return false;
  }
}

Chronicle::Chronicle(std::string journal_file, absl::Duration period)
    : file_(std::move(journal_file)), period_(period), thread_([this] { Loop(); }) {}

Chronicle::~Chronicle() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  thread_.join();
}

std::vector<Happening> Chronicle::Of(const std::string& study, const Digest& task,
                                     size_t most) const {
  std::vector<Happening> out;
  absl::MutexLock lock(&mutex_);
  for (auto it = kept_.rbegin(); it != kept_.rend() && out.size() < most; ++it) {
    if (!task.none() && it->task != task) continue;
    if (!study.empty() &&
        std::find(it->studies.begin(), it->studies.end(), study) == it->studies.end()) {
      continue;
    }
    out.push_back(*it);
  }
  return out;
}

void Chronicle::Loop() {
  sqlite3* db = nullptr;
  const int opened =
      sqlite3_open_v2(file_.c_str(), &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, nullptr);
  if (opened == SQLITE_OK) sqlite3_busy_timeout(db, 1000);
  absl::MutexLock lock(&mutex_);
  do {
    mutex_.Unlock();
    if (opened == SQLITE_OK) Read(db);
    mutex_.Lock();
  } while (!mutex_.AwaitWithTimeout(absl::Condition(&stopped_), period_));
  sqlite3_close(db);
}

void Chronicle::Read(sqlite3* db) {
  sqlite3_stmt* last = nullptr;
  uint64_t newest = 0;
  if (sqlite3_prepare_v2(db, "SELECT max(row) FROM events", -1, &last, nullptr) == SQLITE_OK &&
      sqlite3_step(last) == SQLITE_ROW) {
    newest = static_cast<uint64_t>(sqlite3_column_int64(last, 0));
  }
  sqlite3_finalize(last);
  if (newest <= row_) return;
  row_ = std::max(row_, newest > kRowsBack ? newest - kRowsBack : 0);
  sqlite3_stmt* rows = nullptr;
  if (sqlite3_prepare_v2(
          db,
          "SELECT row, event FROM events WHERE row > ? AND row <= ? AND task IS NULL "
          "ORDER BY row",
          -1, &rows, nullptr) != SQLITE_OK) {
    return;
  }
  sqlite3_bind_int64(rows, 1, static_cast<int64_t>(row_));
  sqlite3_bind_int64(rows, 2, static_cast<int64_t>(newest));
  int code;
  while ((code = sqlite3_step(rows)) == SQLITE_ROW) {
    Happening happening;
    happening.row = static_cast<uint64_t>(sqlite3_column_int64(rows, 0));
    v1::Event event;
    if (!event.ParseFromArray(sqlite3_column_blob(rows, 1), sqlite3_column_bytes(rows, 1)) ||
        !Describe(event, happening)) {
      continue;
    }
    absl::MutexLock lock(&mutex_);
    kept_.push_back(std::move(happening));
    if (kept_.size() > kKept) kept_.pop_front();
  }
  sqlite3_finalize(rows);
  if (code == SQLITE_DONE) row_ = newest;
}

}  // namespace dermis
