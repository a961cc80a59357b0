#include "coordinator/services/unread_calls.h"

#include "absl/strings/str_cat.h"

#include "coordinator/services/limits.h"

namespace dermis {

void UnreadCalls::Begun(const std::string& who, const std::string& role, std::string_view method) {
  absl::MutexLock lock(&mutex_);
  if (count_ >= kMost) return;
  begun_[{who, role, std::string(method)}].push_back(clock_.Now());
  ++count_;
}

void UnreadCalls::Read(const std::string& who, const std::string& role, std::string_view method) {
  absl::MutexLock lock(&mutex_);
  const auto kind = begun_.find({who, role, std::string(method)});
  if (kind == begun_.end()) return;
  kind->second.pop_back();
  --count_;
  if (kind->second.empty()) begun_.erase(kind);
}

std::vector<AuditEntry> UnreadCalls::Overdue() {
  std::vector<AuditEntry> overdue;
  absl::MutexLock lock(&mutex_);
  const absl::Duration late = clock_.Now() - patience_;
  for (auto kind = begun_.begin(); kind != begun_.end();) {
    std::deque<absl::Duration>& calls = kind->second;
    uint64_t times = 0;
    while (!calls.empty() && calls.front() <= late) {
      calls.pop_front();
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
    kind = calls.empty() ? begun_.erase(kind) : std::next(kind);
  }
  return overdue;
}

}  // namespace dermis
