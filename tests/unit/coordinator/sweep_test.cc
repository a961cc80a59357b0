// The sweep planner as a fold: whatever comes first, the same trials go on and the same one is
// taken.
#include "coordinator/planners/sweep.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "coordinator/study_run.h"
#include "tests/simulation/fakes.h"

namespace dermis {
namespace {

constexpr char kClass[] = "fake/1";

v1::StudySpec Spec(const std::string& sweep, int epochs = 9, int patience = 0) {
  const auto spec = FakeSpec("a", epochs, patience, absl::StrCat("sweep: {", sweep, "}\n"));
  EXPECT_TRUE(spec.ok()) << spec.status();
  return *spec;
}

std::string Axis(int values) {
  std::string list;
  for (int i = 0; i < values; ++i) absl::StrAppend(&list, i == 0 ? "" : ", ", i + 1);
  return absl::StrCat("axes: [{key: training.clip_norm, values: [", list, "]}]");
}

std::unique_ptr<SweepPlanner> Make(const v1::StudySpec& spec) {
  auto planner = SweepPlanner::Make(spec, Sha256Of("set"), *FakeManifest(80), kClass);
  EXPECT_TRUE(planner.ok()) << planner.status();
  return *std::move(planner);
}

// Validation loss of training k after an epoch: trial t is better the larger t is; falls slowly.
v1::TrainOutput StateOf(const SweepPlanner::Training& training, uint32_t epochs,
                        const std::vector<double>& level) {
  v1::TrainOutput output;
  const uint64_t steps = training.planner.steps_per_epoch();
  output.set_step(epochs * steps);
  output.set_steps_per_epoch(steps);
  output.set_last_model(absl::StrCat("last ", training.digest.hex(), epochs));
  output.set_best_model(absl::StrCat("best ", training.digest.hex(), epochs));
  for (uint32_t e = 1; e <= epochs; ++e) {
    v1::EpochMetrics& metrics = *output.add_epochs();
    metrics.set_epoch(e);
    metrics.set_validation_loss(level[training.trial] + 1.0 / e);
    metrics.set_validation_accuracy(1 - level[training.trial]);
  }
  return output;
}

// Works on what is active in random order, sometimes farther than is asked for and with
// repetitions.
std::vector<int> RunToEnd(SweepPlanner& planner, const std::vector<double>& level, uint64_t seed,
                          const std::set<uint32_t>& failing = {}) {
  std::mt19937_64 random(seed);
  std::vector<int> epochs_of_trial(planner.trials().size());
  for (int guard = 0; !planner.done() && !planner.failed(); ++guard) {
    EXPECT_LT(guard, 100000);
    EXPECT_FALSE(planner.active().empty());
    if (planner.active().empty() || guard == 100000) break;
    auto it = planner.active().begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random() % planner.active().size()));
    const SweepPlanner::Training& training = planner.training(*it);
    const Digest recipe = training.digest;
    if (failing.contains(training.trial) && training.planner.limit() > 1) {
      planner.OnFailed(recipe);
      continue;
    }
    const uint32_t limit = training.planner.goal().max_epochs();
    const uint32_t epochs = 1 + static_cast<uint32_t>(random() % limit);
    epochs_of_trial[training.trial] =
        std::max<int>(epochs_of_trial[training.trial], static_cast<int>(epochs));
    const v1::TrainOutput output = StateOf(training, epochs, level);
    planner.OnState(recipe, output);
    if (random() % 4 == 0) planner.OnState(recipe, output);
  }
  return epochs_of_trial;
}

TEST(SweepPlanner, WithoutASweep_IsOneTrainingWithoutRungs) {
  const auto planner = Make(*FakeSpec("a", 3, 0, ""));
  ASSERT_EQ(planner->trainings(), 1u);
  EXPECT_EQ(planner->epochs_total(), 3u);
  RunToEnd(*planner, {0}, 1);
  EXPECT_EQ(planner->chosen(), 0u);
  EXPECT_TRUE(planner->done());
}

TEST(SweepPlanner, Grid_TrainsAll_AndTakesTheBest) {
  const auto planner = Make(Spec(Axis(5)));
  EXPECT_EQ(planner->active().size(), 5u);
  EXPECT_EQ(planner->epochs_total(), 45u);
  RunToEnd(*planner, {.5, .4, .1, .2, .3}, 1);
  EXPECT_EQ(planner->chosen(), 2u);
  EXPECT_EQ(planner->epochs_done(), 45u);
  for (const auto& trial : planner->trials()) {
    EXPECT_EQ(trial.state, SweepPlanner::TrialState::kTrained);
  }
}

