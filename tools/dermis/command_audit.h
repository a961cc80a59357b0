#ifndef DERMIS_TOOLS_DERMIS_COMMAND_AUDIT_H_
#define DERMIS_TOOLS_DERMIS_COMMAND_AUDIT_H_

#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dermis {

void AddAuditCommands(CLI::App& app, absl::Status& outcome);  // audit show | verify

// What the cluster's audit log holds now, for a report: what `dermis audit verify --head` takes,
// and whose word it is.
absl::StatusOr<std::string> AuditText(const std::string& cluster_directory);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_COMMAND_AUDIT_H_
