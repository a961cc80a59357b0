// The command line of a program that serves.
#ifndef DERMIS_COMMON_COMMAND_LINE_H_
#define DERMIS_COMMON_COMMAND_LINE_H_

#include <iostream>
#include <optional>
#include <sstream>

#include <CLI/CLI.hpp>

#include "common/join_token.h"

namespace dermis {

// Nothing: go on. Else what to end with: 0 where help was asked for, 2 where the command is wrong;
// why is then on standard error, without join tokens that it would repeat.
inline std::optional<int> ParseCommandLine(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    std::ostringstream why;
    const bool asked = app.exit(error, std::cout, why) == 0;
    std::cerr << WithoutJoinToken(why.str());
    return asked ? 0 : 2;
  }
}

}  // namespace dermis

#endif  // DERMIS_COMMON_COMMAND_LINE_H_
