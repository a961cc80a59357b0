#include "tools/dermis/progress.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

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

TEST(RateTextTest, ChoosesTheUnit) {
  EXPECT_EQ(RateText(33.2), "33/s");
  EXPECT_EQ(RateText(2.14), "2.1/s");
  EXPECT_EQ(RateText(0.2), "12/min");
  EXPECT_EQ(RateText(4.0 / 3600), "4.0/h");
}

}  // namespace
}  // namespace dermis
