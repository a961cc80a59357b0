// Checks of explanations as users run them: the same bits for any number of workers, and controls
// that must fail do.
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

std::string Study() {
  return SmallStudy(
      "checked", "6",
      R"(  images: {per_confusion_cell: {most_confident: 2, least_confident: 0, random: 1}}
  methods:
    - lime: {samples: 300, superpixels: {slic: {count: 12}}}
    - shapley: {permutations: 6, superpixels: {slic: {count: 12}}}
    - grad_cam
  checks: {stability: {images: 6, noise_draws: 2, seeds: 2}}
)");
}

// What `dermis results -o json` says after the study has run on so many workers.
std::string ResultsOn(int workers) {
  TestCluster cluster;
  const CommandResult start = cluster.Start(workers);
  EXPECT_EQ(start.exit_code, 0) << start.output;
  const CommandResult run = cluster.Run(
      absl::StrCat("run ", cluster.Write("s.yaml", Study()), " --images ", TestCluster::Images()),
      400);
  EXPECT_EQ(run.exit_code, 0) << run.output;
  const CommandResult results = cluster.Run("results checked -o json");
  EXPECT_EQ(results.exit_code, 0) << results.output;
  return results.output;
}

TEST(Checks, AreTheSameBits_WithOneOrThreeWorkers_AndFindTheControlsOut) {
  const std::string one = ResultsOn(1);
  EXPECT_EQ(one, ResultsOn(3));

  const Json json = Json::parse(one, nullptr, false);
  ASSERT_FALSE(json.is_discarded()) << one.substr(0, 2000);
  const Json& checks = json["checks"];
  EXPECT_EQ(checks["pending"], 0);
  EXPECT_EQ(checks["stability_images"], 6);
  EXPECT_EQ(checks["fidelity_images"], json["explained"].size());
  // LIME, Shapley, six layers' Grad-CAM and three priors.
  ASSERT_EQ(checks["maps"].size(), 11u);
  for (const Json& map : checks["maps"]) {
    SCOPED_TRACE(map["map"].get<std::string>());
    EXPECT_EQ(map["deletion"]["area_margin"]["images"], checks["fidelity_images"]);
    EXPECT_EQ(map["cascading"].size(), 7u);
    if (map["prior"]) {
      // They do not see the weights: flagged by the same rule as the methods.
      EXPECT_EQ(map["verdict"], "flagged");
      EXPECT_EQ(map["randomised"]["rank"]["quartiles"][1], 1.0);
    }
  }
  const Json& shapley = checks["maps"][1];
  EXPECT_EQ(shapley["map"], "Shapley · SLIC");
  EXPECT_LT(shapley["additivity_residual"]["quartiles"][1], 1e-4);
  EXPECT_EQ(shapley["rank_second_hidden"]["images"], 6);
  EXPECT_EQ(shapley["verdict"], "passed");
}

TEST(Checks, ArePricedBeforeTheyRun) {
  TestCluster cluster;
  const CommandResult preview = Dermis(absl::StrCat(
      "run ", cluster.Write("s.yaml", Study()), " --images ", TestCluster::Images(), " --preview"));
  EXPECT_EQ(preview.exit_code, 0) << preview.output;
  EXPECT_THAT(preview.output, HasSubstr("Checks, fidelity: at most 12 images"));
  EXPECT_THAT(preview.output, HasSubstr("Checks, stability: at most 6 images"));
}

}  // namespace
}  // namespace dermis