TEST(SweepPlanner, Ties_GoToTheEarlierTrial_AndNotANumberComesLast) {
  const auto planner = Make(Spec(Axis(4)));
  RunToEnd(*planner, {std::nan(""), .2, .2, std::nan("")}, 3);
  EXPECT_EQ(planner->chosen(), 1u);
  const auto all_nan = Make(Spec(Axis(2)));
  RunToEnd(*all_nan, {std::nan(""), std::nan("")}, 3);
  EXPECT_EQ(all_nan->chosen(), 0u);  // Not a number is a result, not a failure.
}

TEST(SweepPlanner, Halving_DropsTheWorstAtEachRung_AndSavesTheirEpochs) {
  const auto planner = Make(Spec(absl::StrCat(Axis(9), ", halving: {rungs: [1, 3]}")));
  EXPECT_EQ(planner->epochs_total(), 9u * 1 + 3 * 2 + 1 * 6);
  const std::vector<double> level = {.9, .1, .8, .3, .7, .2, .6, .5, .4};
  RunToEnd(*planner, level, 1);
  EXPECT_EQ(planner->chosen(), 1u);
  EXPECT_EQ(planner->epochs_done(), 9u * 1 + 3 * 2 + 1 * 6);
  EXPECT_EQ(planner->trials()[1].state, SweepPlanner::TrialState::kTrained);
  for (uint32_t t : {3, 5}) {
    EXPECT_EQ(planner->trials()[t].state, SweepPlanner::TrialState::kDropped);
    EXPECT_EQ(planner->trials()[t].rung, 2u);
  }
  for (uint32_t t : {0, 2, 4, 6, 7, 8}) EXPECT_EQ(planner->trials()[t].rung, 1u);
}

TEST(SweepPlanner, AnyOrderAndRepetition_EndsInTheSameDecisions) {
  const v1::StudySpec spec =
      Spec(absl::StrCat(Axis(13), ", halving: {rungs: [1, 2, 5], factor: 2}, seeds: 2"), 9, 3);
  std::mt19937_64 random(7);
  std::vector<double> level;
  for (int t = 0; t < 13; ++t) level.push_back(static_cast<double>(random() % 100) / 100);
  const std::set<uint32_t> failing = {2, 11};
  const auto first = Make(spec);
  RunToEnd(*first, level, 0, failing);
  ASSERT_TRUE(first->done());
  for (uint64_t seed = 1; seed < 40; ++seed) {
    const auto other = Make(spec);
    RunToEnd(*other, level, seed, failing);
    ASSERT_TRUE(other->done());
    EXPECT_EQ(other->chosen(), first->chosen());
    EXPECT_EQ(other->final_training()->planner.outcome()->model.weights(),
              first->final_training()->planner.outcome()->model.weights());
    for (uint32_t t = 0; t < 13; ++t) {
      EXPECT_EQ(other->trials()[t].state, first->trials()[t].state) << t;
      EXPECT_EQ(other->trials()[t].rung, first->trials()[t].rung) << t;
      EXPECT_EQ(other->trials()[t].score, first->trials()[t].score) << t;
    }
  }
}

// States of a longer run, known beforehand (another study's), change no decision.
TEST(SweepPlanner, LongerHistories_DecideAsIfTheyWereShort) {
  const v1::StudySpec spec = Spec(absl::StrCat(Axis(6), ", halving: {rungs: [1, 3], factor: 2}"));
  const std::vector<double> level = {.6, .5, .4, .3, .2, .1};
  const auto plain = Make(spec), known = Make(spec);
  RunToEnd(*plain, level, 1);
  for (uint32_t k : {0, 1, 2, 3}) {
    const SweepPlanner::Training& training = known->training(k);
    known->OnState(training.digest, StateOf(training, 9, level));
  }
  RunToEnd(*known, level, 2);
  EXPECT_EQ(known->chosen(), plain->chosen());
  for (uint32_t t = 0; t < 6; ++t) {
    EXPECT_EQ(known->trials()[t].state, plain->trials()[t].state);
    EXPECT_EQ(known->trials()[t].score, plain->trials()[t].score);
  }
}

TEST(SweepPlanner, FailedTrials_StopNothing_UnlessNoneIsLeft) {
  const v1::StudySpec spec = Spec(absl::StrCat(Axis(3), ", halving: {rungs: [3], factor: 3}"));
  const auto planner = Make(spec);
  RunToEnd(*planner, {.1, .2, .3}, 1, {0});
  EXPECT_EQ(planner->chosen(), 1u);
  EXPECT_EQ(planner->trials()[0].state, SweepPlanner::TrialState::kFailed);
  EXPECT_FALSE(planner->failed());
  const auto none = Make(spec);
  RunToEnd(*none, {.1, .2, .3}, 1, {0, 1, 2});
  EXPECT_TRUE(none->failed());
  EXPECT_FALSE(none->chosen());
}

