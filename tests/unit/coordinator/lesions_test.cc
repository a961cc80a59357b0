// The planner of the lesion test and the shortcut check, within a study's run.
#include "coordinator/planners/lesions.h"

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
    "explanation:\n"
    "  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 0}}\n"
    "  methods: [{grad_cam: {}}]\n"
    "  checks: {fidelity: false}\n"
    "  lesion_test: {placements: 1}\n"
    "  shortcut: {}\n";

// 60 images; of those that test, `masked` in two have a mask.
std::shared_ptr<const v1::ImageSetManifest> Manifest(bool masks) {
  auto manifest = std::make_shared<v1::ImageSetManifest>(*FakeManifest(60));
  for (int i = 0; i < 60; ++i) manifest->mutable_images(i)->set_has_mask(masks && i % 3 != 0);
  if (masks) manifest->mutable_chunks(0)->set_masks(Sha256Of("masks").bytes());
  return manifest;
}

v1::Payload PayloadOf(const v1::TaskSpec& task, const Split& split,
                      const v1::ImageSetManifest& manifest) {
  if (task.has_evaluate() && task.evaluate().has_hide()) {
    Split masked;
    for (const uint32_t image : split.test) {
      if (manifest.images(static_cast<int>(image)).has_mask()) masked.test.push_back(image);
    }
    return FakePayload(task, masked);
  }
  return FakePayload(task, split);
}

// Runs a study to its end, its results in random order; gives the tasks by kind.
std::map<v1::TaskSpec::KindCase, std::set<std::string>> RunToTheEnd(
    StudyRun& run, const v1::ImageSetManifest& manifest, uint64_t seed, const v1::StudySpec& spec) {
  std::map<v1::TaskSpec::KindCase, std::set<std::string>> tasks;
  FakeBlobs blobs;
  const auto split = *MakeSplit(manifest, spec.images().split(), spec.seed());
  const SweepPlanner::Training& training = run.sweep().training(0);
  const uint64_t steps = training.planner.steps_per_epoch();
  auto wants =
      *run.OnState(training.digest, FakeState(training.recipe, kClass, 2 * steps, steps, blobs));
  std::mt19937_64 random(seed);
  while (!wants.empty()) {
    std::shuffle(wants.begin(), wants.end(), random);
    const StudyRun::Want want = wants.back();
    wants.pop_back();
    tasks[want.spec.kind_case()].insert(want.task.hex());
    const v1::Payload payload = PayloadOf(want.spec, split, manifest);
    for (int times = 0; times < 2; ++times) {  // Repetition changes nothing.
      auto next = run.OnResult(want.task, [&] { return payload; });
      EXPECT_TRUE(next.ok()) << next.status();
      wants.insert(wants.end(), next->begin(), next->end());
    }
  }
  return tasks;
}

TEST(LesionPlanner, WantsEveryMaskedImage_ThenTheSummaries_InAnyOrder) {
  const auto manifest = Manifest(true);
  const v1::StudySpec spec = *FakeSpec("a", 2, 0, kAsked);
  std::map<v1::TaskSpec::KindCase, std::set<std::string>> first;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    auto run = *StudyRun::Make(spec, Sha256Of("set"), manifest, kClass);
    const auto tasks = RunToTheEnd(*run, *manifest, seed, spec);
    EXPECT_TRUE(run->done());
    EXPECT_EQ(run->lesions()->tasks_done(), run->lesions()->tasks_total());
    if (seed == 1) {
      first = tasks;
    } else {
      EXPECT_EQ(tasks, first);
    }
  }
  const auto split = *MakeSplit(*manifest, spec.images().split(), spec.seed());
  const auto masked = std::count_if(split.test.begin(), split.test.end(), [&](uint32_t image) {
    return manifest->images(static_cast<int>(image)).has_mask();
  });
  EXPECT_EQ(static_cast<long>(first.at(v1::TaskSpec::kLesion).size()), masked);
  EXPECT_EQ(first.at(v1::TaskSpec::kLesionSummary).size(), 1u);
  EXPECT_EQ(first.at(v1::TaskSpec::kShortcut).size(), 1u);
  // The study's own batches of 5, of both parts, and 6 variants of the masked ones.
  EXPECT_EQ(first.at(v1::TaskSpec::kEvaluate).size(),
            (split.test.size() + 4) / 5 + (split.validation.size() + 4) / 5 + 6 * ((static_cast<size_t>(masked) + 4) / 5));
}

TEST(LesionPlanner, OfAStudyInBf16_TheLesionTestRunsInFp32) {
  const auto manifest = Manifest(true);
  v1::StudySpec spec = *FakeSpec("a", 2, 0, kAsked);
  spec.mutable_training()->set_precision(v1::PRECISION_BF16);
  auto run = *StudyRun::Make(spec, Sha256Of("set"), manifest, kClass);
  RunToTheEnd(*run, *manifest, 1, spec);
  ASSERT_TRUE(run->lesions()->lesion_test() && run->lesions()->shortcut());
  // Exact Shapley values; the shortcut check evaluates as the study does.
  EXPECT_EQ(run->lesions()->lesion_test()->lesion_summary().lesion().precision(),
            v1::PRECISION_FP32);
  EXPECT_EQ(run->lesions()->shortcut()->shortcut().precision(), v1::PRECISION_BF16);
}

TEST(LesionPlanner, WithoutMasksAStudyIsRefused_SayingWhatToDo) {
  const v1::StudySpec spec = *FakeSpec("a", 2, 0, kAsked);
  const auto refused = StudyRun::Make(spec, Sha256Of("set"), Manifest(false), kClass);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("dermis ingest --masks"));
}

TEST(ExplanationPlanner, WhatCannotBeCutIsNotExplained) {
  const v1::StudySpec spec =
      *FakeSpec("a", 2, 0,
                "explanation:\n"
                "  images: {all_test: true}\n"
                "  methods: [{shapley: {permutations: 2, superpixels: {lesion_zones: {}}}}]\n"
                "  checks: {fidelity: false}\n");
  const auto manifest = Manifest(true);
  auto run = *StudyRun::Make(spec, Sha256Of("set"), manifest, kClass);
  RunToTheEnd(*run, *manifest, 1, spec);
  ASSERT_FALSE(run->explanation()->chosen().empty());
  for (const ChosenImage& chosen : run->explanation()->chosen()) {
    EXPECT_TRUE(manifest->images(static_cast<int>(chosen.image)).has_mask());
  }
  EXPECT_THAT(
      std::string(
          StudyRun::Make(spec, Sha256Of("set"), Manifest(false), kClass).status().message()),
      HasSubstr("no test image has a lesion mask"));
}

}  // namespace
}  // namespace dermis
