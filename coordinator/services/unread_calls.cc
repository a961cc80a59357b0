#include "coordinator/services/unread_calls.h"

#include "absl/strings/str_cat.h"

#include "coordinator/services/limits.h"

namespace dermis {

void UnreadCalls::Begun(const std::string& who, const std::string& role, std::string_view method) {
  absl::MutexLock lock(&mutex_);
  Calls& calls = calls_[{who, role, std::string(method)}];
  if (count_ >= most_) {
    ++calls.skipped;
    calls.skipped_at = clock_.Now();
    return;
  }
  calls.begun.push_back(clock_.Now());
  ++count_;
}

void UnreadCalls::Read(const std::string& who, const std::string& role, std::string_view method) {
  absl::MutexLock lock(&mutex_);
  const auto kind = calls_.find({who, role, std::string(method)});
  if (kind == calls_.end()) return;
  Calls& calls = kind->second;
  if (calls.skipped > 0) {
    --calls.skipped;
  } else {
    calls.begun.pop_back();
    --count_;
  }
  if (calls.begun.empty() && calls.skipped == 0) calls_.erase(kind);
}

std::vector<AuditEntry> UnreadCalls::Overdue() {
  std::vector<AuditEntry> overdue;
  absl::MutexLock lock(&mutex_);
  const absl::Duration late = clock_.Now() - patience_;
  for (auto kind = calls_.begin(); kind != calls_.end();) {
    Calls& calls = kind->second;
    if (calls.skipped > 0 && calls.skipped_at <= late) calls.skipped = 0;
    uint64_t times = 0;
    while (!calls.begun.empty() && calls.begun.front() <= late) {
      calls.begun.pop_front();
      --count_;
      ++times;
    }
    if (times > 0) {
      const auto& [who, role, method] = kind->first;
      overdue.push_back({who, role, method, "",
                         absl::StrCat("its message did not come within ", absl::FormatDuration(patience_), ": longer than ",
                                      kMostMessageBytes >> 20, " MiB (that is refused), broken off, or slow"),
                         times});
    }
    kind = calls.begun.empty() && calls.skipped == 0 ? calls_.erase(kind) : std::next(kind);
  }
  return overdue;
}

}  // namespace dermis
