// A sweep of real trainings: the same trial is taken, with the same bits, whatever dies on the way.
#include <algorithm>
#include <future>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "tests/integration/test_cluster.h"

namespace dermis {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Sweep(const std::string& name, const std::string& rates) {
  return absl::StrCat(
      "name: ", name,
      "\nseed: 3\nimages: {set: small, size: 32, split: {test: 0.25, validation: 0.2}}\n"
      "training: {logical_shards: 2, batch_size: 32, epochs: 12}\n"
      "sweep:\n"
      "  axes:\n"
      "    - {key: training.optimizer.rmsprop.learning_rate, values: [",
      rates,
      "]}\n"
      "    - {key: training.augment, values: [true, false]}\n"
      "  halving: {rungs: [2, 6], factor: 2}\n");
}

// The part of the output that a result decides: the table of trials, the test's numbers, the bits.
std::string ResultIn(const CommandResult& run) {
  EXPECT_EQ(run.exit_code, 0) << run.output;
  const size_t begin = run.output.find(" trials, by validation loss"),
               end = run.output.find(" tasks computed");
  EXPECT_TRUE(begin != std::string::npos && end != std::string::npos) << run.output;
  if (begin == std::string::npos || end == std::string::npos) return "";
  return run.output.substr(begin, run.output.rfind('\n', end) - begin);
}

CommandResult RunSweep(const TestCluster& cluster, const std::string& name,
                       const std::string& rates) {
  return cluster.Run(absl::StrCat("run ", cluster.Write(name + ".yaml", Sweep(name, rates)),
                                  " --images ", TestCluster::Images()),
                     300);
}

constexpr char kSeeds[] =
    "name: seeds\nseed: 5\nimages: {set: small, size: 32, split: {test: 0.25, validation: 0.2}}\n"
    "training: {logical_shards: 2, batch_size: 32, epochs: 3}\nsweep: {seeds: 3}\n";

// All three are evaluated on a test split of their own (by the seed), as one evaluation. The
// sweeps' splits have images in common with it.
void SeedsAreJudgedTogether(const TestCluster& cluster) {
  const CommandResult run = cluster.Run(absl::StrCat("run ", cluster.Write("seeds.yaml", kSeeds),
                                                     " --images ", TestCluster::Images()));
  EXPECT_EQ(run.exit_code, 0) << run.output;
  EXPECT_THAT(run.output, HasSubstr("Over 3 training seeds, mean +- deviation (range): accuracy "));
  EXPECT_THAT(run.output, HasSubstr("area under ROC of their averaged scores "));
  const Json json = Json::parse(cluster.Run("results seeds -o json").output, nullptr, false);
  ASSERT_FALSE(json.is_discarded());
  EXPECT_EQ(json["test_use"]["studies"], 4);
  const int evaluations = json["test_use"]["evaluations"];
  EXPECT_GE(evaluations, 2);
  EXPECT_EQ(json["test_use"]["models"], evaluations + 2);
  EXPECT_EQ(json["seeds"]["trainings"], 3);
  ASSERT_EQ(json["seeds"]["each"].size(), 3u);
  EXPECT_EQ(json["seeds"]["each"][2]["seed"], 7);
  EXPECT_EQ(json["seeds"]["each"][0]["test"], json["test"]);
  EXPECT_NE(json["seeds"]["each"][1]["test"], json["test"]);
  const Json& area = json["seeds"]["spread"]["area"];
  EXPECT_GT(area["deviation"], 0);
  EXPECT_LE(area["low"], area["mean"]);
  EXPECT_GE(area["high"], area["mean"]);
  EXPECT_EQ(json["seeds"]["averaged_area"]["interval"].size(), 2u);
  // One training is no spread, and that is said.
  const Json sweep = Json::parse(cluster.Run("results sweep -o json").output, nullptr, false);
  ASSERT_FALSE(sweep.is_discarded());
  EXPECT_EQ(sweep["seeds"]["spread"], "not available: one training");
  EXPECT_THAT(cluster.Run("results sweep").output,
              HasSubstr("Spread over training seeds: not available: one training"));
}

// Threshold and temperature travel with the file, and are not its network's: the same study is
// found.
void ModelFileBringsItsRule(const TestCluster& cluster) {
  const std::string file = (cluster.directory() / "seeds.safetensors").string(),
                    page = (cluster.directory() / "page.html").string(),
                    on = absl::StrCat(" --images ", TestCluster::Images());
  EXPECT_EQ(cluster.Run("results seeds --model " + file).exit_code, 0);
  const CommandResult of_study = cluster.Run("evaluate seeds" + on);
  const CommandResult of_file =
      cluster.Run(absl::StrCat("evaluate --model ", file, on, " -o ", page));
  EXPECT_EQ(of_study.exit_code, 0) << of_study.output;
  EXPECT_EQ(of_file.exit_code, 0) << of_file.output;
  const auto numbers = [](const std::string& output) {
    // Not between them: whether the model knows these images, which of a file nobody can say.
    const size_t area = output.find("  area under ROC"), rest = output.find("  at 0.500:");
    return area == std::string::npos || rest == std::string::npos
               ? "none"
               : output.substr(area, output.find('\n', area) - area) +
                     output.substr(rest, output.rfind("points on average") - rest);
  };
  EXPECT_EQ(numbers(of_file.output), numbers(of_study.output));
  EXPECT_THAT(of_file.output, HasSubstr("validation images chose"));
  EXPECT_THAT(of_file.output, HasSubstr("after their temperature of "));
  // The same for programs.
  const CommandResult told = Shell(absl::StrCat(Program("dermis"), " evaluate seeds", on, " --cluster ", cluster.cluster(), " -o json 2>/dev/null"));
  const Json json = Json::parse(told.output, nullptr, false);
  ASSERT_TRUE(json.is_object()) << told.output;
  EXPECT_EQ(json.at("model"), "seeds");
  EXPECT_EQ(json.at("test").at("images"), 200);
  EXPECT_THAT(of_study.output, HasSubstr(absl::StrFormat("area under ROC %.3f", json.at("area").at("value").get<double>())));
  EXPECT_THAT(of_study.output, HasSubstr(absl::StrFormat("  at %.3f, which", json.at("at_chosen").at("threshold").get<double>())));
  EXPECT_EQ(cluster.Run("results seeds-on-synthetic").exit_code, 0);
  EXPECT_NE(cluster.Run("results seeds-on-synthetic@2").exit_code, 0)
      << "the file has its network's digest, so it is the same study";
  EXPECT_THAT(cluster.Run("evaluate" + on).output, HasSubstr("name a study, or a model file"));
}

// For other programs: a row a trial and a row an epoch; a folder a training for TensorBoard; once more, the same bytes.
void TrialsAreWritten(const TestCluster& cluster) {
  const std::string folder = (cluster.directory() / "trials").string();
  EXPECT_EQ(cluster.Run("results seeds --trials " + folder).exit_code, 0);
  const std::string epochs = ReadAll(folder + "/epochs.csv");
  EXPECT_EQ(std::count(epochs.begin(), epochs.end(), '\n'), 1 + 3 * 3) << epochs;
  EXPECT_THAT(cluster.Run("results seeds --trials " + folder).output, HasSubstr("is there already (--trials)"));
  for (const char* name : {"events", "again"}) {
    EXPECT_EQ(cluster.Run(absl::StrCat("results sweep --format tensorboard --trials ", folder, name)).exit_code, 0);
  }
  EXPECT_EQ(Shell(absl::StrCat("diff -r ", folder, "events ", folder, "again")).exit_code, 0);
  EXPECT_FALSE(ReadAll(folder + "events/trial-00005.seed-3/events.out.tfevents.0.dermis").empty());
  EXPECT_NE(cluster.Run("results seeds --format csv").exit_code, 0) << "of --trials";
}

TEST(SweepTest, TheSameTrialIsTaken_WithTheSameBits_WhateverDies_AndAWiderOnePaysForWhatIsNew) {
  std::string undisturbed;
  {
    TestCluster cluster;
    ASSERT_EQ(cluster.Start(1).exit_code, 0);
    undisturbed = ResultIn(RunSweep(cluster, "sweep", "1e-3, 3e-4, 1e-4"));
  }
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(2).exit_code, 0);
  auto run = std::async(std::launch::async,
                        [&] { return RunSweep(cluster, "sweep", "1e-3, 3e-4, 1e-4"); });
  EXPECT_TRUE(cluster.AwaitDoing("trains [0-9a-f]+ with 1 worker, step [1-9]"));
  cluster.Kill9("worker-1");
  cluster.Kill9("coordinator");
  EXPECT_EQ(cluster.Start(2).exit_code, 0) << cluster.Log("coordinator");
  EXPECT_TRUE(cluster.AwaitDoing("trains [0-9a-f]+ with 1 worker, step [1-9]"));
  cluster.Kill9("worker-0");
  EXPECT_EQ(ResultIn(run.get()), undisturbed);

