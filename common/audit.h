// The audit log: who did what, and who was refused what. A text of lines, each a JSON object that
// holds the digest of the line before it, so that no line can be changed, taken out or put between
// others without all later ones. Whoever keeps a head (the count and the digest of the last line)
// can show that a log that is longer now holds what it held then; the coordinator signs heads, and
// reports print them.
#ifndef DERMIS_COMMON_AUDIT_H_
#define DERMIS_COMMON_AUDIT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/digest.h"

namespace dermis {

struct AuditEntry {
  std::string who;      // The certificate's name; of a person or a worker.
  std::string role;     // "user", "worker", ...
  std::string call;     // "Studies/Submit"
  std::string what;     // "study demo"; empty: the call says it all.
  std::string outcome;  // "OK", or why not.
  uint64_t times = 1;   // The same refusal so often, one after the other.
};

struct AuditHead {
  uint64_t entries = 0;
  Digest last;  // Of the last line; none: there is none.
};

// The next line, newline included; moves the head on to it.
std::string NextAuditLine(const AuditEntry& entry, uint64_t unix_ms, AuditHead& head);

// Whether these lines follow one another from `head` on, and moves it to their end. DATA_LOSS names
// the first line that does not, from 1. An unfinished last line is a wrong line.
absl::Status FollowAudit(std::string_view lines, AuditHead& head);

// Whether the log, whole from its first line, passed `then`; FollowAudit's errors, and DATA_LOSS
// where it never did.
absl::Status HoldsAudit(std::string_view log, const AuditHead& then);

// What is signed: "dermis audit 12 <hex>".
std::string AuditStatement(const AuditHead& head);

}  // namespace dermis

#endif  // DERMIS_COMMON_AUDIT_H_
