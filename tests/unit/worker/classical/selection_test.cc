#include "worker/classical/selection.h"

#include <cmath>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

namespace dermis {
namespace {

using Table = std::vector<std::vector<double>>;

v1::ImageSetManifest Manifest() {
  v1::ImageSetManifest manifest;
  manifest.add_classes("benign");
  manifest.add_classes("malignant");
  for (int k = 0; k < 300; ++k) {
    v1::ImageEntry* const entry = manifest.add_images();
    entry->set_name(absl::StrCat("image", 1000 + k));
    entry->set_label(k / 3 % 2);
    if (k % 2 == 0) entry->set_group(absl::StrCat("lesion", k / 3));  // Up to two images a lesion.
  }
  return manifest;
}

TEST(Folds, DivideWhatDoesNotTest_WithoutTearingLesionsApart) {
  const v1::ImageSetManifest manifest = Manifest();
  v1::SplitSpec spec;
  spec.set_test(.2);
  const auto folds = MakeFolds(manifest, spec, 7, 10);
  ASSERT_TRUE(folds.ok()) << folds.status();
  ASSERT_EQ(folds->size(), 10u);
  std::set<uint32_t> validated;
  for (const Split& fold : *folds) {
    EXPECT_EQ(fold.test, folds->front().test);
    EXPECT_EQ(fold.training.size() + fold.validation.size() + fold.test.size(), 300u);
    std::set<std::string> groups;
    int positive = 0;
    for (uint32_t image : fold.validation) {
      EXPECT_TRUE(validated.insert(image).second);
      if (!manifest.images(image).group().empty()) groups.insert(manifest.images(image).group());
      positive += manifest.images(image).label() == 1;
    }
    for (uint32_t image : fold.training)
      EXPECT_EQ(groups.count(manifest.images(image).group()), 0u);
    EXPECT_NEAR(positive, static_cast<double>(fold.validation.size()) / 2, 2);
  }
  EXPECT_EQ(validated.size(), 300 - folds->front().test.size());
  EXPECT_FALSE(MakeFolds(manifest, spec, 7, 1).ok());
}

TEST(Choice, TakesTheStrongerPenalty_WhenMeansAreEqual) {
  const std::vector<double> strengths = {1, .01, .1, 10};
  const auto choice = ChooseStrength(strengths, Table{{.7, .9}, {.5, .6}, {.9, .7}, {.1, .2}});
  ASSERT_TRUE(choice.ok());
  EXPECT_EQ(choice->cell, 2u);
  EXPECT_NEAR(choice->accuracy, .8, 1e-15);
  EXPECT_FALSE(choice->edge);
  EXPECT_TRUE(ChooseStrength(strengths, Table{{.1}, {.5}, {.4}, {.5}})->edge);
  EXPECT_EQ(ChooseStrength(strengths, Table{{.1}, {.5}, {.4}, {.5}})->cell, 1u);
  EXPECT_FALSE(ChooseStrength(std::vector<double>{1}, Table{{.5}})->edge);  // No grid.
}

TEST(Choice, TakesFewerTreesThenLessDepth_WhenMeansAreEqual) {
  const std::vector<ForestCell> cells = {{20, 5}, {10, 9}, {10, 7}, {40, 1}};
  const auto choice = ChooseForest(cells, Table{{.8}, {.8}, {.8}, {.5}});
  ASSERT_TRUE(choice.ok());
  EXPECT_EQ(choice->cell, 2u);
  EXPECT_TRUE(choice->edge);  // The least number of trees.
  EXPECT_FALSE(ChooseForest(cells, Table{{.9}, {.8}, {.8}, {.5}})->edge);
}

TEST(Choice, IsRefused_WhenAccuraciesDoNotFit) {
  const std::vector<double> two = {1, 2};
  EXPECT_FALSE(ChooseStrength(two, Table{{.5}}).ok());
  EXPECT_FALSE(ChooseStrength(two, Table{{.5}, {.5, .6}}).ok());
  EXPECT_FALSE(ChooseStrength(two, Table{{.5}, {}}).ok());
  EXPECT_FALSE(ChooseStrength(two, Table{{.5}, {NAN}}).ok());
  EXPECT_FALSE(ChooseStrength({}, {}).ok());
}

}  // namespace
}  // namespace dermis
