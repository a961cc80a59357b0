#include "tools/report/figures.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "tests/unit/common/test_folder.h"
#include "tests/unit/tools/report/fake_study.h"
#include "tools/ingest/csv.h"
#include "tools/report/panel.h"
#include "tools/report/picture.h"
#include "tools/report/scatter.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::Not;

std::map<std::string, FigureFile> FilesOf(const FakeStudy& study) {
  auto files = StudyFigures(study.results, study.Inputs());
  EXPECT_TRUE(files.ok()) << files.status();
  std::map<std::string, FigureFile> by_name;
  if (!files.ok()) return by_name;
  for (FigureFile& file : *files) {
    const std::string name = file.name;
    EXPECT_TRUE(by_name.emplace(name, std::move(file)).second) << name << " twice";
  }
  return by_name;
}

// A study whose explained images are a found and a missed melanoma.
FakeStudy WithBoth(uint32_t size = 64) {
  FakeStudy study(200, size, 0);
  bool found = false, missed = false;
  for (int row = 0; row < study.results.test_images_size(); ++row) {
    if (study.images->manifest().images(static_cast<int>(study.results.test_images(row))).label() !=
        1)
      continue;
    const bool hit = study.results.test_logits(2 * row + 1) > study.results.test_logits(2 * row);
    bool& have = hit ? found : missed;
    if (have) continue;
    have = true;
    study.AddExplained(static_cast<uint32_t>(row),
                       hit ? "true positive, random" : "false negative, random");
  }
  EXPECT_TRUE(found && missed);
  return study;
}

TEST(Figures, EachFileIsWhatItsNameSays) {
  const FakeStudy study = WithBoth();
  const auto files = FilesOf(study);
  EXPECT_THAT(files,
              AllOf(Contains(Key("fig02-roc.svg")), Contains(Key("fig02-roc.csv")),
                    Contains(Key("fig02-precision-recall.svg")),
                    Contains(Key("fig05-training-loss.svg")), Contains(Key("fig05-training.csv"))));
  EXPECT_THAT(
      files,
      AllOf(Contains(Key("fig06-confusion-network.svg")), Contains(Key("fig07-original.png")),
            Contains(Key("fig07-activation-conv1.png")),
            Contains(Key("fig07-activation-conv6.png")), Contains(Key("fig07-grad-cam-conv1.png")),
            Contains(Key("fig07-lime-malignant.png")), Contains(Key("fig07-lime-benign.png")),
            Contains(Key("fig07-shap-malignant.png")), Contains(Key("fig07-shap-benign.png")),
            Contains(Key("fig07-panel.svg")), Contains(Key("fig13-activation-conv1.png")),
            Contains(Key("fig13-grad-cam-conv1.png"))));
  EXPECT_THAT(files, AllOf(Contains(Key("fig08-display-size.png")),
                           Contains(Key("fig13-panel.svg")), Contains(Key("table1.csv")),
                           Contains(Key("table2.csv")), Contains(Key("flow.svg"))));
  for (const auto& [name, file] : files) {
    EXPECT_FALSE(file.title.empty()) << name;
    if (absl::EndsWith(name, ".csv")) {
      const auto table = ParseCsv(file.bytes);
      ASSERT_TRUE(table.ok()) << name << ": " << table.status();
      EXPECT_FALSE(table->rows.empty()) << name;
    } else if (absl::EndsWith(name, ".png")) {
      const cv::Mat image = cv::imdecode(std::vector<uint8_t>(file.bytes.begin(), file.bytes.end()),
                                         cv::IMREAD_COLOR);
      EXPECT_GE(image.cols, 448) << name;
    } else {
      EXPECT_TRUE(absl::EndsWith(name, ".svg")) << name;
      EXPECT_THAT(file.bytes, AllOf(HasSubstr("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\""),
                                    HasSubstr("<style>"), Not(HasSubstr("var(--")),
                                    Not(HasSubstr("color-mix"))))
          << name;
    }
  }
}

TEST(Figures, AStudyWithoutEarlyStopping_HasTheSeedsFigure4) {
  FakeStudy study(120, 32, 0);
  study.results.mutable_spec()->mutable_training()->clear_early_stopping();
  const auto files = FilesOf(study);
  EXPECT_THAT(files, AllOf(Contains(Key("fig04-training-loss.svg")),
                           Not(Contains(Key("fig05-training-loss.svg")))));
}

