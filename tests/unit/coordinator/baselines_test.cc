// The planners of baselines and embeddings, within a study's run.
#include "coordinator/planners/baselines.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/study_run.h"
#include "tests/simulation/fakes.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

constexpr char kClass[] = "fake/1";
constexpr char kAsked[] =
    "baselines: {random_forest: {trees: [5, 10], depth: [3]}, logistic_regression: {c: [0.1, 1]}, "
    "folds: 3}\n"
    "embeddings: {tsne: {perplexity: 5}}\n";

struct Ended {
  std::set<std::string> tasks;
  std::vector<size_t> chosen;
  std::vector<float> logits;
};

// Runs a study to its end, its results in random order, the network's among them.
Ended RunToTheEnd(StudyRun& run, const v1::ImageSetManifest& manifest, uint64_t seed,
                  const v1::StudySpec& spec) {
  Ended ended;
  FakeBlobs blobs;
  const Split split = *MakeSplit(manifest, spec.images().split(), spec.seed());
  const SweepPlanner::Training& training = run.sweep().training(0);
  const uint64_t steps = training.planner.steps_per_epoch();
  auto wants = *run.Start();
  EXPECT_FALSE(wants.empty());
  bool trained = false;
  std::mt19937_64 random(seed);
  while (!wants.empty() || !trained) {
    if (!trained && (wants.empty() || random() % 8 == 0)) {
      trained = true;
      auto next = *run.OnState(training.digest,
                               FakeState(training.recipe, kClass, 2 * steps, steps, blobs));
      wants.insert(wants.end(), next.begin(), next.end());
    }
    if (wants.empty()) continue;
    std::shuffle(wants.begin(), wants.end(), random);
    const StudyRun::Want want = wants.back();
    wants.pop_back();
    EXPECT_TRUE(run.Has(want.task));
    EXPECT_FALSE(run.done());
    ended.tasks.insert(want.task.hex());
    const v1::Payload payload = FakePayload(want.spec, split);
    EXPECT_TRUE(CheckPayload(want.spec, payload).ok()) << CheckPayload(want.spec, payload);
    for (int times = 0; times < 2; ++times) {  // Repetition changes nothing.
      auto next = run.OnResult(want.task, [&] { return payload; });
      EXPECT_TRUE(next.ok()) << next.status();
      wants.insert(wants.end(), next->begin(), next->end());
    }
  }
  for (const auto& family : run.baselines()->families()) {
    ended.chosen.push_back(family.chosen.value());
    ended.logits.insert(ended.logits.end(), family.test->logits().begin(),
                        family.test->logits().end());
  }
  return ended;
}

TEST(BaselinePlanner, AnyOrderOfResultsEndsAlike) {
  const auto manifest = FakeManifest(90);
  const v1::StudySpec spec = *FakeSpec("a", 2, 0, kAsked);
  Ended first;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    auto run = *StudyRun::Make(spec, Sha256Of("set"), manifest, kClass);
    const Ended ended = RunToTheEnd(*run, *manifest, seed, spec);
    EXPECT_TRUE(run->done());
    EXPECT_EQ(run->baselines()->tasks_done(), run->baselines()->tasks_total());
    EXPECT_EQ(run->embeddings()->tasks_done(), run->embeddings()->tasks_total());
    EXPECT_EQ(run->embeddings()->tasks().size(), 8u);
    if (seed == 1) {
      first = ended;
    } else {
      EXPECT_EQ(ended.tasks, first.tasks);
      EXPECT_EQ(ended.chosen, first.chosen);
      EXPECT_EQ(ended.logits, first.logits);
    }
  }
}

