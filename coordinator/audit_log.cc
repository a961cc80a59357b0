#include "coordinator/audit_log.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include <fcntl.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

constexpr uint64_t kPiece = 1 << 20;  // Far longer than any line.

bool Same(const AuditEntry& a, const AuditEntry& b) {
  return std::tie(a.who, a.role, a.call, a.what, a.outcome) ==
         std::tie(b.who, b.role, b.call, b.what, b.outcome);
}

}  // namespace

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(const std::string& path,
                                                         const Clock& clock) {
  const auto failed = [&](const char* what) {
    return absl::UnavailableError(
        absl::StrCat(path, " cannot be ", what, ": ", std::strerror(errno)));
  };
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0) return failed("opened");
  std::unique_ptr<AuditLog> log(new AuditLog(path, file, clock));
  absl::MutexLock lock(&log->mutex_);
  uint64_t followed = 0;
  for (;;) {
    ASSIGN_OR_RETURN(const std::string lines, log->LinesFrom(followed, kPiece));
    if (lines.empty()) break;
    if (const absl::Status status = FollowAudit(lines, log->head_); !status.ok()) {
      return absl::DataLossError(
          absl::StrCat(path, ": ", status.message(),
                       ". Keep the file for whoever looks into it, and move it away: a new log "
                       "begins with the next start"));
    }
    followed += lines.size();
  }
  const off_t end = lseek(file, 0, SEEK_END);
  if (end < 0) return failed("read");
  if (followed < static_cast<uint64_t>(end)) {
    if (ftruncate(file, static_cast<off_t>(followed)) != 0) return failed("shortened");
    log->Write({"", "coordinator", "audit", "a last line that was cut off was taken away", "OK"});
  }
  return log;
}

AuditLog::~AuditLog() {
  {
    absl::MutexLock lock(&mutex_);
    WriteCounted();
  }
  close(file_);
}

void AuditLog::Write(const AuditEntry& entry) {
  AuditHead head = head_;
  const std::string line = NextAuditLine(entry, clock_.UnixMillis(), head);
  const off_t end = lseek(file_, 0, SEEK_END);
  if (end >= 0 && write(file_, line.data(), line.size()) == static_cast<ssize_t>(line.size())) {
    head_ = head;
    return;
  }
  const int error = errno;
  // A part of a line would break the chain.
  if (end >= 0 && ftruncate(file_, end) != 0) DERMIS_LOG(kError, path_, " cannot be shortened");
  DERMIS_LOG(kError, path_, " cannot be written (", std::strerror(error),
             "), so this is not in it: ", line);
}

void AuditLog::WriteCounted() {
  for (Refusals* refusals : {&of_known_, &of_strangers_}) {
    if (!refusals->counted.call.empty()) Write(refusals->counted);
    refusals->counted = {};
    if (refusals->unwritten > 0) {
      Write({"", "", "several", "",
             absl::StrCat("refused; more than are written one by one, of callers ",
                          refusals == &of_known_ ? "with a certificate" : "without a certificate"),
             refusals->unwritten});
    }
    refusals->unwritten = 0;
  }
}

void AuditLog::Record(const AuditEntry& entry) {
  absl::MutexLock lock(&mutex_);
  if (entry.outcome == "OK") {
    WriteCounted();
    Write(entry);
    return;
  }
  Refusals& refusals = entry.role.empty() ? of_strangers_ : of_known_;
  const absl::Duration now = clock_.Now();
  if (Same(entry, refusals.last) && now < refusals.written_at + absl::Seconds(1)) {
    if (Same(entry, refusals.counted)) {
      refusals.counted.times += entry.times;
    } else {
      refusals.counted = entry;
    }
    return;
  }
  if (!refusals.Afford(now)) {
    refusals.unwritten += entry.times;
    return;
  }
  WriteCounted();
  Write(entry);
  refusals.last = entry;
  refusals.written_at = now;
}

bool AuditLog::Refusals::Afford(absl::Duration now) {
  allowance = std::min(kRefusalsAtOnce, allowance + absl::ToDoubleSeconds(now - filled_at));
  filled_at = now;
  if (allowance < 1) return false;
  --allowance;
  return true;
}

AuditHead AuditLog::Head() {
  absl::MutexLock lock(&mutex_);
  WriteCounted();
  return head_;
}

absl::StatusOr<std::string> AuditLog::Read(uint64_t offset, uint64_t most) {
  {
    absl::MutexLock lock(&mutex_);
    WriteCounted();
  }
  return LinesFrom(offset, most);
}

absl::StatusOr<std::string> AuditLog::LinesFrom(uint64_t offset, uint64_t most) const {
  std::string bytes(most, '\0');
  const ssize_t got = pread(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
  if (got < 0)
    return absl::UnavailableError(absl::StrCat(path_, " cannot be read: ", std::strerror(errno)));
  bytes.resize(static_cast<size_t>(got));
  bytes.resize(bytes.rfind('\n') == std::string::npos ? 0 : bytes.rfind('\n') + 1);
  return bytes;
}

}  // namespace dermis
