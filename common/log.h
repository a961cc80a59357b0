// One line a message on standard error: time, level, process, text. Thread-safe.
//   DERMIS_LOG(kWarning, "worker ", name, " lost: ", cause);
#ifndef DERMIS_COMMON_LOG_H_
#define DERMIS_COMMON_LOG_H_

#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace dermis {

enum class LogLevel { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3 };

void SetLogProcess(std::string name);      // e.g. "coordinator", "worker/0". Call once at start.
void SetLogLevel(LogLevel least);          // Default kInfo; environment DERMIS_LOG=debug lowers it.
void LogLine(LogLevel level, std::string_view text);

}  // namespace dermis

#define DERMIS_LOG(level, ...) ::dermis::LogLine(::dermis::LogLevel::level, ::absl::StrCat(__VA_ARGS__))

#endif  // DERMIS_COMMON_LOG_H_
