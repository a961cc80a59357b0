#include "common/baselines.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/spec_yaml.h"
#include "common/tasks.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<v1::StudySpec> Study(const std::string& baselines) {
  auto spec = ParseStudyYaml("name: a\nimages: {set: s, size: 16}\n" + baselines, "a.yaml");
  if (!spec.ok()) return spec.status();
  return ResolveSpec(*spec);
}

TEST(Baselines, DefaultsAreTheSeedsGrids) {
  const auto study = *Study("baselines: {random_forest: {}, logistic_regression: {}}\n");
  v1::ImageSource images;
  images.set_size(16);
  const auto families = FamiliesOf(study, images);
  ASSERT_EQ(families.size(), 2u);
  EXPECT_EQ(families[0].name, "random forest");
  EXPECT_EQ(families[0].points.size(), 10u);
  EXPECT_EQ(Describe(families[0].points[1]), "5 trees of depth 5");
  EXPECT_EQ(families[1].points.size(), 18u);
  EXPECT_EQ(Describe(families[1].points[0]), "l1, C = 1e-06");
  EXPECT_EQ(study.baselines().folds(), 10u);
  EXPECT_EQ(families[1].size, 16u);
  EXPECT_EQ(ResolveSpec(study)->SerializeAsString(), study.SerializeAsString());
}

TEST(Baselines, EachSizeIsAFamilyOfItsOwn) {
  const auto study = *Study("baselines: {random_forest: {trees: [5], depth: [3]}, sizes: [16, 32]}\n");
  const auto families = FamiliesOf(study, {});
  ASSERT_EQ(families.size(), 2u);
  EXPECT_EQ(families[0].points[0].images().size(), 16u);
  EXPECT_EQ(families[1].points[0].images().size(), 32u);
  const v1::BaselineTask fold = OnFold(families[1].points[0], 10, 3);
  EXPECT_EQ(fold.images().split().folds(), 10u);
  EXPECT_EQ(fold.images().split().fold(), 3u);
}

TEST(Baselines, WhatCannotBeIsRefused_NamingTheKey) {
  const auto message = [](const std::string& yaml) {
    return std::string(Study(yaml).status().message());
  };
  EXPECT_THAT(message("baselines: {}\n"), HasSubstr("random_forest, logistic_regression or both"));
  EXPECT_THAT(message("baselines: {random_forest: {trees: [0]}}\n"),
              HasSubstr("baselines.random_forest.trees has 0"));
  EXPECT_THAT(message("baselines: {logistic_regression: {c: [1, 1]}}\n"), HasSubstr("1 twice"));
  EXPECT_THAT(message("baselines: {logistic_regression: {c: [-1]}}\n"),
              HasSubstr("baselines.logistic_regression.c has -1"));
  EXPECT_THAT(message("baselines: {random_forest: {}, folds: 1}\n"), HasSubstr("baselines.folds is 1"));
  EXPECT_THAT(message("embeddings: {tsne: {perplexity: 1}}\n"),
              HasSubstr("embeddings.tsne.perplexity is 1"));
  EXPECT_THAT(message("embeddings: {pca: {components: 1}}\n"),
              HasSubstr("embeddings.pca.components is 1"));
}

TEST(Baselines, TiesGoToTheStrongerPenalty_NaNComesLast) {
  const auto study = *Study("baselines: {logistic_regression: {c: [100, 0.1, 1]}, random_forest: {trees: [20, 5], depth: [5, 3]}}\n");
  const auto families = FamiliesOf(study, {});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  // l1: 100, .1, 1; l2: 100, .1, 1.
  EXPECT_EQ(ChoosePoint(families[1], {.7, .7, .7, .7, .7, .7}), 1u);
  EXPECT_EQ(ChoosePoint(families[1], {.7, .7, .7, .8, .7, .8}), 5u);
  EXPECT_EQ(ChoosePoint(families[1], {nan, .1, nan, nan, nan, .2}), 5u);
  // 20 x 5, 20 x 3, 5 x 5, 5 x 3.
  EXPECT_EQ(ChoosePoint(families[0], {.7, .7, .7, .7}), 3u);
  EXPECT_EQ(ChoosePoint(families[0], {.8, .7, .8, .7}), 2u);
}

TEST(Baselines, AChoiceOnTheEdgeOfItsGridIsSaid) {
  const auto study = *Study("baselines: {logistic_regression: {penalty: [l2], c: [0.1, 1, 10]}, random_forest: {trees: [5, 20, 50], depth: [4]}}\n");
  const auto families = FamiliesOf(study, {});
  EXPECT_TRUE(IsOnEdge(families[1], 0));
  EXPECT_FALSE(IsOnEdge(families[1], 1));
  EXPECT_TRUE(IsOnEdge(families[1], 2));
  EXPECT_TRUE(IsOnEdge(families[0], 0));
  EXPECT_FALSE(IsOnEdge(families[0], 1)) << "one depth alone has no edge";
}

TEST(Baselines, AreExplainedOnlyWhereAStudyAsks_AndCan) {
  const std::string models =
      "baselines: {random_forest: {}, logistic_regression: {}, sizes: [8, 16]}\n";
  const auto message = [](const std::string& yaml) {
    return std::string(Study(yaml).status().message());
  };
  EXPECT_THAT(message("explanation: {baselines: true}\n"),
              HasSubstr("'explanation.baselines' is true, and the study has none"));
  EXPECT_THAT(message(models + "explanation: {baselines: true, methods: [grad_cam]}\n"),
              HasSubstr("'explanation.baselines' needs a method that hides superpixels"));
  EXPECT_THAT(message(models + "explanation: {baselines: yes please}\n"), HasSubstr("baselines"));
  const auto grid = [](const char* resolution) {
    return absl::StrCat(
        "explanation: {baselines: true, methods: [occlusion: {superpixels: {grid: {rows: 9}, "
        "resolution: ",
        resolution, "}}]}\n");
  };
  EXPECT_THAT(message(models + grid("model")), HasSubstr("9 x 9 does not fit on 8 pixels"));
  EXPECT_TRUE(Study(models + grid("display")).ok());
  // A study that does without is the study that it was before one could ask.
  EXPECT_EQ(Study(models + "explanation: {baselines: false}\n")->SerializeAsString(),
            Study(models + "explanation: {}\n")->SerializeAsString());
}

TEST(Baselines, ExplainingThem_CostsWhatTheNetworkCosts_ForEach_WithoutWhatLooksInside) {
  const std::string models =
      "baselines: {random_forest: {}, logistic_regression: {}, sizes: [8, 16]}\n";
  const auto study = *Study(
      models + "explanation: {baselines: true, methods: [lime, shapley, grad_cam, deep_shap]}\n");
  const auto masked = *Study(models + "explanation: {methods: [lime, shapley]}\n");
  const ExplanationSize one = SizeOf(masked.explanation(), 100, 2);
  const ExplanationSize all = SizeOfExplainedBaselines(study, 100, 2);
  EXPECT_EQ(all.images, one.images);
  EXPECT_EQ(all.tasks, 4 * one.tasks);
  EXPECT_EQ(all.inputs, 4 * one.inputs);
  EXPECT_EQ(SizeOfExplainedBaselines(masked, 100, 2).tasks, 0u);
  // Of a probability LIME is fitted to the margin, too: of both logistic regressions, not of forests.
  const auto probability = *Study(
      models + "explanation: {output: probability, baselines: true, methods: [lime, shapley]}\n");
  EXPECT_EQ(SizeOfExplainedBaselines(probability, 100, 2).tasks, all.tasks + 2 * all.images);
}

}  // namespace
}  // namespace dermis
