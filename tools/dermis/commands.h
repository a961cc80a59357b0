// The commands of `dermis`, one file each group. Each adds its sub-commands and options to the parser; when one was
// chosen its callback leaves the outcome in `outcome`.
#ifndef DERMIS_TOOLS_DERMIS_COMMANDS_H_
#define DERMIS_TOOLS_DERMIS_COMMANDS_H_

#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"

namespace dermis {

void AddImageCommands(CLI::App& app, absl::Status& outcome);       // ingest, synth
void AddClusterCommands(CLI::App& app, absl::Status& outcome);     // cluster start | stop | status
void AddDashboardCommand(CLI::App& app, absl::Status& outcome);   // dashboard
void AddEvaluateCommand(CLI::App& app, absl::Status& outcome);     // evaluate
void AddExplainCommand(CLI::App& app, absl::Status& outcome);      // explain
void AddRunCommand(CLI::App& app, absl::Status& outcome);          // run, watch
void AddStudyCommands(CLI::App& app, absl::Status& outcome);       // status, wait, pause, resume, priority, cancel, ...
void AddTopCommand(CLI::App& app, absl::Status& outcome);          // top
void AddHistoryCommands(CLI::App& app, absl::Status& outcome);     // logs, trace
void AddResultCommands(CLI::App& app, absl::Status& outcome);      // report, results, models export, compare
void AddDoctorCommand(CLI::App& app, absl::Status& outcome);       // doctor
void AddCompletionCommand(CLI::App& app, absl::Status& outcome);   // completion

// Where a running coordinator serves its dashboard; "" where none is served.
std::string DashboardUrl(const std::string& cluster_directory);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_COMMANDS_H_
