#include "common/audit.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

#include "common/status_macros.h"

namespace dermis {
namespace {

// Calls `each` with the head after every line.
template <typename Each>
absl::Status Follow(std::string_view lines, AuditHead& head, Each each) {
  while (!lines.empty()) {
    const uint64_t number = head.entries + 1;
    const size_t end = lines.find('\n');
    if (end == std::string_view::npos) {
      return absl::DataLossError(absl::StrCat("line ", number, " is cut off"));
    }
    const std::string_view line = lines.substr(0, end);
    const nlohmann::json entry = nlohmann::json::parse(line, nullptr, false);
    if (!entry.is_object() || entry.value("n", nlohmann::json()) != number ||
        entry.value("before", nlohmann::json()) != head.last.hex()) {
      return absl::DataLossError(absl::StrCat(
          "line ", number,
          " does not follow the line before it: the log was changed there, or lines are missing"));
    }
    head = {number, Sha256Of(line)};
    each(head);
    lines.remove_prefix(end + 1);
  }
  return absl::OkStatus();
}

}  // namespace

std::string NextAuditLine(const AuditEntry& entry, uint64_t unix_ms, AuditHead& head) {
  nlohmann::ordered_json line;
  line["n"] = head.entries + 1;
  line["time"] =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::FromUnixMillis(static_cast<int64_t>(unix_ms)),
                       absl::UTCTimeZone());
  line["who"] = entry.who;
  line["role"] = entry.role;
  line["call"] = entry.call;
  if (!entry.what.empty()) line["what"] = entry.what;
  line["outcome"] = entry.outcome;
  if (entry.times > 1) line["times"] = entry.times;
  line["before"] = head.last.hex();
  // Names come from outside: what is not UTF-8 is replaced, not thrown.
  const std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  head = {head.entries + 1, Sha256Of(text)};
  return text + "\n";
}

absl::Status FollowAudit(std::string_view lines, AuditHead& head) {
  return Follow(lines, head, [](const AuditHead&) {});
}

absl::Status HoldsAudit(std::string_view log, const AuditHead& then) {
  AuditHead head;
  bool held = then.entries == 0 && then.last.none();
  RETURN_IF_ERROR(Follow(log, head, [&](const AuditHead& now) {
    held = held || (now.entries == then.entries && now.last == then.last);
  }));
  if (held) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "the log has ", head.entries, " lines, and none of them is number ", then.entries,
      " with the digest ", then.last.hex(), ": it is another log, or was written anew"));
}

std::string AuditStatement(const AuditHead& head) {
  return absl::StrCat("dermis audit ", head.entries, " ", head.last.hex());
}

}  // namespace dermis
