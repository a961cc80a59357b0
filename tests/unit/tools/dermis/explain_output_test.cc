#include "tools/dermis/explain_output.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/safetensors.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/tools/report/fake_study.h"
#include "tools/ingest/csv.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

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

TEST(MethodKeysTest, TwoOfAKindAreNumbered) {
  v1::ExplanationSpec spec;
  spec.add_methods()->mutable_lime();
  spec.add_methods()->mutable_shapley();
  spec.add_methods()->mutable_lime();
  EXPECT_THAT(MethodKeys(spec), ElementsAre("lime", "shapley", "lime-2"));
}

}  // namespace
}  // namespace dermis
