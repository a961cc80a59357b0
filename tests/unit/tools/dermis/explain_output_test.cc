#include "tools/dermis/explain_output.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/safetensors.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/tools/report/fake_study.h"
#include "tools/dermis/results_json.h"
#include "tools/ingest/csv.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::Pair;

std::string Read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

class ExplainOutputTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto overlays = WriteExplanations(study_.results, study_.Inputs(), folder_.path());
    ASSERT_TRUE(overlays.ok()) << overlays.status();
    overlays_ = *overlays;
  }
  const v1::Attribution& Fit(int image, int method) {
    return study_.payloads.at(study_.results.explained(image).results(method).result().task())
        .fit();
  }
  std::string NameOf(int image) {
    return study_.images->manifest()
        .images(static_cast<int>(study_.results.explained(image).image()))
        .name();
  }
  // The first method that has superpixels.
  int Perturbing() {
    const auto& methods = study_.results.spec().explanation().methods();
    for (int m = 0; m < methods.size(); ++m) {
      if (methods[m].has_lime() || methods[m].has_shapley()) return m;
    }
    return -1;
  }

  FakeStudy study_{16, 64, 2};
  TestFolder folder_;
  uint32_t overlays_ = 0;
};

TEST_F(ExplainOutputTest, EveryAttributionIsInTheTable_Exactly) {
  const auto table = ParseCsv(Read(fs::path(folder_.path()) / "attributions.csv"));
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(table->header, ElementsAre("image", "method", "superpixel", "pixels", "value",
                                         "standard_error", "model"));
  const int m = Perturbing();
  const std::string key = MethodKeys(study_.results.spec().explanation())[m];
  const v1::Attribution& fit = Fit(1, m);
  std::vector<double> values;
  uint64_t pixels = 0;
  for (const auto& row : table->rows) {
    if (row[0] != NameOf(1) || row[1] != key) continue;
    EXPECT_EQ(row[6], "network");
    EXPECT_EQ(row[2], absl::StrCat(values.size()));
    values.push_back(std::stod(row[4]));
    pixels += std::stoull(row[3]);
  }
  EXPECT_EQ(values, std::vector<double>(fit.values().begin(), fit.values().end()));
  EXPECT_EQ(pixels, 64u * 64);
}

TEST_F(ExplainOutputTest, TheTensorsHoldTheSameNumbers) {
  const std::string bytes = Read(fs::path(folder_.path()) / "attributions.safetensors");
  const auto file = ParseSafetensors(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata.at("class"), "malignant");
  const int m = Perturbing();
  const std::string at =
      absl::StrCat(NameOf(0), "/", MethodKeys(study_.results.spec().explanation())[m]);
  const v1::Attribution& fit = Fit(0, m);
  const TensorView& values = file->tensors.at(at + "/values");
  ASSERT_EQ(values.data.size(), fit.values_size() * sizeof(double));
  EXPECT_EQ(std::memcmp(values.data.data(), fit.values().data(), values.data.size()), 0);
  const std::string cut =
      file->metadata.at("superpixels of " + MethodKeys(study_.results.spec().explanation())[m]);
  EXPECT_THAT(file->tensors.at(NameOf(0) + "/" + cut).shape, ElementsAre(64, 64));
}

TEST_F(ExplainOutputTest, EachImageAndMethodHasAPicture_UnderANameWithoutFolders) {
  uint32_t pictures = 0;
  for (const auto& file : fs::directory_iterator(fs::path(folder_.path()) / "overlays")) {
    EXPECT_EQ(Read(file.path()).substr(0, 4), "\x89PNG") << file.path();
    ++pictures;
  }
  EXPECT_EQ(pictures, overlays_);
  const std::string name = absl::StrReplaceAll(NameOf(0), {{"/", "_"}});
  const std::string key = MethodKeys(study_.results.spec().explanation())[Perturbing()];
  EXPECT_TRUE(
      fs::exists(fs::path(folder_.path()) / "overlays" / absl::StrCat(name, ".", key, ".png")));
  EXPECT_TRUE(fs::exists(fs::path(folder_.path()) / "report.html"));
  EXPECT_TRUE(fs::exists(fs::path(folder_.path()) / "scores.csv"));
}