TEST(BaselinePlanner, ExplainsWhatItHasChosen_ByTheMethodsThatHideSuperpixels_InAnyOrderOfResults) {
  const auto manifest = FakeManifest(90);
  const v1::StudySpec spec = *FakeSpec(
      "a", 2, 0,
      "baselines: {random_forest: {trees: [5], depth: [3]}, logistic_regression: {c: [0.1, 1]}, "
      "sizes: [8, 32], folds: 3}\n"
      "explanation:\n"
      "  baselines: true\n"
      "  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 0}}\n"
      "  methods: [grad_cam, lime: {samples: 260}, shapley: {estimator: auto, hidden: "
      "background}]\n");
  const Split split = *MakeSplit(*manifest, spec.images().split(), spec.seed());
  std::set<std::string> first;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    auto run = *StudyRun::Make(spec, Sha256Of("set"), manifest, kClass);
    FakeBlobs blobs;
    const SweepPlanner::Training& training = run->sweep().training(0);
    const uint64_t steps = training.planner.steps_per_epoch();
    auto wants = *run->Start();
    bool trained = false;
    std::mt19937_64 random(seed);
    std::map<std::string, v1::TaskSpec> tasks;
    while (!wants.empty() || !trained) {
      if (!trained && (wants.empty() || random() % 8 == 0)) {
        trained = true;
        auto next = *run->OnState(training.digest,
                                  FakeState(training.recipe, kClass, 2 * steps, steps, blobs));
        wants.insert(wants.end(), next.begin(), next.end());
        continue;
      }
      std::shuffle(wants.begin(), wants.end(), random);
      const StudyRun::Want want = wants.back();
      wants.pop_back();
      EXPECT_TRUE(run->Has(want.task));
      // Superpixels are wanted by all models.
      EXPECT_TRUE(!run->done() || tasks.contains(want.task.hex()));
      tasks[want.task.hex()] = want.spec;
      const v1::Payload payload = FakePayload(want.spec, split);
      auto next = run->OnResult(want.task, [&] { return payload; });
      ASSERT_TRUE(next.ok()) << next.status();
      wants.insert(wants.end(), next->begin(), next->end());
    }
    EXPECT_TRUE(run->done());
    ASSERT_EQ(run->explained_baselines().size(), 4u);
    std::set<std::string> digests, superpixels;
    std::map<std::string, int> fits;
    for (const auto& [digest, task] : tasks) {
      digests.insert(digest);
      if (task.has_superpixels()) superpixels.insert(digest);
      if (!task.has_fit()) continue;
      const v1::Perturbation& p = task.fit().perturbation();
      const bool forest = p.model().baseline().has_forest();
      ++fits[absl::StrCat(!p.model().has_baseline() ? "network"
                          : forest                  ? "forest"
                                                    : "regression",
                          p.images().size())];
      EXPECT_EQ(task.fit().output(), forest ? v1::OUTPUT_KIND_PROBABILITY : v1::OUTPUT_KIND_MARGIN);
      EXPECT_EQ(p.hiding().probabilities(), forest && p.hidden() == v1::HIDDEN_VALUE_BACKGROUND)
          << "the mean over the background is of what is explained";
      if (!p.model().has_baseline()) continue;
      EXPECT_EQ(p.model().baseline().images().size(), p.images().size());
      EXPECT_FALSE(p.images().split().has_fold()) << "the one that is fitted to the training split";
    }
    const auto images = static_cast<int>(run->explanation()->chosen().size());
    ASSERT_GT(images, 1);
    EXPECT_EQ(superpixels.size(), images) << "all models and methods share them";
    EXPECT_EQ(fits, (std::map<std::string, int>{{"network32", 2 * images},
                                                {"forest8", 2 * images},
                                                {"forest32", 2 * images},
                                                {"regression8", 2 * images},
                                                {"regression32", 2 * images}}));
    for (const auto& planner : run->explained_baselines()) {
      EXPECT_EQ(planner->tasks_done(), planner->tasks_total());
    }
    if (seed == 1) first = digests;
    EXPECT_EQ(digests, first);
  }
}

TEST(BaselinePlanner, ChoosesByTheFoldsAlone) {
  const auto manifest = FakeManifest(90);
  const v1::StudySpec spec = *FakeSpec("a", 2, 0, kAsked);
  auto run = *StudyRun::Make(spec, Sha256Of("set"), manifest, kClass);
  auto wants = *run->Start();
  const Split split = *MakeSplit(*manifest, spec.images().split(), spec.seed());
  // Ten trees are better in every fold, and nobody has evaluated anything.
  for (size_t i = 0; i < wants.size(); ++i) {
    const StudyRun::Want want = wants[i];
    if (!want.spec.has_baseline()) continue;
    v1::Payload payload = FakePayload(want.spec, split);
    payload.mutable_baseline()->set_accuracy(want.spec.baseline().forest().trees() == 10 ? .8 : .6);
    const auto next = *run->OnResult(want.task, [&] { return payload; });
    for (const StudyRun::Want& more : next) {
      if (more.spec.has_baseline()) {
        EXPECT_FALSE(more.spec.baseline().images().split().has_fold());
        wants.push_back(more);
      }
    }
  }
  const auto& families = run->baselines()->families();
  EXPECT_EQ(families[0].family.points[*families[0].chosen].forest().trees(), 10u);
  // Of equal ones the stronger penalty.
  EXPECT_EQ(families[1].family.points[*families[1].chosen].logistic().c(), 0.1);
}

TEST(BaselinePlanner, WhatTheImagesDoNotAllowIsRefused) {
  const auto manifest = FakeManifest(60);
  const auto refused = [&](const std::string& yaml) {
    return std::string(
        StudyRun::Make(*FakeSpec("a", 2, 0, yaml), Sha256Of("set"), manifest, kClass)
            .status()
            .message());
  };
  EXPECT_THAT(refused("baselines: {random_forest: {}, folds: 50}\n"),
              HasSubstr("baselines.folds = 50"));
  EXPECT_THAT(refused("baselines: {random_forest: {}, sizes: [1024]}\n"),
              HasSubstr("baselines.sizes"));
  EXPECT_THAT(refused("embeddings: {tsne: {perplexity: 30}}\n"), HasSubstr("at most a third"));
  // Beyond the products' memory components are found by drawing; raw distances are not.
  const auto large = FakeManifest(12'001);
  const auto of_large = [&](const std::string& yaml) {
    return StudyRun::Make(*FakeSpec("a", 2, 0, yaml), Sha256Of("set"), large, kClass).status();
  };
  EXPECT_THAT(std::string(of_large("embeddings: {}\n").message()), HasSubstr("give inputs: [pca]"));
  EXPECT_TRUE(of_large("embeddings: {tsne: {inputs: [pca]}}\n").ok());
}

}  // namespace
}  // namespace dermis
