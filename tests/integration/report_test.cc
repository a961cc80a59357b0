// `dermis report` as users run it, on a real study: one page without network, its figures as files
// that are what their names say, and its Table 1 made again by docs/read_results.py.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "tests/integration/test_cluster.h"
#include "tools/ingest/csv.h"
#include "tools/ingest/decode.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// Every method that the figures of single cases show.
constexpr char kStudy[] = R"(name: figures
seed: 3
images: {set: small, size: 32, split: {test: 0.3, validation: 0.2}}
training: {logical_shards: 2, batch_size: 32, epochs: 6, early_stopping: {patience: 3}}
baselines: {random_forest: {trees: [5], depth: [3]}, folds: 2}
embeddings: {of: [pixels], pca: {components: 4}, tsne: {perplexity: 10, inputs: [raw, pca]}}
explanation:
  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, median: 1, random: 1}}
  methods:
    - lime: {samples: 100, superpixels: {slic: {count: 12}}}
    - shapley: {permutations: 4, superpixels: {slic: {count: 12}}}
    - deep_shap
    - grad_cam
  checks: {fidelity: false}
)";

std::string Read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// "": each element is closed by the one that opened it, each attribute is quoted. Else what is
// wrong.
std::string WellFormed(const std::string& xml) {
  std::vector<std::string> open;
  for (size_t at = xml.find('<'); at != std::string::npos; at = xml.find('<', at)) {
    bool quoted = false;
    size_t end = at + 1;
    while (end < xml.size() && (quoted || xml[end] != '>')) quoted ^= xml[end++] == '"';
    if (end == xml.size()) return "an open tag at the end";
    const std::string tag = xml.substr(at + 1, end - at - 1),
                      name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag[0] == '/') {
      if (open.empty() || "/" + open.back() != tag)
        return absl::StrCat("<", tag, "> closes <", open.empty() ? "" : open.back(), ">");
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
    at = end;
  }
  return open.empty() ? "" : absl::StrCat("<", open.back(), "> is not closed");
}

// One study for all tests; its page and its figures are made.
class ReportTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    cluster_ = new TestCluster;
    ASSERT_EQ(cluster_->Start(2).exit_code, 0);
    const CommandResult run = cluster_->Run(absl::StrCat("run ", cluster_->Write("s.yaml", kStudy),
                                                         " --images ", TestCluster::Images()),
                                            400);
    ASSERT_EQ(run.exit_code, 0) << run.output;
    made_ = cluster_->Run(Command());
    ASSERT_EQ(made_.exit_code, 0) << made_.output;
  }
  static void TearDownTestSuite() { delete cluster_; }

  static std::string Source() {
    const char* const source = std::getenv("DERMIS_SOURCE_DIR");
    return source != nullptr ? source : ".";
  }
  static fs::path Page() { return cluster_->directory() / "page.html"; }
  static fs::path Figures() { return cluster_->directory() / "figures"; }
  static std::string Command() {
    return absl::StrCat("report figures -o ", Page().string(), " --figures ", Figures().string());
  }

  static TestCluster* cluster_;
  static CommandResult made_;
};
TestCluster* ReportTest::cluster_ = nullptr;
CommandResult ReportTest::made_;

