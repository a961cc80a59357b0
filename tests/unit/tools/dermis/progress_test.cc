#include "tools/dermis/progress.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/unit/tools/dermis/terminal.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

v1::StudyStatus Explaining(uint64_t done) {
  v1::StudyStatus status;
  status.set_id("demo");
  status.set_phase(v1::StudyStatus::RUNNING);
  status.set_workers(2);
  for (const auto& [name, unit, stage_done] :
       {std::tuple("training", "epochs", uint64_t{400}), {"explanation", "tasks", done}}) {
    v1::StageProgress& stage = *status.add_stages();
    stage.set_stage(name);
    stage.set_unit(unit);
    stage.set_done(stage_done);
    stage.set_total(400);
  }
  return status;
}

TEST(ProgressBarTest, ShowsTheStageThatIsWorkedOn_ItsRate_AndTheTimeThatIsLeft) {
  RemainingTime remaining;
  for (int t = 0; t <= 10; ++t) remaining.See(absl::Seconds(t), static_cast<uint64_t>(20 * t), 400);
  EXPECT_EQ(ProgressBar(Explaining(200), remaining, 120),
            "demo: explanation [===============>              ] 200/400 tasks, 20/s, about 10 s left | 2 workers");
}

TEST(ProgressBarTest, FitsTheTerminal_AndNeedsNoBarWhereItIsNarrow) {
  const RemainingTime remaining;
  for (size_t width : {10u, 40u, 60u, 80u, 200u}) {
    EXPECT_LE(ProgressBar(Explaining(399), remaining, width).size(), width) << width;
  }
  EXPECT_EQ(ProgressBar(Explaining(7), remaining, 45), "demo: explanation 7/400 tasks | 2 workers");
  EXPECT_THAT(ProgressBar(Explaining(0), remaining, 80), HasSubstr("[>  "));
}

TEST(ProgressBarTest, OfAPausedStudySaysSo_AndOfOneThatIsOverAll) {
  v1::StudyStatus status = Explaining(200);
  status.set_paused(true);
  EXPECT_THAT(ProgressBar(status, {}, 100), HasSubstr("| paused"));
  status = Explaining(400);
  status.set_phase(v1::StudyStatus::DONE);
  EXPECT_THAT(ProgressBar(status, {}, 100), StartsWith("demo: training 400/400 epochs | explanation"));
}

// What a printer writes to standard error meanwhile, on `file`.
void PrintTo(int file) {
  const int before = dup(STDERR_FILENO);
  fflush(stderr);
  dup2(file, STDERR_FILENO);
  {
    ProgressPrinter printer;
    for (const uint64_t done : {100u, 200u, 200u, 300u}) printer.Update(Explaining(done));
    printer.Note("the disk is nearly full");
    v1::StudyStatus status = Explaining(400);
    status.set_phase(v1::StudyStatus::DONE);
    printer.Update(status);
  }
  fflush(stderr);
  dup2(before, STDERR_FILENO);
  close(before);
}

TEST(ProgressPrinterTest, OnATerminal_RedrawsOneLine_AndTellsWhatHappensOnALineOfItsOwn) {
  const Variable term("TERM", "xterm");
  Terminal terminal;
  PrintTo(terminal.fd());
  const std::string text = terminal.Heard();
  std::vector<std::string> drawn = absl::StrSplit(text, "\r\033[K");
  ASSERT_EQ(drawn.size(), 5u) << text;  // What is the same is not drawn again.
  EXPECT_THAT(drawn[1], HasSubstr("[=======>"));
  EXPECT_THAT(drawn[3], HasSubstr("300/400 tasks"));
  EXPECT_THAT(drawn[3], ::testing::EndsWith("2 workers\r\nthe disk is nearly full\r\n"));
  EXPECT_THAT(drawn[4], ::testing::EndsWith("\r\n"));
  for (std::string& line : drawn) EXPECT_LE(line.substr(0, line.find('\r')).size(), 99u) << "it would wrap";
}

TEST(ProgressPrinterTest, Elsewhere_WritesPlainLines_AlsoOnADumbTerminal) {
  const std::string plain =
      "demo: training 400/400 epochs | explanation 100/400 tasks | 2 workers\n"  // Then at most one in five seconds.
      "the disk is nearly full\n"
      "demo: training 400/400 epochs | explanation 400/400 tasks\n";
  FILE* const file = std::tmpfile();
  PrintTo(fileno(file));
  std::string text(1000, '\0');
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, pread(fileno(file), text.data(), text.size(), 0))));
  EXPECT_EQ(text, plain);
  std::fclose(file);

  const Variable term("TERM", "dumb");
  Terminal terminal;
  PrintTo(terminal.fd());
  EXPECT_EQ(absl::StrReplaceAll(terminal.Heard(), {{"\r\n", "\n"}}), plain);
}

TEST(RateTextTest, ChoosesTheUnit) {
  EXPECT_EQ(RateText(33.2), "33/s");
  EXPECT_EQ(RateText(2.14), "2.1/s");
  EXPECT_EQ(RateText(0.2), "12/min");
  EXPECT_EQ(RateText(4.0 / 3600), "4.0/h");
}

}  // namespace
}  // namespace dermis
