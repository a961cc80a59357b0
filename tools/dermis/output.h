// How commands speak: text for people, one JSON shape a command for programs, colours where they
// help and nobody asked them off, and exit codes (docs/operations.md).
#ifndef DERMIS_TOOLS_DERMIS_OUTPUT_H_
#define DERMIS_TOOLS_DERMIS_OUTPUT_H_

#include <cstdint>
#include <cstdio>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

#include "dermis/v1/studies.pb.h"

namespace dermis {

using Json = nlohmann::ordered_json;

inline constexpr int kFailed = 1;       // The reason is on standard error.
inline constexpr int kUsage = 2;        // The command was wrong.
inline constexpr int kUnsuccessful = 3; // A study ended without success.
inline constexpr int kNotYet = 4;       // `wait --timeout`: a study goes on.
inline constexpr int kInterrupted = 130;

// The same error, with which the process is to end by this code.
absl::Status WithExitCode(absl::Status status, int code);
int ExitCodeOf(const absl::Status& status);

// `-o text|json`, on commands that print; those that write a file: written_file.h.
void AddOutputOption(CLI::App& command, std::string& format);
void PrintJson(const Json& json);  // One line.
// For an -o that names a file: refuses "-", which is no standard output here.
CLI::Validator NamedFile();

// A terminal that can do more than show lines: TERM is not "dumb".
bool IsTerminal(FILE* stream);

enum class Color { kRed, kGreen, kYellow, kBold };
// "auto" (a terminal, neither NO_COLOR nor TERM=dumb), "always", "never".
void SetColorMode(const std::string& mode);
// The text in this colour, or as it is.
std::string Paint(Color color, absl::string_view text, FILE* stream = stdout);

// "running", "paused", "done", "failed", "cancelled".
std::string PhaseName(const v1::StudyStatus& status);
std::string PaintedPhase(const v1::StudyStatus& status, int width);

Json JsonOf(const v1::StudyStatus& status);
Json JsonOf(const v1::ClusterStatusResponse& status);

// "1.2 GB", "340 kB".
std::string ByteText(uint64_t bytes);
// "2026-11-26 10:42:13", UTC.
std::string TimeText(uint64_t unix_ms);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_OUTPUT_H_