TEST(Figures, WhatThereIsNot_IsSaid_AndWhoWouldHaveIt) {
  const FakeStudy study(120, 32, 0);
  const auto files = StudyFigures(study.results, study.Inputs());
  ASSERT_TRUE(files.ok());
  const std::vector<std::string> missing = MissingFigures(*files);
  EXPECT_THAT(missing, Contains("Figure 3: a study with baselines has it"));
  EXPECT_THAT(missing, Contains("Figure 4: a study without early_stopping has it"));
  EXPECT_THAT(missing, Contains(HasSubstr("Figure 13: a study that explains")));
  EXPECT_THAT(missing, Not(Contains(HasSubstr("Figure 5"))));
}

TEST(Figures, TheFalseNegative_IsTheMostConfidentOne_AndTheTruePositive_NearestToTheMedian) {
  FakeStudy study(400, 32, 0);
  std::vector<std::pair<double, int>> found, missed;
  for (int row = 0; row < study.results.test_images_size(); ++row) {
    if (study.images->manifest().images(static_cast<int>(study.results.test_images(row))).label() !=
        1)
      continue;
    const double margin =
        study.results.test_logits(2 * row + 1) - study.results.test_logits(2 * row);
    (margin >= 0 ? found : missed).emplace_back(-std::abs(margin), row);
  }
  std::sort(found.begin(), found.end());
  std::sort(missed.begin(), missed.end());
  ASSERT_GT(missed.size(), 1u);
  for (const auto& [confidence, row] : found)
    study.AddExplained(static_cast<uint32_t>(row), "true positive");
  for (const auto& [confidence, row] : missed)
    study.AddExplained(static_cast<uint32_t>(row), "false negative");
  const auto panels = CasePanels(study.results, study.Inputs());
  ASSERT_TRUE(panels.ok()) << panels.status();
  ASSERT_EQ(panels->size(), 3u);
  const auto name = [&](int row) {
    return study.images->manifest().images(static_cast<int>(study.results.test_images(row))).name();
  };
  EXPECT_EQ((*panels)[0].title, "The true positive of median confidence");
  EXPECT_THAT((*panels)[0].note, HasSubstr(name(found[(found.size() - 1) / 2].second)));
  EXPECT_EQ((*panels)[2].figure, "13");
  EXPECT_EQ((*panels)[2].title, "The most confident false negative");
  EXPECT_THAT((*panels)[2].note, HasSubstr(name(missed[0].second)));
}

// A panel's picture.
const Raster& PictureOf(const CasePanel& panel, const std::string& key) {
  for (const PanelPicture& picture : panel.pictures) {
    if (picture.key == key) return picture.raster;
  }
  ADD_FAILURE() << "no picture " << key;
  return panel.pictures.front().raster;
}

Colour At(const Raster& raster, int x, int y) {
  const uint8_t* rgb = &raster.data[3 * (static_cast<size_t>(y) * raster.width + x)];
  return {rgb[0], rgb[1], rgb[2]};
}

TEST(Figures, ActivationMaps_AreTheChannelsAsTheyAre_SideBySide) {
  FakeStudy study = WithBoth();
  // Of the first layer's 32 channels the third answers in its second cell alone.
  for (auto& [task, payload] : study.payloads) {
    if (!payload.has_activations()) continue;
    auto& values = *payload.mutable_activations()->mutable_layers(0)->mutable_activations();
    for (float& value : values) value = -1;
    values.Set(2 * 32 * 32 + 1, 1);
  }
  const auto panels = CasePanels(study.results, study.Inputs());
  ASSERT_TRUE(panels.ok()) << panels.status();
  for (const CasePanel& panel : *panels) {
    if (panel.figure == "8") continue;
    // Eight beside each other, gaps of one cell, each cell two pixels.
    const Raster& tiles = PictureOf(panel, "activation-conv1");
    ASSERT_EQ(tiles.width, 2 * (8 * 33 - 1));
    ASSERT_EQ(tiles.height, 2 * (4 * 33 - 1));
    for (int y = 0; y < tiles.height; ++y) {
      for (int x = 0; x < tiles.width; ++x) {
        const int cell_x = x / 2, cell_y = y / 2;
        const bool gap = cell_x % 33 == 32 || cell_y % 33 == 32;
        const Colour due = gap                                   ? Colour{255, 255, 255}
                           : cell_x == 2 * 33 + 1 && cell_y == 0 ? Viridis(1)
                                                                 : Viridis(0);
        ASSERT_EQ(At(tiles, x, y), due) << x << ", " << y;
      }
    }
  }
}

