#include "tools/dermis/completion.h"

#include <cstdio>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

#include "tools/dermis/app.h"
#include "tools/dermis/commands.h"

namespace dermis {
namespace {

struct Flag {
  std::vector<std::string> names;    // "-o", "--output".
  std::vector<std::string> choices;  // Of its value; empty: any.
  bool has_value = false;
  std::string help;
};

struct Command {
  std::string path;  // "cluster start".
  std::string help;
  std::vector<std::string> words;  // Sub-commands.
  std::vector<Flag> flags;
  std::vector<std::string> choices;  // Of its positional argument.
  bool studies = false, files = false;
};

// {a,b} in an option's type: the values that IsMember allows.
std::vector<std::string> ChoicesOf(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{'), close = type.find('}');
  if (open == std::string::npos || close == std::string::npos || close < open) return {};
  return absl::StrSplit(type.substr(open + 1, close - open - 1), ',');
}

std::string FirstLine(const std::string& text) {
  return std::string(*absl::StrSplit(text, '\n').begin());
}

Command Describe(CLI::App& app, const std::string& path) {
  Command command;
  command.path = path;
  command.help = FirstLine(app.get_description());
  for (CLI::App* inner : app.get_subcommands([](CLI::App*) { return true; })) {
    command.words.push_back(inner->get_name());
  }
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      const std::string name = option->get_name(true);
      const std::vector<std::string> choices = ChoicesOf(*option);
      // `run` takes a study's file, the others a study's name.
      if (!choices.empty()) {
        command.choices = choices;
      } else if (path != "run" && (name == "study" || name == "studies")) {
        command.studies = true;
      } else {
        command.files = true;
      }
      continue;
    }
    Flag flag;
    for (const std::string& name : option->get_snames()) flag.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) flag.names.push_back("--" + name);
    flag.choices = ChoicesOf(*option);
    flag.has_value = option->get_items_expected_max() > 0;
    flag.help = FirstLine(option->get_description());
    command.flags.push_back(std::move(flag));
  }
  return command;
}

void Collect(CLI::App& app, const std::string& path, std::vector<Command>& commands) {
  commands.push_back(Describe(app, path));
  for (CLI::App* inner : app.get_subcommands([](CLI::App*) { return true; })) {
    Collect(*inner, absl::StrCat(path, path.empty() ? "" : " ", inner->get_name()), commands);
  }
}

std::string Bash(const std::vector<Command>& commands) {
  std::string known, values, words;
  for (const Command& command : commands) {
    if (!command.path.empty()) absl::StrAppend(&known, known.empty() ? "" : "|", "'", command.path, "'");
    std::vector<std::string> all = command.words;
    all.insert(all.end(), command.choices.begin(), command.choices.end());
    for (const Flag& flag : command.flags) {
      for (const std::string& name : flag.names) {
        all.push_back(name);
        if (!flag.has_value) continue;
        absl::StrAppend(&values, "    '", command.path, ":", name, "') ",
                        flag.choices.empty()
                            ? "files=1"
                            : absl::StrCat("offers='", absl::StrJoin(flag.choices, " "), "'"),
                        "; value=1 ;;\n");
      }
    }
    absl::StrAppend(&words, "      '", command.path, "') offers='", absl::StrJoin(all, " "), "'",
                    command.studies ? "; studies=1" : "", command.files ? "; files=1" : "", " ;;\n");
  }
  // `path` and `words` mean something else to zsh.
  return absl::StrCat(R"sh(# Completion of dermis for bash: source <(dermis completion bash)
_dermis() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
  local at= word i offers= studies= files= value=
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${at:+$at }${COMP_WORDS[i]}"
    case $word in
      )sh", known, R"sh() at=$word ;;
    esac
  done
  case $at:$before in
)sh", values, R"sh(  esac
  if [[ -z $value ]]; then
    case $at in
)sh", words, R"sh(    esac
    [[ -z $studies || $current == -* ]] || offers="$offers $(dermis status -o names 2>/dev/null)"
  fi
  [[ $current == -* || -n $value || -z $offers ]] || offers=$(printf '%s\n' $offers | grep -v '^-')
  COMPREPLY=($(compgen -W "$offers" -- "$current"))
  [[ -z $files || $current == -* ]] || COMPREPLY+=($(compgen -f -- "$current"))
}
complete -o filenames -F _dermis dermis
)sh");
}

