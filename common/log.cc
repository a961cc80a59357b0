#include "common/log.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_replace.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace dermis {
namespace {

struct Process {
  absl::Mutex mutex;
  std::string name ABSL_GUARDED_BY(mutex) = "dermis";
};

Process& TheProcess() {
  static Process* const process = new Process;
  return *process;
}

LogLevel LevelOfEnvironment() {
  const char* value = std::getenv("DERMIS_LOG");
  const std::string_view text = value == nullptr ? "" : value;
  if (text == "debug") return LogLevel::kDebug;
  if (text == "warning") return LogLevel::kWarning;
  if (text == "error") return LogLevel::kError;
  return LogLevel::kInfo;
}

std::atomic<LogLevel>& Least() {
  static std::atomic<LogLevel> least{LevelOfEnvironment()};
  return least;
}

}  // namespace

void SetLogProcess(std::string name) {
  Process& process = TheProcess();
  absl::MutexLock lock(&process.mutex);
  process.name = std::move(name);
}

void SetLogLevel(LogLevel least) { Least() = least; }

void LogLine(LogLevel level, std::string_view text) {
  if (level < Least().load(std::memory_order_relaxed)) return;
  static constexpr const char* kNames[] = {"debug", "info", "warning", "error"};
  Process& process = TheProcess();
  absl::MutexLock lock(&process.mutex);
  // A message stays one line, so that a log can be read line by line.
  const std::string line =
      absl::StrCat(absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone()), " ",
                   kNames[static_cast<int>(level)], " ", process.name, " ",
                   absl::StrReplaceAll(std::string(text), {{"\r", ""}, {"\n", " | "}}), "\n");
  // One call a line: lines of several processes on one terminal do not mix. A log that cannot be
  // written must not stop the work.
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) return;
}

}  // namespace dermis
