// The dermoscopy images that the developers have at hand; skipped where they are not. What needs minutes of training is
// tools/bench/isic's business.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/test_cluster.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(RealImages, GoThroughAWholeStudy_SplitByTheirColumn) {
  const char* source = std::getenv("DERMIS_SOURCE_DIR");
  const fs::path data = fs::path(source == nullptr ? "." : source) / ".." / "shared" / "data" / "isic";
  if (!fs::exists(data / "metadata.csv")) GTEST_SKIP() << "no dermoscopy images in " << data;
  TestCluster cluster;
  const std::string images = (cluster.directory() / "isic.images").string();
  const CommandResult ingest = Dermis(absl::StrCat("ingest ", data.string(), " --labels metadata.csv -o ", images));
  ASSERT_EQ(ingest.exit_code, 0) << ingest.output;
  EXPECT_THAT(ingest.output, HasSubstr("3249 images (1800 benign, 1449 malignant)"));
  EXPECT_THAT(ingest.output, HasSubstr("2720 masks"));
  ASSERT_EQ(cluster.Start(2).exit_code, 0);
  const std::string study = cluster.Write("s.yaml", R"(
name: real
images: {set: isic, size: 32, split: {column: suggested_split, validation: 0.1}}
training: {epochs: 1}
explanation:
  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 0}}
  methods:
    - lime: {samples: 250, superpixels: {quickshift: {}}}
    - shapley: {permutations: 4, superpixels: {slic: {count: 20}}}
    - grad_cam
    - activation_maps
)");
  const CommandResult run = cluster.Run(absl::StrCat("run ", study, " --images ", images), 240);
  ASSERT_EQ(run.exit_code, 0) << run.output;
  EXPECT_THAT(run.output, AllOf(HasSubstr("Test split, 650 images"), HasSubstr("images explained")));
  const fs::path report = cluster.directory() / "report.html", scores = cluster.directory() / "scores.csv";
  EXPECT_EQ(cluster.Run(absl::StrCat("report real -o ", report.string())).exit_code, 0);
  EXPECT_EQ(cluster.Run(absl::StrCat("results real --scores ", scores.string())).exit_code, 0);
  EXPECT_GT(fs::file_size(report), 100'000u);
  EXPECT_LE(fs::file_size(report), 20'000'000u);
  std::ifstream in(scores);
  size_t lines = 0;
  for (std::string line; std::getline(in, line);) ++lines;
  EXPECT_EQ(lines, 651u) << "a header and a row per test image";
}

}  // namespace
}  // namespace dermis