TEST_F(ReportTest, FiguresAreFilesOfTheirOwn_AndThePageNeedsNoNetwork) {
  const TestCluster& cluster = *cluster_;
  const fs::path page = Page(), figures = Figures();
  EXPECT_THAT(made_.output, HasSubstr(" figures and tables  "));

  const std::string index = Read(figures / "index.html");
  size_t files = 0;
  for (const auto& entry : fs::directory_iterator(figures)) {
    const std::string name = entry.path().filename().string(), bytes = Read(entry.path());
    if (name == "index.html") continue;
    ++files;
    EXPECT_THAT(index, HasSubstr(absl::StrCat("href=\"", name, "\"")));
    if (absl::EndsWith(name, ".svg")) {
      EXPECT_EQ(WellFormed(bytes), "") << name;
      EXPECT_TRUE(absl::StartsWith(bytes, "<svg xmlns=\"http://www.w3.org/2000/svg\"")) << name;
    } else if (absl::EndsWith(name, ".png")) {
      EXPECT_TRUE(DecodeImage(bytes, 32).ok()) << name;
    } else {
      const auto table = ParseCsv(bytes);
      ASSERT_TRUE(absl::EndsWith(name, ".csv") && table.ok()) << name << table.status();
      EXPECT_FALSE(table->rows.empty()) << name;
    }
  }
  EXPECT_GT(files, 25u);
  for (const char* name : {"fig01-tsne.svg", "fig02-roc.svg", "fig02-precision-recall.csv",
                           "fig03-confusion-random-forest-32-px.svg", "fig05-training-loss.svg",
                           "fig06-confusion-network.svg", "fig09-pca-images.png", "fig10-pca.svg",
                           "fig11-tsne-of-pca-images.png", "fig12-tsne-of-pca.csv", "table1.csv",
                           "table2.csv", "flow.svg"}) {
    EXPECT_TRUE(fs::exists(figures / name)) << name;
  }
  // A true positive there is only where the network found one.
  const auto confusion = ParseCsv(Read(figures / "fig03-fig06-confusion.csv"));
  ASSERT_TRUE(confusion.ok());
  EXPECT_EQ(fs::exists(figures / "fig07-panel.svg"), confusion->rows[0][4] != "0");
  EXPECT_EQ(fs::exists(figures / "fig13-panel.svg"), confusion->rows[0][3] != "0");
  if (confusion->rows[0][4] != "0") {
    EXPECT_THAT(index, HasSubstr("The true positive of median confidence"));
  }
  EXPECT_THAT(index, HasSubstr("Figure 4: a study without early_stopping has it"));

  const std::string html = Read(page);
  EXPECT_LT(html.size(), 20'000'000u);
  EXPECT_THAT(html, Not(ContainsRegex("(src|href)=\"(https?:)?//")));
  EXPECT_THAT(
      html,
      HasSubstr(
          "2 models were evaluated on images of this test split, in 1 study of this cluster."));

  // Made again it is the same; among other files it is refused.
  ASSERT_EQ(cluster.Run(Command()).exit_code, 0);
  EXPECT_EQ(Read(page), html);
  const CommandResult refused = cluster.Run(absl::StrCat(
      "report figures -o ", page.string(), " --figures ", cluster.directory().string()));
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_THAT(refused.output, HasSubstr("name another folder"));
  EXPECT_EQ(
      cluster.Run(absl::StrCat("report figures -o ", page.string(), " --figure ", figures.string()))
          .exit_code,
      2);
}

TEST_F(ReportTest, ThePage_WorksInABrowser) {
  const CommandResult seen =
      Shell(absl::StrCat("python3 ", Source(), "/tests/integration/dashboard/report_page.py ",
                         Page().string(), " 2>&1"));
  if (seen.exit_code == 77) GTEST_SKIP() << seen.output;
  EXPECT_EQ(seen.exit_code, 0) << seen.output;
  EXPECT_THAT(seen.output, HasSubstr("all holds"));
}

// Of a line "NAME   accuracy .712  precision .690 ...": the number behind a key.
double Printed(const std::string& line, const std::string& key) {
  const size_t at = line.find(absl::StrCat("  ", key, " "));
  double value = std::nan("");
  if (at != std::string::npos) {
    EXPECT_TRUE(absl::SimpleAtod(line.substr(at + key.size() + 3, 5), &value)) << line;
  }
  return value;
}