TEST(Figures, LimeAndShap_ShowEachClassItsOwnSide) {
  FakeStudy study = WithBoth();
  constexpr int kFor = 8, kAgainst = 40;  // Superpixels of the grid of 7 x 7.
  std::vector<int> labels;
  for (const v1::ExplainedImage& explained : study.results.explained()) {
    for (const v1::MethodResult& method : explained.results()) {
      v1::Payload& payload = study.payloads[method.result().task()];
      if (!payload.has_fit() || payload.fit().values_size() != 49) continue;
      for (double& value : *payload.mutable_fit()->mutable_values()) value = 0;
      payload.mutable_fit()->set_values(kFor, 1);
      payload.mutable_fit()->set_values(kAgainst, -1);
      labels = LabelsOn(study.payloads[method.superpixels().task()].superpixels(), 64, 64);
    }
  }
  ASSERT_EQ(labels.size(), 64u * 64);
  const auto panels = CasePanels(study.results, study.Inputs());
  ASSERT_TRUE(panels.ok()) << panels.status();
  const CasePanel& panel = panels->front();
  const Raster& original = PictureOf(panel, "original");
  constexpr int kFactor = 7;  // 64 pixels are shown as 448.
  ASSERT_EQ(original.width, 64 * kFactor);
  const Colour red = {255, 0, 81}, blue = {0, 139, 251};
  for (const auto& [of, speaks, speaks_against] :
       {std::tuple{"malignant", kFor, kAgainst}, std::tuple{"benign", kAgainst, kFor}}) {
    const Raster& shap = PictureOf(panel, absl::StrCat("shap-", of));
    const Raster& lime = PictureOf(panel, absl::StrCat("lime-", of));
    int lit = 0;
    for (int y = 0; y < original.height; ++y) {
      for (int x = 0; x < original.width; ++x) {
        const int label = labels[static_cast<size_t>(y / kFactor) * 64 + x / kFactor];
        const Colour shown = At(shap, x, y);
        if (label == speaks || label == speaks_against) {
          ASSERT_EQ(shown, label == speaks ? red : blue) << of << " " << x << ", " << y;
        } else {
          ASSERT_TRUE(shown[0] == shown[1] && shown[1] == shown[2]) << of << " " << x << ", " << y;
        }
        // The cells around it, too: else it may be a border.
        const bool inner = x % kFactor > 0 && x % kFactor < kFactor - 1 && y % kFactor > 0 &&
                           y % kFactor < kFactor - 1;
        if (!inner) continue;
        const Colour as_is = At(original, x, y), drawn = At(lime, x, y);
        for (size_t c = 0; c < 3; ++c) {
          const double due = label == speaks ? as_is[c] : .38 * as_is[c] + .62 * 24;
          ASSERT_NEAR(drawn[c], due, .51) << of << " " << x << ", " << y;
        }
        lit += label == speaks;
      }
    }
    EXPECT_GT(lit, 500);
  }
}

TEST(Figures, ThumbnailsHaveTheImagesColours_AndTheirClassesFrames) {
  const FakeStudy study(40, 64, 0);
  Scatter scatter;
  scatter.points = {0, 0, 1, 1};  // Bottom left, top right.
  scatter.positive = {false, true};
  const std::vector<uint32_t> images = {6, 11};
  const auto drawn = ScatterOfImages(scatter, *study.images, images);
  ASSERT_TRUE(drawn.ok()) << drawn.status();
  for (const bool second : {false, true}) {
    // What is not white in its half.
    int left = drawn->width, top = drawn->height, right = 0, bottom = 0;
    for (int y = 0; y < drawn->height; ++y) {
      for (int x = second ? drawn->width / 2 : 0; x < (second ? drawn->width : drawn->width / 2);
           ++x) {
        if (At(*drawn, x, y) == Colour{255, 255, 255}) continue;
        left = std::min(left, x);
        right = std::max(right, x);
        top = std::min(top, y);
        bottom = std::max(bottom, y);
      }
    }
    ASSERT_EQ(right - left, 29);
    ASSERT_EQ(bottom - top, 29);
    EXPECT_EQ(top < drawn->height / 2, second);
    EXPECT_EQ(At(*drawn, left, top), second ? (Colour{185, 114, 44}) : (Colour{13, 122, 111}));
    // Within the frame, against the same part of the image.
    double mean[3] = {}, due[3] = {};
    for (int y = 3; y < 27; ++y) {
      for (int x = 3; x < 27; ++x) {
        const Colour pixel = At(*drawn, left + x, top + y);
        for (size_t c = 0; c < 3; ++c) mean[c] += pixel[c] / (24. * 24);
      }
    }
    const std::string_view pixels = *study.images->Pixels(images[second ? 1 : 0]);
    int count = 0;
    for (int y = 6; y < 58; ++y) {
      for (int x = 6; x < 58; ++x, ++count) {
        for (size_t c = 0; c < 3; ++c)
          due[c] += static_cast<uint8_t>(pixels[3 * (static_cast<size_t>(y) * 64 + x) + c]);
      }
    }
    for (size_t c = 0; c < 3; ++c) EXPECT_NEAR(mean[c], due[c] / count, 3) << c;
    EXPECT_GT(due[0] / count - due[2] / count, 20) << "red and blue differ";
  }
}

