// `dermis`: the command line. Exit codes: output.h.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"

#include "common/join_token.h"
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
  const std::vector<std::string> words = WithHelp({argv + 1, argv + argc});
  std::string help;
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));  // As CLI11 takes them.
  } catch (const CLI::ParseError& e) {
    const bool asked = e.get_exit_code() == 0;  // --help, --version.
    if (asked && UsageError(app, words, "", &help).find(": no command '") == std::string::npos) {
      return app.exit(e);
    }
    const std::string error = UsageError(app, words, e.what(), &help);
    std::printf("%s", help.c_str());
    if (!error.empty()) std::fprintf(stderr, "%s\n", WithoutJoinToken(error).c_str());
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
