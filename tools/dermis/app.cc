#include "tools/dermis/app.h"

#include <algorithm>
#include <memory>

#include "common/nearest_word.h"
#include "common/tasks.h"
#include "tools/dermis/command_audit.h"
#include "tools/dermis/commands.h"
#include "tools/dermis/output.h"

namespace dermis {
namespace {

constexpr char kExamples[] = R"(Examples:
  dermis synth -o demo.images                           # synthetic lesions with a known cause
  dermis ingest photos --labels labels.csv -o photos.images
  dermis cluster start --workers 2                      # coordinator and workers on this machine
  dermis run studies/demo.yaml --images demo.images     # submit, watch, results
  dermis report demo -o report.html
  dermis doctor                                         # what is wrong here, and what to do

Each command has its own --help with examples. Exit codes: 0 done; 1 it failed, the reason is on standard error;
2 the command was wrong; 3 a study ended without success; 4 it is not over yet (wait); 130 interrupted.)";

void Walk(CLI::App& app, std::vector<std::string>& words,
          const std::function<void(CLI::App&, const std::vector<std::string>&)>& see) {
  const auto commands = app.get_subcommands([](CLI::App*) { return true; });
  if (commands.empty()) {
    see(app, words);
    return;
  }
  for (CLI::App* command : commands) {
    words.push_back(command->get_name());
    Walk(*command, words, see);
    words.pop_back();
  }
}

// "": none is near enough to be meant.
std::string Nearest(const std::string& word, const std::vector<std::string>& known) {
  return NearestWord(word, known, std::max<size_t>(1, word.size() / 3));
}

// How far words call commands.
struct Place {
  CLI::App* command;
  std::string path;     // "dermis cluster".
  std::string unknown;  // A word where a command is due.
};
Place PlaceOf(CLI::App& app, const std::vector<std::string>& words) {
  Place place{&app, app.get_name(), ""};
  for (const std::string& word : words) {
    const auto commands = place.command->get_subcommands([](CLI::App*) { return true; });
    if (commands.empty()) break;
    if (word.starts_with("-")) continue;
    const auto next = std::find_if(commands.begin(), commands.end(),
                                   [&](const CLI::App* other) { return other->check_name(word); });
    if (next == commands.end()) {
      place.unknown = word;
      break;
    }
    place.command = *next;
    absl::StrAppend(&place.path, " ", word);
  }
  return place;
}

// ": an image set (from ingest or synth)": what an option that is missing is for.
std::string MeaningOf(const CLI::App& command, const std::string& why) {
  const std::string_view end = " is required";
  if (!why.ends_with(end)) return "";
  const CLI::Option* option =
      command.get_option_no_throw(why.substr(0, why.size() - end.size()));
  return option == nullptr ? "" : absl::StrCat(" (", option->get_description(), ")");
}

}  // namespace

std::vector<std::string> WithHelp(std::vector<std::string> words) {
  if (words.empty() || words[0] != "help") return words;
  words.erase(words.begin());
  if (words.empty() || words.back() != "--help") words.push_back("--help");
  return words;
}

std::string UsageError(CLI::App& app, const std::vector<std::string>& words, const std::string& why,
                       std::string* help) {
  const Place place = PlaceOf(app, words);
  const std::string meant = DidYouMean(app, words);
  if (!place.unknown.empty()) {
    return absl::StrCat(place.path, ": no command '", place.unknown, "'",
                        meant.empty() ? absl::StrCat("; `", place.path, " --help` lists them")
                                      : absl::StrCat("; did you mean '", meant, "'?"));
  }
  const bool group = !place.command->get_subcommands([](CLI::App*) { return true; }).empty();
  if (group && (words.empty() || !words.back().starts_with("-"))) {
    const size_t last = place.path.rfind(' ');
    *help = place.command->help(last == std::string::npos ? "" : place.path.substr(0, last));
    return "";
  }
  return absl::StrCat(place.path, ": ", why, MeaningOf(*place.command, why),
                      meant.empty() ? absl::StrCat("; `", place.path, " --help` says more")
                                    : absl::StrCat("; did you mean ", meant, "?"));
}

void ForEachCommand(
    CLI::App& app,
    const std::function<void(CLI::App& command, const std::vector<std::string>& words)>& see) {
  std::vector<std::string> words;
  Walk(app, words, see);
}

std::string DidYouMean(CLI::App& app, const std::vector<std::string>& words) {
  CLI::App* command = &app;
  for (const std::string& word : words) {
    const bool option = word.starts_with("--") && word.size() > 2;
    const auto commands = command->get_subcommands([](CLI::App*) { return true; });
    std::vector<std::string> known;
    if (option) {
      const std::string name = word.substr(0, word.find('='));
      if (command->get_option_no_throw(name) != nullptr) continue;
      for (const CLI::Option* other : command->get_options()) {
        if (other->get_group().empty()) continue;  // Hidden.
        for (const std::string& known_name : other->get_lnames()) known.push_back("--" + known_name);
      }
      return Nearest(name, known);
    }
    if (word.starts_with("-")) continue;
    if (commands.empty()) continue;  // An option's value, or a positional.
    const auto next = std::find_if(commands.begin(), commands.end(),
                                   [&](const CLI::App* other) { return other->check_name(word); });
    if (next != commands.end()) {
      command = *next;
      continue;
    }
    for (const CLI::App* other : commands) {
      if (!other->get_group().empty()) known.push_back(other->get_name());
    }
    return Nearest(word, known);
  }
  return "";
}

void BuildApp(CLI::App& app, absl::Status& outcome) {
  app.require_subcommand(1);
  app.set_version_flag("--version", kVersion);
  app.footer(kExamples);
  AddImageCommands(app, outcome);
  AddClusterCommands(app, outcome);
  AddAuditCommands(app, outcome);
  AddDashboardCommand(app, outcome);
  AddRunCommand(app, outcome);
  AddEvaluateCommand(app, outcome);
  AddExplainCommand(app, outcome);
  AddStudyCommands(app, outcome);
  AddTopCommand(app, outcome);
  AddHistoryCommands(app, outcome);
  AddResultCommands(app, outcome);
  AddDoctorCommand(app, outcome);
  AddCompletionCommand(app, outcome);
  auto* help = app.add_subcommand("help", "What a command does, with examples: its --help");
  auto words = std::make_shared<std::vector<std::string>>();  // WithHelp has made --help of them.
  help->add_option("command", *words, "The command; none: all of them");
  help->footer("Examples:\n  dermis help\n  dermis help cluster start");
  help->callback([words] {});  // Keeps them as long as the parser.
  ForEachCommand(app, [](CLI::App& command, const std::vector<std::string>&) {
    command
        .add_option_function<std::string>("--color", SetColorMode,
                                          "auto (the default), always, never; NO_COLOR is heeded")
        ->check(CLI::IsMember({"auto", "always", "never"}))
        ->trigger_on_parse();
  });
}

}  // namespace dermis
