// The command line as a whole: what holds of every command.
#include "tools/dermis/app.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/join_token.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/tools/dermis/terminal.h"
#include "tools/dermis/completion.h"
#include "tools/dermis/output.h"
#include "tools/dermis/written_file.h"

namespace dermis {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;
using Words = std::vector<std::string>;

class AppTest : public ::testing::Test {
 protected:
  AppTest() { BuildApp(app_, outcome_); }

  absl::Status outcome_;
  CLI::App app_{"", "dermis"};
  TestFolder folder_;
};

// What a shell would make of a line of an example: its first command, without redirections.
std::vector<std::string> WordsOf(std::string line) {
  for (const char* end : {" # ", " | ", " && ", "  #"}) {
    if (const size_t at = line.find(end); at != std::string::npos) line.resize(at);
  }
  std::vector<std::string> words;
  std::string word;
  bool quoted = false;
  for (char c : line + " ") {
    if (c == '\'') {
      quoted = !quoted;
    } else if (c == ' ' && !quoted) {
      if (!word.empty()) words.push_back(std::move(word));
      word.clear();
    } else {
      word += c;
    }
  }
  return words;
}

TEST_F(AppTest, EveryCommandHasHelp_WithExamplesThatItUnderstands) {
  int commands = 0;
  std::vector<std::pair<std::string, std::string>> examples;  // Of which command.
  ForEachCommand(app_, [&](CLI::App& command, const std::vector<std::string>& words) {
    ++commands;
    const std::string path = absl::StrJoin(words, " ");
    EXPECT_FALSE(command.get_description().empty()) << path;
    const std::string footer = command.get_footer();
    EXPECT_TRUE(absl::StartsWith(footer, "Examples:\n")) << path;
    EXPECT_THAT(footer, HasSubstr("dermis " + path)) << path;
    std::string whole;
    for (absl::string_view line : absl::StrSplit(footer, '\n')) {
      if (!absl::StrContains(line, "dermis ") && whole.empty()) continue;
      absl::StrAppend(&whole, line);
      if (absl::EndsWith(line, "\\")) {
        whole.pop_back();
        continue;
      }
      examples.emplace_back(path, whole);
      whole.clear();
    }
    for (const CLI::Option* option : command.get_options()) {
      EXPECT_FALSE(option->get_description().empty()) << path << " " << option->get_name();
    }
  });
  EXPECT_GE(commands, 24);
  for (const auto& [path, example] : examples) {
    if (path == "completion") continue;  // Within the shell's own words.
    absl::Status outcome;
    CLI::App app("", "dermis");
    BuildApp(app, outcome);
    // Understood, not done.
    ForEachCommand(app, [](CLI::App& command, const std::vector<std::string>&) {
      command.parse_complete_callback([] { throw CLI::Success(); });
    });
    std::vector<std::string> words = WordsOf(example);
    ASSERT_GT(words.size(), 1u) << example;
    EXPECT_EQ(words[0], "dermis") << example;
    words.erase(words.begin());
    std::reverse(words.begin(), words.end());  // As CLI11 takes them.
    try {
      app.parse(words);
      ADD_FAILURE() << example << " calls no command";
    } catch (const CLI::Success&) {
    } catch (const CLI::ParseError& error) {
      ADD_FAILURE() << path << ": " << example << ": " << error.what();
    }
  }
}

TEST(FileOptionTest, OIsTheFile_OrJsonWithTheFileBesideIt) {
  const auto parse = [](FileIs is, Words words) {
    CLI::App app;
    WrittenFile file;
    AddFileOption(app, "A file", is, file);
    std::reverse(words.begin(), words.end());  // As CLI11 takes them.
    try {
      app.parse(words);
    } catch (const CLI::ParseError& error) {
      return std::string("refused: ") + error.what();
    }
    return absl::StrCat(file.path, file.json ? " json" : "");
  };
  for (const FileIs is : {FileIs::kRequired, FileIs::kOptional, FileIs::kRequiredOrDash}) {
    EXPECT_EQ(parse(is, {"-o", "a"}), "a");
    EXPECT_EQ(parse(is, {"--out", "a"}), "a");
    EXPECT_EQ(parse(is, {"-o", "./json"}), "./json");
    EXPECT_EQ(parse(is, {"-o", "json", "--out", "a"}), "a json");
    EXPECT_THAT(parse(is, {"-o", "a", "--out", "b"}), HasSubstr("it can only be json"));
  }
  EXPECT_THAT(parse(FileIs::kRequired, {}), HasSubstr("-o"));
  EXPECT_THAT(parse(FileIs::kRequired, {"-o", "json"}), HasSubstr("--out"));
  EXPECT_THAT(parse(FileIs::kRequired, {"-o", "-"}), HasSubstr("name a file"));
  EXPECT_EQ(parse(FileIs::kRequiredOrDash, {"-o", "-"}), "-");
  EXPECT_EQ(parse(FileIs::kOptional, {"-o", "json"}), " json");
}

TEST_F(AppTest, EveryCommandSpeaksJson_AndWhatChangesSomething_CanBeTried) {
  const std::set<std::string> for_shells = {"completion", "help"};
  const std::set<std::string> changes = {"cluster start",
                                         "cluster stop",
                                         "cluster quarantine",
                                         "cluster release",
                                         "run",
                                         "pause",
                                         "resume",
                                         "priority",
                                         "cancel",
                                         "retry",
                                         "delete",
                                         "cluster revoke",
                                         "cluster token revoke"};
  std::set<std::string> dry, silent;
  ForEachCommand(app_, [&](CLI::App& command, const std::vector<std::string>& words) {
    const std::string path = absl::StrJoin(words, " ");
    bool speaks = false;
    for (const CLI::Option* option : command.get_options()) {
      if (!option->check_sname("o")) continue;
      speaks = absl::StrContains(option->get_type_name(), "json") ||
               absl::StrContains(option->get_description(), "json");
    }
    if (!speaks) silent.insert(path);
    for (const CLI::Option* option : command.get_options()) {
      if (option->check_lname("dry-run")) dry.insert(path);
    }
    EXPECT_NE(command.get_option_no_throw("--color"), nullptr) << path;
  });
  EXPECT_EQ(silent, for_shells);
  EXPECT_EQ(dry, changes);
}

TEST_F(AppTest, WhatIsMisspelt_IsGuessed_AndWhatIsFarFromAllIsNot) {
  const auto guess = [&](const std::vector<std::string>& words) { return DidYouMean(app_, words); };
  EXPECT_EQ(guess({"runn", "a.yaml"}), "run");
  EXPECT_EQ(guess({"rnu"}), "run");
  EXPECT_EQ(guess({"cluster", "strat"}), "start");
  EXPECT_EQ(guess({"cluster", "start", "--wokers", "2"}), "--workers");
  EXPECT_EQ(guess({"cluster", "start", "--wokers=2"}), "--workers");
  EXPECT_EQ(guess({"cluster", "start", "--workers", "2"}), "");
  EXPECT_EQ(guess({"frobnicate"}), "");
  EXPECT_EQ(guess({"run", "study.yaml", "--frobnicate"}), "");
}

TEST_F(AppTest, WrongWords_AreToldInOneLine_WithTheCommand) {
  std::string help;
  const auto error = [&](const std::vector<std::string>& words, const std::string& why = "") {
    help.clear();
    return UsageError(app_, words, why, &help);
  };
  EXPECT_EQ(error({"rum", "x"}), "dermis: no command 'rum'; did you mean 'run'?");
  EXPECT_EQ(error({"cluster", "strat"}), "dermis cluster: no command 'strat'; did you mean 'start'?");
  EXPECT_EQ(error({"frobnicate"}), "dermis: no command 'frobnicate'; `dermis --help` lists them");
  EXPECT_EQ(error({"run", "x.yaml"}, "--images is required"),
            "dermis run: --images is required (An image set, from dermis ingest or dermis synth); `dermis run --help` "
            "says more");
  EXPECT_THAT(error({"cluster", "start", "--wokers", "2"}, "x"),
              ::testing::AllOf(::testing::StartsWith("dermis cluster start: x"), HasSubstr("did you mean --workers?")));
  EXPECT_EQ(help, "");
  EXPECT_EQ(error({}), "");
  EXPECT_THAT(help, HasSubstr("dermis synth"));
  EXPECT_EQ(error({"cluster"}), "");
  EXPECT_THAT(help, ::testing::AllOf(HasSubstr("quarantine"), HasSubstr("dermis cluster stop"), Not(HasSubstr("dermis synth"))));
}

TEST_F(AppTest, AWholeToken_IsNotTakenFromTheCommandLine_WhereItsNumberWillDo) {
  const std::string token = FormatJoinToken({"head.lab:7433", Sha256Of("a key"), "5f3a09c1", std::string(kSecretBytes, 's')});
  const auto revoke = [&](const Words& more) {
    Words words = {"cluster", "token", "revoke", "--cluster", folder_.path()};
    words.insert(words.end(), more.begin(), more.end());
    outcome_ = absl::OkStatus();
    CLI::App app("", "dermis");
    BuildApp(app, outcome_);
    app.parse(Words(words.rbegin(), words.rend()));
    return std::string(outcome_.message());
  };
  for (const std::string& whole : {token, token.substr(0, token.size() - 3), token + "\n"}) {
    EXPECT_THAT(revoke({whole}), ::testing::AllOf(HasSubstr("a whole token is a secret"), HasSubstr("nothing was revoked"),
                                                  HasSubstr("--token FILE"), Not(HasSubstr(token.substr(token.rfind('/'), 12)))));
    EXPECT_EQ(ExitCodeOf(outcome_), kUsage);
  }
  EXPECT_THAT(revoke({token}), HasSubstr("dermis cluster token revoke 5f3a09c1"));
  EXPECT_THROW(revoke({}), CLI::RequiredError);
  EXPECT_THROW(revoke({"5f3a09c1", "--token", "file"}), CLI::ExcludesError);
  // Of a file it is read, and then the coordinator is asked, which is not there.
  std::ofstream(folder_ / "token") << token << "\n";
  EXPECT_THAT(revoke({"--token", folder_ / "token"}), Not(HasSubstr("secret")));
  EXPECT_THAT(revoke({"--token", folder_ / "none"}), HasSubstr("cannot be read"));
}

TEST_F(AppTest, Help_IsTheCommandsHelp) {
  EXPECT_EQ(WithHelp({"help"}), Words({"--help"}));
  EXPECT_EQ(WithHelp({"help", "cluster", "start"}), Words({"cluster", "start", "--help"}));
  EXPECT_EQ(WithHelp({"run", "help"}), Words({"run", "help"}));
}

TEST_F(AppTest, WhatNamesAFile_RefusesADash) {
  for (const Words& words : std::vector<Words>{{"report", "a", "-o", "-"}, {"models", "export", "a", "-o", "-"},
                                               {"synth", "-o", "-"}}) {
    CLI::App app("", "dermis");
    absl::Status outcome;
    BuildApp(app, outcome);
    try {
      app.parse(Words(words.rbegin(), words.rend()));
      ADD_FAILURE() << words[0];
    } catch (const CLI::ParseError& e) {
      EXPECT_THAT(std::string(e.what()), HasSubstr("- is not possible here: name a file"));
    }
  }
}

TEST(ExitCodeTest, FollowsFromTheOutcome) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCodeOf(absl::NotFoundError("x")), kFailed);
  EXPECT_EQ(ExitCodeOf(absl::CancelledError("interrupted")), kInterrupted);
  // An RPC's own deadline is no `wait --timeout`.
  EXPECT_EQ(ExitCodeOf(absl::DeadlineExceededError("x")), kFailed);
  EXPECT_EQ(ExitCodeOf(WithExitCode(absl::DeadlineExceededError("x"), kNotYet)), kNotYet);
  EXPECT_EQ(ExitCodeOf(WithExitCode(absl::AbortedError("x"), kUnsuccessful)), kUnsuccessful);
}