  // Six trials more, of which four are the old ones: what they had at the first rungs is found.
  const CommandResult wider = RunSweep(cluster, "wider", "1e-3, 3e-4, 1e-4, 3e-5");
  ResultIn(wider);
  EXPECT_THAT(wider.output, Not(HasSubstr(" 0 found")));
  const CommandResult again = RunSweep(cluster, "again", "1e-3, 3e-4, 1e-4, 3e-5");
  EXPECT_THAT(again.output, HasSubstr("Nothing was computed"));
  SeedsAreJudgedTogether(cluster);
  ModelFileBringsItsRule(cluster);
  TrialsAreWritten(cluster);
}

TEST(SweepTest, Preview_SaysWhatWouldRun_AndSendsNothing) {
  TestCluster cluster;
  const std::string study = cluster.Write("s.yaml", Sweep("s", "1e-3, 1e-4"));
  // No cluster runs: none is needed.
  const CommandResult preview =
      cluster.Run(absl::StrCat("run ", study, " --preview --images ", TestCluster::Images()));
  EXPECT_EQ(preview.exit_code, 0) << preview.output;
  EXPECT_THAT(preview.output, HasSubstr("4 trials, 4 trainings, at most 22 epochs"));
  EXPECT_THAT(preview.output, HasSubstr("2 trials to epoch 6"));
  EXPECT_THAT(preview.output, HasSubstr("1 trial to the end"));
  EXPECT_THAT(preview.output, HasSubstr("of the one model that is taken"));
}

TEST(SweepTest, TrialThatCannotRun_IsNamedBeforeAnythingIsSent) {
  TestCluster cluster;
  const std::string study = cluster.Write("s.yaml",
                                          "name: s\nimages: {set: small}\nsweep: {axes: [{key: "
                                          "training.batch_size, values: [64, 63]}]}\n");
  const CommandResult run =
      cluster.Run(absl::StrCat("run ", study, " --images ", TestCluster::Images()));
  EXPECT_EQ(run.exit_code, 1) << run.output;
  EXPECT_THAT(run.output, HasSubstr("trial 1: batch_size=63"));
}

}  // namespace
}  // namespace dermis
