// `dermis`: the command line. Exit codes: 0 done; 1 it failed, the reason is on standard error; 2 the command was
// wrong; 3 the study ended without success; 130 interrupted.
#include <cstdio>
#include <exception>
#include <string>

#include "CLI/CLI.hpp"
#include "common/log.h"
#include "common/tasks.h"
#include "tools/dermis/commands.h"

namespace dermis {
namespace {

constexpr char kExamples[] = R"(Examples:
  dermis synth -o demo.images                                      synthetic lesions with a known cause
  dermis ingest photos --labels labels.csv -o photos.images        your own images
  dermis cluster start --workers 2                                 coordinator and workers on this machine
  dermis run studies/demo.yaml --images demo.images                submit, watch, results
  dermis report demo -o report.html
  dermis explain --model FILE --images photos -o explained         no study, no cluster needed)";

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk: return 0;
    case absl::StatusCode::kCancelled: return 130;
    case absl::StatusCode::kAborted: return 3;  // Only the watching of a study gives it.
    default: return 1;
  }
}

int Main(int argc, char** argv) {
  SetLogProcess("dermis");
  absl::Status outcome;
  CLI::App app("Trains image classifiers data-parallel and explains every prediction.", "dermis");
  app.require_subcommand(1);
  app.set_version_flag("--version", kVersion);
  app.footer(kExamples);
  AddImageCommands(app, outcome);
  AddClusterCommands(app, outcome);
  AddDashboardCommand(app, outcome);
  AddRunCommand(app, outcome);
  AddEvaluateCommand(app, outcome);
  AddExplainCommand(app, outcome);
  AddStatusCommands(app, outcome);
  AddResultCommands(app, outcome);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (!outcome.ok()) {
    std::fprintf(stderr, "dermis: %s\n", std::string(outcome.message()).c_str());
  }
  return ExitCodeOf(outcome);
}

}  // namespace
}  // namespace dermis

int main(int argc, char** argv) {
  try {
    return dermis::Main(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "dermis: %s\n", e.what());
    return 1;
  }
}
