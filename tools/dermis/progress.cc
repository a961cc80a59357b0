#include "tools/dermis/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/clock.h"
#include "tools/dermis/output.h"

namespace dermis {
namespace {
// Plain lines are for logs: at most one in so long.
constexpr absl::Duration kPlainInterval = absl::Seconds(5);

size_t TerminalWidth() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
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
    absl::StrAppend(&line, " | ",
                    status.paused() ? "paused"
                                    : absl::StrCat(status.workers(), " worker",
                                                   status.workers() == 1 ? "" : "s"));
  }
  return line;
}

const v1::StageProgress* CurrentStage(const v1::StudyStatus& status) {
  if (status.phase() != v1::StudyStatus::RUNNING) return nullptr;
  for (const v1::StageProgress& stage : status.stages()) {
    if (stage.total() > 0 && stage.done() < stage.total()) return &stage;
  }
  return nullptr;
}

std::string ProgressBar(const v1::StudyStatus& status, const RemainingTime& remaining,
                        size_t width) {
  const v1::StageProgress* stage = CurrentStage(status);
  if (stage == nullptr) return ProgressLine(status).substr(0, width);
  std::string after = absl::StrCat(" ", stage->done(), "/", stage->total(), " ", stage->unit());
  if (const auto rate = remaining.per_second()) {
    absl::StrAppend(&after, ", ", RateText(*rate));
  }
  if (const auto left = remaining.left()) {
    absl::StrAppend(&after, ", about ", RoughTime(*left), " left");
  }
  if (stage->stage() == "training" && status.has_last_epoch()) {
    absl::StrAppendFormat(&after, " | accuracy %.3f", status.last_epoch().validation_accuracy());
  }
  absl::StrAppend(&after, " | ",
                  status.paused() ? "paused"
                                  : absl::StrCat(status.workers(), " worker",
                                                 status.workers() == 1 ? "" : "s"));
  std::string line = absl::StrCat(status.id(), ": ", stage->stage());
  constexpr size_t kLeast = 10, kMost = 30;
  const size_t used = line.size() + after.size() + 3;
  if (used + kLeast <= width) {
    const size_t cells = std::min(kMost, width - used);
    const size_t full = static_cast<size_t>(static_cast<double>(cells) *
                                            static_cast<double>(stage->done()) /
                                            static_cast<double>(stage->total()));
    std::string bar(full, '=');
    if (full < cells) bar += '>';
    bar.resize(cells, ' ');
    absl::StrAppend(&line, " [", bar, "]");
  }
  return absl::StrCat(line, after).substr(0, width);
}

ProgressPrinter::ProgressPrinter() : terminal_(IsTerminal(stderr)) {}

ProgressPrinter::~ProgressPrinter() {
  if (open_) std::fprintf(stderr, "\n");
}

void ProgressPrinter::Update(const v1::StudyStatus& status) {
  for (const std::string& problem : status.problems()) {
    if (told_.insert(problem).second) Note(problem);
  }
  const absl::Duration now = Clock::Real().Now();
  const v1::StageProgress* stage = CurrentStage(status);
  if (stage != nullptr) {
    if (stage->stage() != stage_ || status.paused()) remaining_ = {};
    stage_ = stage->stage();
    remaining_.See(now, stage->done(), stage->total());
  }
  std::string line;
  if (terminal_) {  // A line that wraps could not be drawn over.
    line = ProgressBar(status, remaining_, TerminalWidth() - 1);
  } else {
    line = ProgressLine(status);
    if (const auto left = stage == nullptr ? std::nullopt : remaining_.left()) {
      absl::StrAppend(&line, " | about ", RoughTime(*left), " left of ", stage_);
    }
  }
  if (line == last_) return;
  const bool ended = status.phase() != v1::StudyStatus::RUNNING;
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
    open_ = true;
  } else if (ended || last_.empty() || now - last_printed_ >= kPlainInterval) {
    std::fprintf(stderr, "%s\n", line.c_str());
    last_printed_ = now;
  } else {
    return;
  }
  last_ = line;
}

void ProgressPrinter::Note(const std::string& text) {
  if (open_) std::fprintf(stderr, "\n");
  open_ = false;
  last_.clear();
  std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace dermis
