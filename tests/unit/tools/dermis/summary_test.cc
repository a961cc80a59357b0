#include "tools/dermis/summary.h"

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/unit/common/test_folder.h"
#include "tests/unit/tools/report/fake_study.h"
#include "tools/dermis/client.h"
#include "tools/dermis/explain_output.h"
#include "tools/dermis/results_json.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(SummaryTest, AStudyThatIsNotDone_SaysSoFirst_AndItsBitsAreNoResult) {
  FakeStudy study(200, 32, 2);
  const auto text = [&] { return Summarise(study.results, study.images->manifest()); };
  EXPECT_THAT(text(), Not(HasSubstr("partial")));
  EXPECT_THAT(text(), HasSubstr("Bits of all results: "));
  v1::StudyStatus& status = *study.results.mutable_status();
  status.set_id("demo");
  status.clear_stages();
  for (const auto& [stage, done] : {std::pair("training", 20), {"explanation", 129}}) {
    v1::StageProgress& progress = *status.add_stages();
    progress.set_stage(stage);
    progress.set_unit("tasks");
    progress.set_done(done);
    progress.set_total(stage == std::string("training") ? 20 : 192);
  }
  const std::string how = ": explanation 129 of 192 tasks; what follows is partial\n";
  status.set_phase(v1::StudyStatus::CANCELLED);
  EXPECT_THAT(text(), StartsWith("Study demo was CANCELLED" + how));
  EXPECT_THAT(text(), HasSubstr("Bits so far (not comparable): "));
  EXPECT_THAT(text(), Not(HasSubstr("Bits of all")));
  EXPECT_THAT(*RenderReport(study.results, study.Inputs()),
              HasSubstr("id=\"partial\"><li>Study demo was CANCELLED"));
  status.set_phase(v1::StudyStatus::FAILED);
  EXPECT_THAT(text(), StartsWith("Study demo has FAILED" + how));
  status.set_phase(v1::StudyStatus::RUNNING);
  EXPECT_THAT(text(), StartsWith("Study demo is still RUNNING" + how));
  status.set_paused(true);
  EXPECT_THAT(text(), StartsWith("Study demo is PAUSED" + how));
}

TEST(SummaryTest, JsonSpellsAPhase_AsStatusDoes) {
  FakeStudy study(200, 32, 2);
  EXPECT_THAT(*ResultsJson(study.results, study.Inputs()), HasSubstr("\"phase\":\"done\""));
}

TEST(MakeExplanationsTest, TheFolderIsThereWhole_OrNotAtAll) {
  FakeStudy study(200, 32, 2);
  TestFolder folder;
  const std::string made = folder / "made";
  ASSERT_TRUE(MakeExplanations(study.results, study.Inputs(), made, false).ok());
  EXPECT_TRUE(std::filesystem::exists(made + "/attributions.csv"));
  study.payloads.clear();  // Nothing can be had any more.
  const std::string other = folder / "other";
  EXPECT_FALSE(MakeExplanations(study.results, study.Inputs(), other, false).ok());
  EXPECT_FALSE(std::filesystem::exists(other));
  EXPECT_FALSE(std::filesystem::exists(other + ".part"));
}

TEST(NoStudyTest, TheNearestNameIsGuessed_AndTenAreListed) {
  EXPECT_EQ(NoStudy("dem", {"demo", "isic"}).message(),
            "no study 'dem'; did you mean 'demo'? (there are: demo, isic)");
  EXPECT_EQ(NoStudy("x", {}).message(), "no study 'x'; there is none");
  std::vector<std::string> many;
  for (int i = 0; i < 12; ++i) many.push_back(absl::StrCat("study-", 10 + i));
  EXPECT_THAT(std::string(NoStudy("other", many).message()), HasSubstr("study-19 and 2 more)"));
}

}  // namespace
}  // namespace dermis
