// The commands of `dermis`, one file each group. Each adds its sub-commands and options to the parser; when one was
// chosen its callback leaves the outcome in `outcome`.
#ifndef DERMIS_TOOLS_DERMIS_COMMANDS_H_
#define DERMIS_TOOLS_DERMIS_COMMANDS_H_

#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"

namespace dermis {

void AddImageCommands(CLI::App& app, absl::Status& outcome);     // ingest, synth
void AddClusterCommands(CLI::App& app, absl::Status& outcome);   // cluster start | stop | status
void AddDashboardCommand(CLI::App& app, absl::Status& outcome);  // dashboard
void AddEvaluateCommand(CLI::App& app, absl::Status& outcome);   // evaluate
void AddExplainCommand(CLI::App& app, absl::Status& outcome);    // explain
void AddRunCommand(CLI::App& app, absl::Status& outcome);        // run, watch
void AddStatusCommands(CLI::App& app, absl::Status& outcome);    // status, cancel, retry
void AddResultCommands(CLI::App& app, absl::Status& outcome);    // report, results, compare

// Where a running coordinator serves its dashboard; "" where none is served.
std::string DashboardUrl(const std::string& cluster_directory);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_COMMANDS_H_