TEST(Figures, CirclesLieWhereTheAttributionIsHigh) {
  FakeStudy study = WithBoth();
  // One superpixel of the grid holds all that speaks for the class.
  for (const v1::MethodResult& method : study.results.explained(0).results()) {
    if (!method.method().has_shapley()) continue;
    v1::Attribution& fit = *study.payloads[method.result().task()].mutable_fit();
    for (double& value : *fit.mutable_values()) value = 0;
    fit.set_values(8, 1);  // Second row, second column of 7 x 7.
  }
  const auto before = CasePanels(study.results, study.Inputs());
  ASSERT_TRUE(before.ok());
  const auto& circled = (*before)[1];
  ASSERT_EQ(circled.figure, "8");
  EXPECT_THAT(circled.note, HasSubstr("Circles: 1 place where"));
  const Raster& raster = circled.pictures[0].raster;
  // Red lies around (1.5 / 7, 1.5 / 7), a little off because superpixels wave, and nowhere else.
  double x = 0, y = 0;
  int red = 0;
  for (int p = 0; p < raster.width * raster.height; ++p) {
    const uint8_t* rgb = raster.data.data() + 3 * static_cast<size_t>(p);
    if (rgb[0] != 214 || rgb[1] != 24 || rgb[2] != 50) continue;
    ++red;
    x += p % raster.width;
    y += p / raster.width;
  }
  ASSERT_GT(red, 50);
  EXPECT_NEAR(x / red / raster.width, 1.5 / 7, .12);
  EXPECT_NEAR(y / red / raster.height, 1.5 / 7, .12);
}

TEST(Figures, TheFullPhotograph_IsTakenOnlyWhereItShowsTheSame) {
  FakeStudy study = WithBoth();
  TestFolder folder;
  ReportInputs inputs = study.Inputs();
  inputs.full_resolution = folder.path();
  const auto panel = [&] { return (*CasePanels(study.results, inputs))[1]; };
  EXPECT_THAT(panel().note, HasSubstr("There is no picture"));

  const uint32_t image = study.results.explained(0).image();
  const std::string name = study.images->manifest().images(static_cast<int>(image)).name();
  const std::string_view pixels = *study.images->Pixels(image);
  cv::Mat small(64, 64, CV_8UC3, const_cast<char*>(pixels.data())), bgr, large;
  cv::cvtColor(small, bgr, cv::COLOR_RGB2BGR);
  cv::resize(bgr, large, {512, 512}, 0, 0, cv::INTER_CUBIC);
  cv::copyMakeBorder(large, large, 0, 0, 64, 64, cv::BORDER_CONSTANT,
                     {0, 0, 0});  // The set has the centre square.
  ASSERT_TRUE(cv::imwrite(folder / std::filesystem::path(name).filename().string(), large));
  EXPECT_EQ(panel().pictures[0].key, "full-resolution");
  EXPECT_EQ(panel().pictures[0].raster.width, 640);

  large = cv::Scalar(200, 200, 200);
  ASSERT_TRUE(cv::imwrite(folder / std::filesystem::path(name).filename().string(), large));
  EXPECT_THAT(panel().note, HasSubstr("shows something else"));
  EXPECT_EQ(panel().pictures[0].key, "display-size");
}

TEST(Figures, AreWrittenAgain_ButNeverAmongOtherFiles) {
  const FakeStudy study(120, 32, 0);
  TestFolder folder;
  const std::string own = folder / "figures";
  ASSERT_TRUE(WriteFigures(study.results, study.Inputs(), own).ok());
  const auto again = WriteFigures(study.results, study.Inputs(), own);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(static_cast<size_t>(CountFiles(own)), *again + 1);
  const std::string index = FileBytes(own + "/index.html");
  for (const auto& entry : std::filesystem::directory_iterator(own)) {
    const std::string name = entry.path().filename().string();
    if (name == "index.html") continue;
    EXPECT_THAT(index, HasSubstr(absl::StrCat("<a href=\"", name, "\">")));
  }
  const std::string other = folder / "other";
  std::filesystem::create_directory(other);
  std::ofstream(other + "/thesis.tex") << "mine";
  EXPECT_EQ(WriteFigures(study.results, study.Inputs(), other).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(CountFiles(other), 1);
}

}  // namespace
}  // namespace dermis