TEST(ColorTest, OfATerminal_FollowsTheModeTheTermAndNoColor) {
  Terminal terminal;
  const auto painted = [&](const char* mode, const char* term, const char* no_color) {
    const Variable first("TERM", term), second("NO_COLOR", no_color);
    SetColorMode(mode);
    const bool colored = Paint(Color::kRed, "x", terminal.stream()) != "x";
    SetColorMode("auto");
    return colored;
  };
  EXPECT_TRUE(painted("auto", "xterm", nullptr));
  EXPECT_TRUE(painted("auto", "xterm", "")) << "an empty NO_COLOR asks for nothing (no-color.org)";
  EXPECT_FALSE(painted("auto", "xterm", "1"));
  EXPECT_FALSE(painted("auto", "dumb", nullptr));
  EXPECT_FALSE(painted("never", "xterm", nullptr));
  EXPECT_TRUE(painted("always", "dumb", "1"));
}

TEST(ColorTest, AsksTheModeFirst_AndFilesGetNone) {
  FILE* const file = std::tmpfile();
  SetColorMode("auto");
  EXPECT_EQ(Paint(Color::kRed, "x", file), "x");
  SetColorMode("always");
  EXPECT_EQ(Paint(Color::kRed, "x", file), "\033[31mx\033[0m");
  SetColorMode("never");
  EXPECT_EQ(Paint(Color::kRed, "x", stdout), "x");
  SetColorMode("auto");
  std::fclose(file);
}

