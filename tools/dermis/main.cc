// `dermis`: the command line. Exit codes: output.h.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "common/log.h"
#include "tools/dermis/app.h"
#include "tools/dermis/output.h"

namespace dermis {
namespace {

int Main(int argc, char** argv) {
  SetLogProcess("dermis");
  absl::Status outcome;
  CLI::App app("Trains image classifiers data-parallel and explains every prediction.", "dermis");
  BuildApp(app, outcome);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (app.exit(e) == 0) return 0;
    const std::string meant = DidYouMean(app, std::vector<std::string>(argv + 1, argv + argc));
    if (!meant.empty()) std::fprintf(stderr, "Did you mean %s?\n", meant.c_str());
    return kUsage;
  }
  if (!outcome.ok()) {
    std::fprintf(stderr, "%s %s\n", Paint(Color::kRed, "dermis:", stderr).c_str(),
                 std::string(outcome.message()).c_str());
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
    return dermis::kFailed;
  }
}
