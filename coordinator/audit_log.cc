#include "coordinator/audit_log.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include <fcntl.h>
#include <unistd.h>

#include "common/log.h"

namespace dermis {
namespace {

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
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  absl::MutexLock lock(&log->mutex_);
  if (const absl::Status status = FollowAudit(std::string_view(text).substr(0, whole), log->head_);
      !status.ok()) {
    return absl::DataLossError(
        absl::StrCat(path, ": ", status.message(),
                     ". Keep the file for whoever looks into it, and move it away: a new log "
                     "begins with the next start"));
  }
  if (whole < text.size()) {
    if (ftruncate(file, static_cast<off_t>(whole)) != 0) return failed("shortened");
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
  if (!counted_.call.empty()) Write(counted_);
  counted_ = {};
}

void AuditLog::Record(const AuditEntry& entry) {
  absl::MutexLock lock(&mutex_);
  if (entry.outcome == "OK") {
    WriteCounted();
    Write(entry);
    return;
  }
  const absl::Duration now = clock_.Now();
  if (Same(entry, refusal_) && now < refused_at_ + absl::Seconds(1)) {
    if (Same(entry, counted_)) {
      ++counted_.times;
    } else {
      counted_ = entry;
    }
    return;
  }
  WriteCounted();
  Write(entry);
  refusal_ = entry;
  refused_at_ = now;
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
  std::string bytes(most, '\0');
  const ssize_t got = pread(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
  if (got < 0)
    return absl::UnavailableError(absl::StrCat(path_, " cannot be read: ", std::strerror(errno)));
  bytes.resize(static_cast<size_t>(got));
  bytes.resize(bytes.rfind('\n') == std::string::npos ? 0 : bytes.rfind('\n') + 1);
  return bytes;
}

}  // namespace dermis
