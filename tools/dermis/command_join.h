// The commands of joining: beneath `dermis cluster`.
#ifndef DERMIS_TOOLS_DERMIS_COMMAND_JOIN_H_
#define DERMIS_TOOLS_DERMIS_COMMAND_JOIN_H_

#include "CLI/CLI.hpp"
#include "absl/status/status.h"

namespace dermis {

void AddJoinCommands(CLI::App& cluster, absl::Status& outcome);  // cluster token create | list | revoke, cluster revoke

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_COMMAND_JOIN_H_
