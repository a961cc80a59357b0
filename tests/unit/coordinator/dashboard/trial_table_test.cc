#include "coordinator/dashboard/trial_table.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/unit/coordinator/dashboard/fake_sweep.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(TrialTableTest, TheBestIsFirst_AndWhatHasNoScoreIsLast_WhicheverWayItIsSorted) {
  const std::vector<double> losses = {.4, kNan, .2, .4, std::numeric_limits<double>::infinity()};
  const auto study = FakeSweep(5, [&](uint32_t t) { return losses[t]; });
  TrialQuery query;
  EXPECT_THAT(*SelectTrials(*study, query), ElementsAre(2, 0, 3, 4, 1));
  query.descending = true;
  EXPECT_THAT(*SelectTrials(*study, query), ElementsAre(4, 0, 3, 2, 1));
}

TEST(TrialTableTest, PagesJoinToTheWhole_AndNoneIsLargerThanTheLimit) {
  const auto study = FakeSweep(1200, [](uint32_t t) { return std::fmod(t * .37, 1.); });
  TrialQuery query;
  query.limit = 1'000'000;
  std::vector<uint32_t> seen;
  for (query.offset = 0; query.offset < 1200; query.offset += kMostTrialsOfAPage) {
    const auto page = TrialPage(*study, query);
    ASSERT_TRUE(page.ok());
    EXPECT_LE((*page)["trials"].size(), kMostTrialsOfAPage);
    for (const auto& row : (*page)["trials"]) seen.push_back(row["trial"]);
  }
  EXPECT_EQ(seen, *SelectTrials(*study, TrialQuery()));
  query.offset = 5000;
  EXPECT_TRUE((*TrialPage(*study, query))["trials"].empty());
}

TEST(TrialTableTest, ClausesHoldTogether) {
  const auto study = FakeSweep(200, [](uint32_t t) { return t / 200.; });
  const TrialSettings::Table& table = study->settings->table();
  TrialQuery query;
  query.where = "score:0.1:0.6;augment=true;clip_norm:0.01:1";
  query.sort = "clip_norm";
  const auto trials = SelectTrials(*study, query);
  ASSERT_TRUE(trials.ok()) << trials.status();
  EXPECT_GT(trials->size(), 5u);
  double before = 0;
  for (const uint32_t t : *trials) {
    EXPECT_TRUE(t >= 20 && t <= 120) << t;
    EXPECT_EQ(table.values[1][t], "true");
    EXPECT_TRUE(table.numbers[0][t] >= .01 && table.numbers[0][t] <= 1);
    EXPECT_GE(table.numbers[0][t], before);
    before = table.numbers[0][t];
  }
}

TEST(TrialTableTest, NonsenseIsRefused_AndNamed) {
  const auto study = FakeSweep(3, [](uint32_t) { return 1.; });
  for (const auto& [sort, where, named] :
       std::vector<std::tuple<std::string, std::string, std::string>>{
           {"rate", "", "rate"},
           {"score", "rate:0:1", "rate"},
           {"score", "clip_norm", "clip_norm"},
           {"score", "clip_norm:a:1", "clip_norm:a:1"},
           {"score", "augment:0:1", "augment"}}) {
    TrialQuery query;
    query.sort = sort;
    query.where = where;
    const auto trials = SelectTrials(*study, query);
    EXPECT_EQ(trials.status().code(), absl::StatusCode::kInvalidArgument) << where;
    EXPECT_THAT(std::string(trials.status().message()), HasSubstr(named));
  }
}

TEST(TrialTableTest, ParallelCoordinates_OfManyTrials_HoldTheBest_AndSomeOfAllOthers) {
  const auto study = FakeSweep(10'000, [](uint32_t t) { return 1 + (t * 7919 % 10'000) / 1e4; });
  const auto lines = ParallelCoordinates(*study, 200);
  ASSERT_EQ(lines["trials"].size(), 200u);
  EXPECT_EQ(lines["total"], 10'000);
  EXPECT_EQ(lines["scores"].back(), 1);  // The best is drawn last.
  int upper_half = 0;
  for (const auto& score : lines["scores"]) upper_half += score > 1.5;
  EXPECT_GT(upper_half, 40);
  for (const auto& column : lines["columns"]) EXPECT_EQ(column.size(), 200u);
  EXPECT_EQ(lines["axes"][0]["log"], true);
  EXPECT_EQ(lines["axes"][1]["values"].size(), 2u);
}

TEST(TrialTableTest, CurvesOfNobody_AreThoseThatTrain_AndTheBest) {
  auto study = FakeSweep(100, [](uint32_t t) { return 1. / (1 + t); });
  study->running.push_back({5, 5, 1, 1.5});
  const auto curves = CurvesOf(*study, {})["curves"];
  ASSERT_EQ(curves.size(), 12u);
  EXPECT_EQ(curves[0]["trial"], 5);
  EXPECT_EQ(curves[0]["epoch"], 1.5);
  EXPECT_EQ(curves[1]["trial"], 99);
  // Numbers that are no trials, and repetitions, are left out.
  EXPECT_EQ(CurvesOf(*study, {3, 3, 100'000})["curves"].size(), 1u);
}

TEST(TrialTableTest, CsvHasALineATrial_AndNoSpreadsheetComputesAName) {
  auto study = FakeSweep(2, [](uint32_t t) { return t == 0 ? .25 : kNan; });
  v1::StudySpec spec = study->spec();
  spec.mutable_sweep()->mutable_axes(1)->clear_values();
  spec.mutable_sweep()->mutable_axes(1)->add_values("=HYPERLINK(\"a,b\")");
  study->settings = std::make_shared<TrialSettings>(spec);
  study->trials[0].scored = true;
  study->trials[0].score_epochs = 2;
  const std::string csv = TrialsAsCsv(*study);
  const std::vector<std::string> lines = absl::StrSplit(csv, "\r\n");
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0], "trial,state,rung,epochs,score,score_epochs,deviation,clip_norm,augment");
  EXPECT_THAT(lines[1], HasSubstr("0,training,0,2,0.25,2,0,"));
  EXPECT_THAT(lines[1], HasSubstr(",\"'=HYPERLINK(\"\"a,b\"\")\""));
  EXPECT_THAT(lines[2], HasSubstr("1,training,0,2,,,,"));
  for (const std::string& line : std::vector<std::string>(
           absl::StrSplit(TrialsAsJsonLines(*study), '\n', absl::SkipEmpty()))) {
    EXPECT_TRUE(nlohmann::json::accept(line)) << line;
  }
}

}  // namespace
}  // namespace dermis