std::string Quoted(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
}

std::string Fish(const std::vector<Command>& commands) {
  std::string out = R"(# Completion of dermis for fish: dermis completion fish | source
function __dermis_at
    set -l words (commandline -opc | string match -v -- '-*')
    set -e words[1]
    test (count $words) -ge (count $argv); or return 1
    for i in (seq (count $argv))
        test $words[$i] = $argv[$i]; or return 1
    end
end
function __dermis_top
    set -l words (commandline -opc | string match -v -- '-*')
    test (count $words) -eq 1
end
complete -c dermis -f
)";
  for (const Command& command : commands) {
    const std::string at =
        command.path.empty() ? "__dermis_top" : absl::StrCat("__dermis_at ", command.path);
    for (const std::string& word : command.words) {
      std::string help;
      for (const Command& other : commands) {
        if (other.path == absl::StrCat(command.path, command.path.empty() ? "" : " ", word)) {
          help = other.help;
        }
      }
      absl::StrAppend(&out, "complete -c dermis -n '", at, "' -a ", word, " -d ", Quoted(help), "\n");
    }
    if (!command.choices.empty()) {
      absl::StrAppend(&out, "complete -c dermis -n '", at, "' -a '",
                      absl::StrJoin(command.choices, " "), "'\n");
    }
    if (command.studies) {
      absl::StrAppend(&out, "complete -c dermis -n '", at,
                      "' -a '(dermis status -o names 2>/dev/null)' -d study\n");
    }
    if (command.files) absl::StrAppend(&out, "complete -c dermis -n '", at, "' -F\n");
    for (const Flag& flag : command.flags) {
      absl::StrAppend(&out, "complete -c dermis -n '", at, "'");
      for (const std::string& name : flag.names) {
        absl::StrAppend(&out, name.size() == 2 ? " -s " : " -l ",
                        name.substr(name.size() == 2 ? 1 : 2));
      }
      if (!flag.choices.empty()) {
        absl::StrAppend(&out, " -x -a '", absl::StrJoin(flag.choices, " "), "'");
      } else if (flag.has_value) {
        absl::StrAppend(&out, " -r -F");
      }
      absl::StrAppend(&out, " -d ", Quoted(flag.help), "\n");
    }
  }
  return out;
}

}  // namespace

absl::StatusOr<std::string> CompletionScript(CLI::App& app, const std::string& shell) {
  std::vector<Command> commands;
  Collect(app, "", commands);
  if (shell == "bash") return Bash(commands);
  if (shell == "fish") return Fish(commands);
  if (shell == "zsh") {  // Which runs bash's functions.
    return absl::StrCat("autoload -U +X compinit && compinit -u\n",
                        "autoload -U +X bashcompinit && bashcompinit\n", Bash(commands));
  }
  return absl::InvalidArgumentError(absl::StrCat("no completion for ", shell));
}

void AddCompletionCommand(CLI::App& app, absl::Status& outcome) {
  auto* command = app.add_subcommand("completion", "Print a shell's completion script");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "The shell")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer(R"(Examples:
  source <(dermis completion bash)          # now; for good: add it to ~/.bashrc
  source <(dermis completion zsh)           # ~/.zshrc
  dermis completion fish | source           # ~/.config/fish/config.fish)");
  command->callback([&app, shell, &outcome] {
    const absl::StatusOr<std::string> script = CompletionScript(app, *shell);
    outcome = script.status();
    if (script.ok()) std::printf("%s", script->c_str());
  });
}

}  // namespace dermis
