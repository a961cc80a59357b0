// The whole command line as a parser: what main runs, completion is made of, and tests walk through.
#ifndef DERMIS_TOOLS_DERMIS_APP_H_
#define DERMIS_TOOLS_DERMIS_APP_H_

#include <functional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"

namespace dermis {

// Adds every command. One that was chosen leaves its outcome in `outcome`, which outlives the app.
void BuildApp(CLI::App& app, absl::Status& outcome);

// What was meant where the words do not parse: the nearest command or option; "": none is near.
std::string DidYouMean(CLI::App& app, const std::vector<std::string>& words);

// `dermis help cluster start` as `dermis cluster start --help`; other words as they are.
std::vector<std::string> WithHelp(std::vector<std::string> words);

// What is wrong with words that do not parse, in one line that names the command and what was meant:
// "dermis: no command 'rum'; did you mean 'run'?". `why`: what the parser says. Empty where the words
// stop at a group of commands: then `help` is its help.
std::string UsageError(CLI::App& app, const std::vector<std::string>& words, const std::string& why,
                       std::string* help);

// Every command that does something, with the words that call it: {"cluster", "start"}.
void ForEachCommand(
    CLI::App& app,
    const std::function<void(CLI::App& command, const std::vector<std::string>& words)>& see);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_APP_H_