// Of each explained image: sum, first and last of what a method gives its superpixels or pixels, as Python read
// it from the file and as the JSON has it.
void ExpectAttributions(const Json& study, const std::vector<std::string>& lines) {
  size_t compared = 0;
  for (const Json& image : study["explained"]) {
    for (const Json& attribution : image["attributions"]) {
      const std::string method = attribution["method"].items().begin().key();
      const Json& result = attribution["result"];
      if (method == "grad_cam") continue;  // A map a layer, that the JSON does not hold.
      const auto values =
          result[result.contains("fit") ? "fit" : "gradient"]["values"].get<std::vector<double>>();
      const std::string name = absl::StrCat(image["image"].get<std::string>(), "/", method,
                                            result.contains("fit") ? "/values " : " ");
      const auto line = std::find_if(lines.begin(), lines.end(), [&](const std::string& l) {
        return absl::StartsWith(l, name);
      });
      ASSERT_NE(line, lines.end()) << name;
      const auto printed = [&](const std::string& key) {
        double value = std::nan("");
        const std::vector<std::string> rest = absl::StrSplit(*line, absl::StrCat(" ", key, " "));
        EXPECT_TRUE(rest.size() == 2 &&
                    absl::SimpleAtod(rest[1].substr(0, rest[1].find(' ')), &value))
            << *line;
        return value;
      };
      EXPECT_NEAR(printed("sum"), std::accumulate(values.begin(), values.end(), 0.0), 1e-6)
          << *line;
      EXPECT_NEAR(printed("first"), values.front(), 1e-6 * std::abs(values.front())) << *line;
      EXPECT_NEAR(printed("last"), values.back(), 1e-6 * std::abs(values.back())) << *line;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 3 * study["explained"].size()) << "LIME, Shapley, DeepSHAP";
}

TEST_F(ReportTest, ReadResultsPy_RebuildsTableOne_AndReadsAttributions) {
  // Debian's python3: its NumPy comes from the package python3-numpy.
  if (Shell("/usr/bin/python3 -c 'import numpy' 2>&1").exit_code != 0) {
    GTEST_SKIP() << "/usr/bin/python3 has no NumPy: install python3-numpy (tools/setup --tests)";
  }
  const CommandResult results = cluster_->Run("results figures -o json");
  ASSERT_EQ(results.exit_code, 0) << results.output;
  const std::string model = (cluster_->directory() / "study.safetensors").string();
  const fs::path explained = cluster_->directory() / "explained";
  const CommandResult saved = cluster_->Run(
      absl::StrCat("results figures --model ", model, " --explanations ", explained.string()));
  ASSERT_EQ(saved.exit_code, 0) << saved.output;
  const CommandResult read =
      Shell(absl::StrCat("/usr/bin/python3 ", Source(), "/docs/read_results.py ",
                         cluster_->Write("study.json", results.output), " ", model, " ",
                         (explained / "attributions.safetensors").string(), " 2>&1"));
  ASSERT_EQ(read.exit_code, 0) << read.output;
  EXPECT_THAT(read.output, HasSubstr("292898 weights in "));

  const auto table = ParseCsv(Read(Figures() / "table1.csv"));
  ASSERT_TRUE(table.ok()) << table.status();
  const std::vector<std::string> lines = absl::StrSplit(read.output, '\n');
  size_t compared = 0;
  for (const std::vector<std::string>& row : table->rows) {
    if (!row[*table->Column("chosen_on")].empty()) continue;  // Another threshold than a half.
    const std::string& name = row[*table->Column("model")];
    const auto line = std::find_if(lines.begin(), lines.end(), [&](const std::string& l) {
      return absl::StartsWith(l, absl::StrCat(name, "  "));
    });
    ASSERT_NE(line, lines.end()) << name << " is not in\n" << read.output;
    for (const auto& [printed, column] : std::vector<std::pair<std::string, std::string>>{
             {"accuracy", "accuracy"},
             {"precision", "precision"},
             {"FPR of all", "fpr_of_all"},
             {"FNR of all", "fnr_of_all"},
             {"FPR of the class", "fpr_of_class"},
             {"FNR of the class", "fnr_of_class"},
             {"area", "roc_area"},
             {"average precision", "average_precision"}}) {
      double expected = std::nan("");
      EXPECT_TRUE(absl::SimpleAtod(row[*table->Column(column)], &expected)) << column;
      EXPECT_NEAR(Printed(*line, printed), expected, .5001e-3) << name << ", " << printed;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 2 * 8u) << "the network and the forest";

  Json study = Json::parse(results.output, nullptr, false);
  ASSERT_FALSE(study.is_discarded());
  ExpectAttributions(study, lines);

  // As before it has come to its end.
  study["test"] = Json::array();
  study["baselines"][0]["test"] = Json::array();
  const CommandResult early =
      Shell(absl::StrCat("/usr/bin/python3 ", Source(), "/docs/read_results.py ",
                         cluster_->Write("early.json", study.dump()), " 2>&1"));
  EXPECT_EQ(early.exit_code, 0) << early.output;
  EXPECT_THAT(
      early.output,
      ContainsRegex("network +not evaluated yet\nrandom forest, 32 px +not evaluated yet\n"));
}

}  // namespace
}  // namespace dermis