TEST(ByteTextTest, HasThreeDigitsOrSo) {
  EXPECT_EQ(ByteText(0), "0 B");
  EXPECT_EQ(ByteText(340'000), "340 kB");
  EXPECT_EQ(ByteText(1'250'000), "1.2 MB");
  EXPECT_EQ(ByteText(81'000'000'000), "81.0 GB");
}

// --- Completion, in the shells themselves.

class CompletionTest : public AppTest {
 protected:
  void SetUp() override {
    // A `dermis` that knows two studies.
    std::ofstream(folder_ / "dermis") << "#!/bin/sh\n[ \"$1 $2 $3\" = 'status -o names' ] && "
                                                "printf 'demo\\ndeep-sweep\\n'\n";
    std::filesystem::permissions(folder_ / "dermis", std::filesystem::perms::owner_all);
    std::ofstream(folder_ / "study.yaml") << "name: x\n";
  }

  static bool Has(const std::string& shell) {
    return std::system(absl::StrCat("command -v ", shell, " > /dev/null 2>&1").c_str()) == 0;
  }

  // The words that `shell` offers behind `line`.
  std::vector<std::string> Offers(const std::string& shell, const std::string& line) {
    const absl::StatusOr<std::string> script = CompletionScript(app_, shell);
    EXPECT_TRUE(script.ok());
    std::ofstream(folder_ / "script") << *script;
    std::string ask;
    if (shell == "fish") {
      ask = absl::StrCat("source script; complete -C '", line, "' | cut -f1");
    } else {
      // Bash's own variables, filled in as it would.
      std::vector<std::string> words = absl::StrSplit(line, ' ');
      std::string quoted;
      for (const std::string& word : words) absl::StrAppend(&quoted, " '", word, "'");
      ask = absl::StrCat("source ./script; COMP_WORDS=(", quoted, "); COMP_CWORD=", words.size() - 1,
                         "; _dermis; printf '%s\\n' \"${COMPREPLY[@]}\"");
    }
    std::ofstream(folder_ / "ask") << ask << "\n";
    const std::string run =
        absl::StrCat("cd '", folder_.path(), "' && PATH=\"$PWD:$PATH\" HOME=\"$PWD\" ", shell,
                     shell == "bash" ? " --norc" : "", " ask 2>&1");
    FILE* const pipe = popen(run.c_str(), "r");
    std::string out;
    char piece[4096];
    while (const size_t n = fread(piece, 1, sizeof piece, pipe)) out.append(piece, n);
    EXPECT_EQ(pclose(pipe), 0) << out;
    return absl::StrSplit(out, '\n', absl::SkipEmpty());
  }
};

TEST_F(CompletionTest, Bash_KnowsCommandsOptionsValuesFilesAndStudies) {
  EXPECT_THAT(Offers("bash", "dermis "), IsSupersetOf({"run", "cluster", "status", "doctor"}));
  EXPECT_THAT(Offers("bash", "dermis pri"), ::testing::ElementsAre("priority"));
  EXPECT_THAT(Offers("bash", "dermis cluster "),
              ::testing::UnorderedElementsAre("start", "init", "stop", "status", "token", "revoke", "quarantine",
                                              "release", "user"));
  EXPECT_THAT(Offers("bash", "dermis cluster token "), ::testing::UnorderedElementsAre("create", "list", "revoke"));
  EXPECT_THAT(Offers("bash", "dermis cluster start --dr"), ::testing::ElementsAre("--dry-run"));
  EXPECT_THAT(Offers("bash", "dermis watch de"), ::testing::UnorderedElementsAre("demo", "deep-sweep"));
  EXPECT_THAT(Offers("bash", "dermis status -o "), ::testing::UnorderedElementsAre("text", "json", "names"));
  EXPECT_THAT(Offers("bash", "dermis run st"), ::testing::ElementsAre("study.yaml"));
  EXPECT_THAT(Offers("bash", "dermis run x --images st"), ::testing::ElementsAre("study.yaml"));
  EXPECT_THAT(Offers("bash", "dermis completion "), ::testing::UnorderedElementsAre("bash", "zsh", "fish"));
  EXPECT_THAT(Offers("bash", "dermis models ex"), ::testing::ElementsAre("export"));
}

TEST_F(CompletionTest, Fish_KnowsCommandsOptionsValuesFilesAndStudies) {
  if (!Has("fish")) GTEST_SKIP() << "fish is not installed (tools/setup installs it)";
  EXPECT_THAT(Offers("fish", "dermis "), IsSupersetOf({"run", "cluster", "status", "doctor"}));
  EXPECT_THAT(Offers("fish", "dermis "), Not(Contains("start")));
  EXPECT_THAT(Offers("fish", "dermis cluster "), IsSupersetOf({"start", "stop", "status"}));
  EXPECT_THAT(Offers("fish", "dermis cluster "), Not(Contains("run")));
  EXPECT_THAT(Offers("fish", "dermis watch de"), ::testing::UnorderedElementsAre("demo", "deep-sweep"));
  EXPECT_THAT(Offers("fish", "dermis status -o "), ::testing::UnorderedElementsAre("text", "json", "names"));
  EXPECT_THAT(Offers("fish", "dermis run st"), ::testing::ElementsAre("study.yaml"));
}

TEST_F(CompletionTest, Zsh_RunsTheSame) {
  if (!Has("zsh")) GTEST_SKIP() << "zsh is not installed (tools/setup installs it)";
  const absl::StatusOr<std::string> script = CompletionScript(app_, "zsh");
  ASSERT_TRUE(script.ok());
  std::ofstream(folder_ / "script") << *script;
  // As bashcompinit calls it.
  std::ofstream(folder_ / "ask")
      << "source ./script\n[[ ${_comps[dermis]} == *_bash_complete*_dermis* ]] || { echo not known; exit 1; }\n"
         "emulate -L sh\nsetopt kshglob noshglob braceexpand ksharrays\n"
         "COMP_WORDS=(dermis watch de); COMP_CWORD=2; _dermis; echo ${COMPREPLY[@]}\n";
  FILE* const pipe = popen(absl::StrCat("cd '", folder_.path(),
                                        "' && PATH=\"$PWD:$PATH\" HOME=\"$PWD\" zsh -f ask 2>&1")
                               .c_str(),
                           "r");
  char line[4096] = {};
  const size_t n = fread(line, 1, sizeof line - 1, pipe);
  pclose(pipe);
  EXPECT_THAT(std::string(line, n), ::testing::AllOf(HasSubstr("demo"), HasSubstr("deep-sweep")));
}

}  // namespace
}  // namespace dermis
