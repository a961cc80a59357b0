// The audit log's file (common/audit.h). A line is written before the caller is answered; it is in
// the system's hands then, and survives the coordinator's death (not a loss of power within some
// seconds).
#ifndef DERMIS_COORDINATOR_AUDIT_LOG_H_
#define DERMIS_COORDINATOR_AUDIT_LOG_H_

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/audit.h"
#include "common/clock.h"

namespace dermis {

// Thread-safe.
class AuditLog {
 public:
  static constexpr double kRefusalsAtOnce = 100;

  // Makes the file (mode 0600) or follows it to its end. A last line that was cut off by a loss of
  // power is taken away, and a line says so. DATA_LOSS: it was changed.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(const std::string& path,
                                                        const Clock& clock);
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  // Where the disk is full the line is missing, and the process's log says so. Knocking does not fill the disk: refusals
  // (outcome other than "OK") of one caller and call within a second of the first are counted and written as one line;
  // and of refusals of all kinds, after kRefusalsAtOnce, one a second is written, the others are counted in one line. Callers with
  // a certificate (their entries have a role) and strangers have an allowance each: strangers cannot hide what a thief of one does.
  void Record(const AuditEntry& entry);

  // With all that is counted written.
  AuditHead Head();
  // Bytes of the file from `offset` on, whole lines, at most about `most`.
  absl::StatusOr<std::string> Read(uint64_t offset, uint64_t most);

 private:
  AuditLog(std::string path, int file, const Clock& clock)
      : path_(std::move(path)), file_(file), clock_(clock) {}
  void Write(const AuditEntry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::string> LinesFrom(uint64_t offset, uint64_t most) const;
  void WriteCounted() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  struct Refusals {
    AuditEntry counted;      // One that came again: not written yet.
    uint64_t unwritten = 0;  // Those that were too many.
    double allowance = kRefusalsAtOnce;
    absl::Duration filled_at = -absl::InfiniteDuration();
    // The last one that was written, and when.
    AuditEntry last;
    absl::Duration written_at;

    // Whether one may have a line of its own now.
    bool Afford(absl::Duration now);
  };

  const std::string path_;
  const int file_;
  const Clock& clock_;
  absl::Mutex mutex_;
  AuditHead head_ ABSL_GUARDED_BY(mutex_);
  Refusals of_strangers_ ABSL_GUARDED_BY(mutex_), of_known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_AUDIT_LOG_H_
