// Shells' completion, made of the parser itself: what is added to it is completed.
#ifndef DERMIS_TOOLS_DERMIS_COMPLETION_H_
#define DERMIS_TOOLS_DERMIS_COMPLETION_H_

#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"

namespace dermis {

// A script for `bash`, `zsh` or `fish`. Words of a command, values of options that have a fixed set,
// files, and the names of studies (asked from the cluster when Tab is pressed).
absl::StatusOr<std::string> CompletionScript(CLI::App& app, const std::string& shell);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_COMPLETION_H_
