// The planners of baselines and embeddings, within a study's run.
#include "coordinator/planners/baselines.h"

#include <algorithm>
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
}

}  // namespace
}  // namespace dermis
