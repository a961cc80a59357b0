// Calls whose message has not come. gRPC reads the message of a unary call itself, and ends the call where it is too long
// without a word to us. So a call is noted when its head passes the gate (access.h), and struck off when it is handed to us
// with its message; what stays for longer than `patience` was too long, broken off, or is slow.
#ifndef DERMIS_COORDINATOR_SERVICES_UNREAD_CALLS_H_
#define DERMIS_COORDINATOR_SERVICES_UNREAD_CALLS_H_

#include <cstddef>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/audit.h"
#include "common/clock.h"

namespace dermis {

// Thread-safe. Calls of one caller and method are not told apart: the one that is read counts as the newest of them, so an
// unread one stays however many others come after it.
class UnreadCalls {
 public:
  // `most`: calls noted at a time; later ones are not.
  explicit UnreadCalls(const Clock& clock, absl::Duration patience = absl::Seconds(10), size_t most = 100'000)
      : clock_(clock), patience_(patience), most_(most) {}
  void Begun(const std::string& who, const std::string& role, std::string_view method);
  void Read(const std::string& who, const std::string& role, std::string_view method);
  // Those whose time is over, for the audit log, one entry for each caller and method. They are told once.
  std::vector<AuditEntry> Overdue();

 private:
  using Kind = std::tuple<std::string, std::string, std::string>;  // Who, role, method.

  const Clock& clock_;
  const absl::Duration patience_;
  const size_t most_;
  absl::Mutex mutex_;
  struct Calls {
    std::deque<absl::Duration> begun;  // When, oldest first.
    // Not noted, and newer than those that are: what is read counts as one of them first. Forgotten after `patience`.
    uint64_t skipped = 0;
    absl::Duration skipped_at;
  };
  std::map<Kind, Calls> calls_ ABSL_GUARDED_BY(mutex_);
  size_t count_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_UNREAD_CALLS_H_