TEST(ExplainedBaselines, StandBesideTheNetwork_UnderTheirOwnNames) {
  FakeStudy study(16, 64, 2);
  study.AddBaseline("random forest", 16, v1::OUTPUT_KIND_PROBABILITY);
  const TestFolder folder;
  const auto overlays = WriteExplanations(study.results, study.Inputs(), folder.path(), false);
  ASSERT_TRUE(overlays.ok()) << overlays.status();
  const auto table = *ParseCsv(Read(fs::path(folder.path()) / "attributions.csv"));
  const std::string image =
      study.images->manifest().images(static_cast<int>(study.results.explained(0).image())).name();
  const v1::MethodResult& own = study.results.explained(0).baselines(0).results(1);
  const v1::Attribution& fit = study.payloads.at(own.result().task()).fit();
  std::vector<double> values;
  for (const auto& row : table.rows) {
    if (row[0] == image && row[1] == "lime-2" && row[6] == "random-forest-16") {
      values.push_back(std::stod(row[4]));
    }
  }
  EXPECT_EQ(values, std::vector<double>(fit.values().begin(), fit.values().end()));
  const std::string bytes = Read(fs::path(folder.path()) / "attributions.safetensors");
  const auto file = ParseSafetensors(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata.at("output"), "margin");
  EXPECT_EQ(file->metadata.at("output of random-forest-16"), "probability");
  EXPECT_EQ(file->metadata.at("superpixels of random-forest-16.lime-2"),
            file->metadata.at("superpixels of lime-2"));
  EXPECT_EQ(file->tensors.at(image + "/random-forest-16.lime-2/values").data.size(),
            fit.values_size() * sizeof(double));
  EXPECT_TRUE(fs::exists(
      fs::path(folder.path()) / "overlays" /
      absl::StrCat(absl::StrReplaceAll(image, {{"/", "_"}}), ".random-forest-16.lime-2.png")));
}

// Of the network and of a logistic regression.
TEST(MarginsFit, StandsBesideTheProbabilitys_InAllFiles) {
  FakeStudy study(16, 64, 2);
  study.results.mutable_spec()->mutable_explanation()->set_output(v1::OUTPUT_KIND_PROBABILITY);
  study.AddBaseline("logistic regression", 16, v1::OUTPUT_KIND_PROBABILITY);
  v1::ExplainedImage& explained = *study.results.mutable_explained(0);
  const auto add_margin = [&](v1::MethodResult& method, double value) {
    v1::Payload payload = study.payloads.at(method.result().task());
    for (double& v : *payload.mutable_fit()->mutable_values()) v = value;
    *method.mutable_margin() = study.Store(std::move(payload));
  };
  const std::vector<std::string> keys = MethodKeys(study.results.spec().explanation());
  const auto lime = std::find(keys.begin(), keys.end(), "lime");
  ASSERT_NE(lime, keys.end());
  add_margin(*explained.mutable_results(static_cast<int>(lime - keys.begin())), 0.75);
  v1::ExplainedBaseline& baseline = *explained.mutable_baselines(0);
  const auto of_lime = std::find_if(baseline.mutable_results()->begin(), baseline.mutable_results()->end(),
                                    [](const v1::MethodResult& result) { return result.method().has_lime(); });
  ASSERT_NE(of_lime, baseline.mutable_results()->end());
  add_margin(*of_lime, -0.25);

  const TestFolder folder;
  const auto overlays = WriteExplanations(study.results, study.Inputs(), folder.path(), false);
  ASSERT_TRUE(overlays.ok()) << overlays.status();
  std::map<std::string, std::set<double>> values;
  const auto table = ParseCsv(Read(fs::path(folder.path()) / "attributions.csv"));
  ASSERT_TRUE(table.ok()) << table.status();
  for (const auto& row : table->rows) {
    if (row[1] == "lime.margin") values[row[6]].insert(std::stod(row[4]));
  }
  EXPECT_THAT(values, ElementsAre(Pair("logistic-regression-16", ElementsAre(-0.25)),
                                  Pair("network", ElementsAre(0.75))));
  const std::string bytes = Read(fs::path(folder.path()) / "attributions.safetensors");
  const auto file = ParseSafetensors(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  const std::string image = study.images->manifest().images(static_cast<int>(explained.image())).name();
  EXPECT_EQ(file->metadata.at("output"), "probability");
  for (const std::string key : {"lime", "logistic-regression-16.lime"}) {
    EXPECT_EQ(file->metadata.at("output of " + key + ".margin"), "margin");
    EXPECT_EQ(file->metadata.at("superpixels of " + key + ".margin"), file->metadata.at("superpixels of " + key));
    EXPECT_TRUE(file->tensors.contains(absl::StrCat(image, "/", key, ".margin/values")));
  }

  const auto json = ResultsJson(study.results, study.Inputs());
  ASSERT_TRUE(json.ok()) << json.status();
  const Json by = Json::parse(*json)["explained"][0]["baselines"][0]["attributions"];
  int margins = 0;
  for (const Json& method : by) {
    if (method["margin"].is_null()) continue;
    ++margins;
    EXPECT_TRUE(method["method"].contains("lime"));
    EXPECT_EQ(method["margin"]["fit"]["values"][0], -0.25);
  }
  EXPECT_EQ(margins, 1);
}

TEST(MethodKeysTest, TwoOfAKindAreNumbered) {
  v1::ExplanationSpec spec;
  spec.add_methods()->mutable_lime();
  spec.add_methods()->mutable_shapley();
  spec.add_methods()->mutable_lime();
  EXPECT_THAT(MethodKeys(spec), ElementsAre("lime", "shapley", "lime-2"));
}

}  // namespace
}  // namespace dermis