TEST(SweepPlanner, Hyperband_RunsAllBrackets) {
  const auto planner =
      Make(Spec("axes: [{key: training.clip_norm, range: {low: 1, high: 2}}], hyperband: {}"));
  std::vector<double> level;
  for (size_t t = 0; t < planner->trials().size(); ++t) level.push_back(1.0 / (1 + t % 7));
  RunToEnd(*planner, level, 5);
  ASSERT_TRUE(planner->done());
  EXPECT_EQ(planner->chosen(), 6u);
  // Brackets of 9, 5 and 3 trials with first rungs of 1, 3 and 9 epochs.
  ASSERT_EQ(planner->trials().size(), 17u);
  int trained = 0;
  for (const auto& trial : planner->trials()) {
    trained += trial.state == SweepPlanner::TrialState::kTrained;
  }
  EXPECT_EQ(trained, 1 + 2 + 3);
}

TEST(SweepPlanner,
     SeedsAndFolds_AreTrainingsOfTheirOwn_AndTheTakenTrialIsTrainedOnceMore_WithEach) {
  const v1::StudySpec spec = Spec(absl::StrCat(Axis(2), ", seeds: 2, folds: 3"));
  const auto planner = Make(spec);
  ASSERT_EQ(planner->trainings(), 12u);
  std::set<Digest> recipes;
  for (uint32_t k = 0; k < 12; ++k) {
    const v1::Recipe& recipe = planner->training(k).recipe;
    recipes.insert(planner->training(k).digest);
    EXPECT_EQ(recipe.seed(), spec.seed() + k / 3 % 2);
    EXPECT_EQ(recipe.images().split().fold(), k % 3);
  }
  EXPECT_EQ(recipes.size(), 12u);
  RunToEnd(*planner, {.3, .2}, 1);
  ASSERT_TRUE(planner->done());
  EXPECT_EQ(planner->chosen(), 1u);
  ASSERT_EQ(planner->trainings(), 14u);
  EXPECT_EQ(planner->finals(), (std::vector<uint32_t>{12, 13}));
  for (const uint32_t k : planner->finals()) {
    const v1::Recipe& recipe = planner->training(k).recipe;
    EXPECT_FALSE(recipe.images().split().has_folds());
    EXPECT_EQ(recipe.clip_norm(), 2);
    EXPECT_EQ(recipe.seed(), spec.seed() + k - 12);
  }
  EXPECT_EQ(planner->final_training(), &planner->training(12));
  EXPECT_EQ(planner->trials()[1].deviation, 0);  // The fake loss depends on the trial alone.
}

TEST(SweepPlanner, SeedsWithoutAxes_AreTheTrainingsOfOneTrial) {
  const v1::StudySpec spec = Spec("seeds: 3");
  const auto planner = Make(spec), plain = Make(*FakeSpec("a", 9, 0, ""));
  ASSERT_EQ(planner->trainings(), 3u);
  EXPECT_EQ(planner->training(0).digest, plain->training(0).digest) << "it is shared";
  RunToEnd(*planner, {.3}, 1);
  ASSERT_TRUE(planner->done());
  EXPECT_EQ(planner->finals(), (std::vector<uint32_t>{0, 1, 2}));
  EXPECT_EQ(planner->epochs_done(), 27u);
}

// The test split is touched by the trial that was taken alone, with each of its seeds: no model of
// another trial is ever evaluated, and none before all are trained.
TEST(StudyRun, OfASweep_EvaluatesTheTakenTrialsSeedsOnly_AndOnlyThen) {
  auto spec = FakeSpec(
      "a", 4, 0, absl::StrCat("sweep: {", Axis(6), ", seeds: 2, halving: {rungs: [1, 2]}}\n"));
  ASSERT_TRUE(spec.ok()) << spec.status();
  auto run = *StudyRun::Make(*spec, Sha256Of("set"), FakeManifest(80), kClass);
  const std::vector<double> level = {.6, .5, .1, .3, .2, .4};
  std::set<std::string> evaluated;
  while (!run->training_done()) {
    ASSERT_FALSE(run->sweep().active().empty());
    const SweepPlanner::Training& training = run->sweep().training(*run->sweep().active().begin());
    const v1::TrainOutput output = StateOf(training, training.planner.goal().max_epochs(), level);
    const auto wants = run->OnState(Digest(training.digest), output);
    ASSERT_TRUE(wants.ok()) << wants.status();
    EXPECT_TRUE(wants->empty() || run->training_done());
    for (const StudyRun::Want& want : *wants) {
      ASSERT_TRUE(want.spec.has_evaluate());
      evaluated.insert(want.spec.evaluate().model().weights());
    }
  }
  EXPECT_EQ(run->sweep().chosen(), 2u);
  std::set<std::string> taken;
  for (const uint32_t k : {4u, 5u}) {
    ASSERT_EQ(run->sweep().training(k).trial, 2u);
    taken.insert(run->sweep().training(k).planner.outcome()->model.weights());
  }
  EXPECT_EQ(taken.size(), 2u);
  EXPECT_EQ(evaluated, taken);
}

}  // namespace
}  // namespace dermis
