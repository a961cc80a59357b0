#include "tools/dermis/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/clock.h"

namespace dermis {
namespace {
// Plain lines are for logs: at most one in so long.
constexpr absl::Duration kPlainInterval = absl::Seconds(5);

size_t TerminalWidth() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}
}  // namespace

std::string ProgressLine(const v1::StudyStatus& status) {
  std::vector<std::string> parts;
  for (const v1::StageProgress& stage : status.stages()) {
    if (stage.total() == 0 && stage.done() == 0) continue;
    std::string part = stage.total() > 0
                           ? absl::StrCat(stage.stage(), " ", stage.done(), "/", stage.total())
                           : absl::StrCat(stage.stage(), " ", stage.done());
    absl::StrAppend(&part, " ", stage.unit());
    if (stage.stage() == "training" && status.has_trials()) {
      const v1::TrialCounts& trials = status.trials();
      absl::StrAppend(&part, ", ", trials.total(), " trials");
      for (const auto& [count, what] : {std::pair(trials.trained(), "trained"), {trials.dropped(), "dropped"},
                                        {trials.failed(), "failed"}}) {
        if (count > 0) absl::StrAppend(&part, ", ", count, " ", what);
      }
    }
    if (stage.stage() == "training" && status.has_last_epoch()) {
      absl::StrAppendFormat(&part, " (loss %.3f, validation %.3f, accuracy %.3f)",
                            status.last_epoch().training_loss(), status.last_epoch().validation_loss(),
                            status.last_epoch().validation_accuracy());
    }
    parts.push_back(std::move(part));
  }
  if (parts.empty()) parts.push_back("waiting");
  std::string line = absl::StrCat(status.id(), ": ", absl::StrJoin(parts, " | "));
  if (status.phase() == v1::StudyStatus::RUNNING) {
    absl::StrAppend(&line, " | ", status.workers(), status.workers() == 1 ? " worker" : " workers");
  }
  return line;
}

ProgressPrinter::ProgressPrinter() : terminal_(isatty(STDOUT_FILENO) != 0) {}

ProgressPrinter::~ProgressPrinter() {
  if (open_) std::printf("\n");
}

std::string ProgressPrinter::LeftOf(absl::Duration now, const v1::StudyStatus& status) {
  if (status.phase() != v1::StudyStatus::RUNNING) return "";
  for (const v1::StageProgress& stage : status.stages()) {
    if (stage.total() == 0 || stage.done() >= stage.total()) continue;
    if (stage.stage() != stage_) remaining_ = {};
    stage_ = stage.stage();
    remaining_.See(now, stage.done(), stage.total());
    const auto left = remaining_.left();
    return left ? absl::StrCat(" | about ", RoughTime(*left), " left of ", stage_) : "";
  }
  return "";
}

void ProgressPrinter::Update(const v1::StudyStatus& status) {
  for (const std::string& problem : status.problems()) {
    if (told_.insert(problem).second) Note(problem);
  }
  const absl::Duration now = Clock::Real().Now();
  std::string line = ProgressLine(status);
  absl::StrAppend(&line, LeftOf(now, status));
  // A line that wraps could not be drawn over.
  if (terminal_) line.resize(std::min(line.size(), TerminalWidth() - 1));
  if (line == last_) return;
  const bool ended = status.phase() != v1::StudyStatus::RUNNING;
  if (terminal_) {
    std::printf("\r\033[K%s", line.c_str());
    open_ = true;
  } else if (ended || last_.empty() || now - last_printed_ >= kPlainInterval) {
    std::printf("%s\n", line.c_str());
    last_printed_ = now;
  } else {
    return;
  }
  std::fflush(stdout);
  last_ = line;
}

void ProgressPrinter::Note(const std::string& text) {
  if (open_) std::printf("\n");
  open_ = false;
  last_.clear();
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

}  // namespace dermis
