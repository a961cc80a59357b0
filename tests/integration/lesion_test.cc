// The lesion test and the shortcut check as users run them, on images whose cause is known: the
// same bits for any number of workers, what is true is found, and a network can be trained on parts
// of the images.
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "tests/integration/test_cluster.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

// 600 synthetic lesions: the pattern that sets the label lies within the lesion.
std::string Set(const TestCluster& cluster) {
  const std::string path = (cluster.directory() / "lesions.images").string();
  const CommandResult made = Dermis(absl::StrCat("synth --count 600 --size 64 -o ", path));
  EXPECT_EQ(made.exit_code, 0) << made.output;
  return path;
}

constexpr char kStudy[] = R"(name: lesions
seed: 3
images: {set: small, size: 32, split: {test: 0.3, validation: 0.2}}
training: {logical_shards: 8, batch_size: 32, epochs: 24}
explanation:
  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 0}}
  methods:
    - shapley: {permutations: 4, superpixels: {grid: {rows: 3}}, hidden: inpaint}
    - shapley: {permutations: 4, superpixels: {lesion_zones: {}, resolution: model}, hidden: background}
    - lime: {samples: 100, superpixels: {slic: {count: 12}}, hidden: blur}
  checks: {fidelity: false}
  lesion_test: {primary: lesion_over_surroundings, against: shifted, placements: 2, draws: 999}
  shortcut: {draws: 500}
)";

struct Results {
  std::string json, report;
};

Results ResultsOn(int workers) {
  TestCluster cluster;
  const CommandResult start = cluster.Start(workers);
  EXPECT_EQ(start.exit_code, 0) << start.output;
  const CommandResult run = cluster.Run(
      absl::StrCat("run ", cluster.Write("s.yaml", kStudy), " --images ", Set(cluster)), 400);
  EXPECT_EQ(run.exit_code, 0) << run.output;
  const CommandResult json = cluster.Run("results lesions -o json");
  EXPECT_EQ(json.exit_code, 0) << json.output;
  return {json.output, LineValue(run.output, "Bits of all results")};
}

TEST(Lesions, AreTheSameBits_WithOneOrThreeWorkers_AndTheTruthIsFound) {
  const Results one = ResultsOn(1), three = ResultsOn(3);
  EXPECT_EQ(one.json, three.json);
  EXPECT_EQ(one.report, three.report);

  const Json json = Json::parse(one.json, nullptr, false);
  ASSERT_FALSE(json.is_discarded()) << one.json.substr(0, 2000);
  const Json& test = json["lesion_test"]["lesion_summary"];
  EXPECT_EQ(test["images"], 180);
  EXPECT_EQ(test["lesions"], 180);
  ASSERT_EQ(test["findings"].size(), 14u);
  const Json& primary = test["findings"][0];
  EXPECT_EQ(primary["hypothesis"], "LESION_HYPOTHESIS_LESION_OVER_SURROUNDINGS");
  // The cause lies within the lesion.
  EXPECT_GT(primary["effect"].get<double>(), 0);
  EXPECT_LT(primary["p"].get<double>(), 0.01);
  EXPECT_LT(test["additivity_residual"].get<double>(), 1e-4);
  EXPECT_FALSE(test.contains("mask_origin") && test["mask_origin"] == "expert") << "nobody said so";

  const Json& areas = json["shortcut"]["shortcut"]["areas"];
  ASSERT_EQ(areas.size(), 7u);
  const double whole = areas[0]["area"].get<double>();
  EXPECT_GT(whole, 0.75) << "it learned something";
  double lesion = 0, surroundings = 1;
  for (const Json& area : areas) {
    if (!area.contains("hide") || area["hide"]["hidden"] != "HIDDEN_VALUE_TRAINING_MEAN") continue;
    if (area["hide"]["show"] == "LESION_REGION_LESION") lesion = area["area"];
    if (area["hide"]["show"] == "LESION_REGION_SURROUNDINGS") surroundings = area["area"];
  }
  EXPECT_GT(lesion, surroundings + 0.1);

  for (const Json& image : json["explained"]) {
    EXPECT_EQ(image["attributions"][0]["result"]["fit"]["count"], 9);
    EXPECT_LE(image["attributions"][1]["result"]["fit"]["count"], 4);
    EXPECT_TRUE(image["attributions"][1]["result"]["fit"].contains("background"));
    EXPECT_FALSE(image["attributions"][0]["result"]["fit"].contains("background"));
  }
}

TEST(Lesions, ANetworkIsTrainedOnAPartOfTheImages) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(2).exit_code, 0);
  const std::string set = Set(cluster);
  const auto area_of = [&](const std::string& show) {
    const std::string study =
        absl::StrCat("name: ", show,
                     "\nseed: 3\nimages: {set: small, size: 32, split: {test: 0.3, validation: "
                     "0.2}, hide: {show: ",
                     show, "}}\ntraining: {logical_shards: 8, batch_size: 32, epochs: 24}\n");
    const CommandResult run = cluster.Run(
        absl::StrCat("run ", cluster.Write(show + ".yaml", study), " --images ", set), 400);
    EXPECT_EQ(run.exit_code, 0) << run.output;
    const size_t at = run.output.find("area under ROC ");
    EXPECT_NE(at, std::string::npos) << run.output;
    return at == std::string::npos ? 0.0 : std::stod(run.output.substr(at + 15));
  };
  EXPECT_GT(area_of("lesion"), area_of("surroundings") + 0.1);
}

TEST(Lesions, ArePricedBeforeTheyRun_AndAskForMasks) {
  TestCluster cluster;
  const std::string set = Set(cluster);
  const CommandResult preview = Dermis(
      absl::StrCat("run ", cluster.Write("s.yaml", kStudy), " --images ", set, " --preview"));
  EXPECT_EQ(preview.exit_code, 0) << preview.output;
  EXPECT_THAT(preview.output, HasSubstr("Lesion test and shortcut check: at most 180 images"));
}

}  // namespace
}  // namespace dermis
