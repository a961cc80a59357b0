#include <algorithm>
#include <random>

#include "absl/strings/str_replace.h"
#include <gtest/gtest.h>

#include "common/estimators.h"
#include "common/tasks.h"
#include "coordinator/planners/explanation.h"
#include "coordinator/planners/training.h"
#include "coordinator/study_run.h"
#include "tests/simulation/fakes.h"

namespace dermis {
namespace {

constexpr char kClass[] = "fake/1";

v1::TrainOutput StateAt(uint64_t step, uint64_t per_epoch, const std::vector<double>& losses) {
  v1::TrainOutput output;
  output.set_step(step);
  output.set_steps_per_epoch(per_epoch);
  output.set_last_model(absl::StrCat("last ", step));
  output.set_best_model(absl::StrCat("best ", step));
  for (uint32_t e = 1; e <= step / per_epoch; ++e) {
    output.add_epochs()->set_epoch(e);
    output.mutable_epochs(static_cast<int>(e) - 1)->set_validation_loss(losses[e - 1]);
  }
  return output;
}

v1::TrainingSpec Training(int epochs, int patience) {
  return FakeSpec("a", epochs, patience, "")->training();
}

TEST(TrainingPlanner, WithoutEarlyStopping_EndsAtTheLastEpoch_WithTheLastWeights) {
  TrainingPlanner planner(Training(3, 0), 10);
  EXPECT_EQ(planner.goal().exact_steps(0), 30u);
  const std::vector<double> losses = {3, 1, 2};
  planner.OnState(StateAt(25, 10, losses));
  EXPECT_FALSE(planner.outcome());
  EXPECT_EQ(planner.epochs_done(), 2u);
  planner.OnState(StateAt(30, 10, losses));
  ASSERT_TRUE(planner.outcome());
  EXPECT_EQ(planner.outcome()->stop_epoch, 3u);
  EXPECT_EQ(planner.outcome()->model.weights(), "last 30");
}

TEST(TrainingPlanner, EarlyStopping_TakesTheBestWeightsOfTheStateWhereItStops) {
  TrainingPlanner planner(Training(100, 2), 10);
  const std::vector<double> losses = {3, 1, 2, 2, 0.5};
  planner.OnState(StateAt(35, 10, losses));
  EXPECT_FALSE(planner.target_step());
  planner.OnState(StateAt(40, 10, losses));
  ASSERT_TRUE(planner.outcome());
  EXPECT_EQ(planner.outcome()->stop_epoch, 4u);
  EXPECT_EQ(planner.outcome()->model.weights(), "best 40");
}

TEST(TrainingPlanner, LongerRunOfAnotherStudy_TellsWhereToStop_AndTheExactStateIsWanted) {
  TrainingPlanner planner(Training(100, 2), 10);
  const std::vector<double> losses = {3, 1, 2, 2, 0.5};
  planner.OnState(StateAt(50, 10, losses));  // Ran beyond: its best weights are not ours.
  EXPECT_FALSE(planner.outcome());
  EXPECT_EQ(planner.target_step(), 40u);
  ASSERT_EQ(planner.goal().exact_steps_size(), 1);
  EXPECT_EQ(planner.goal().exact_steps(0), 40u);
  EXPECT_EQ(planner.goal().max_epochs(), 4u);
  EXPECT_EQ(planner.epochs_done(), 4u);
}

TEST(TrainingPlanner, AnyOrderAndRepetitionOfStates_EndsAlike) {
  const std::vector<double> losses = {3, 1, 2, 2, 0.5};
  std::vector<uint64_t> steps = {5, 10, 23, 30, 40, 45, 50};
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    std::shuffle(steps.begin(), steps.end(), random);
    TrainingPlanner planner(Training(100, 2), 10);
    for (uint64_t step : steps) {
      planner.OnState(StateAt(step, 10, losses));
      planner.OnState(StateAt(steps[0], 10, losses));
    }
    ASSERT_TRUE(planner.outcome());
    EXPECT_EQ(planner.outcome()->step, 40u);
    EXPECT_EQ(planner.outcome()->model.weights(), "best 40");
    EXPECT_EQ(planner.epochs_done(), 4u);
  }
}

class ChooseImagesTest : public testing::Test {
 protected:
  std::shared_ptr<const v1::ImageSetManifest> manifest_ = FakeManifest(12);
  // Images 1, 3, .. are positive. Confidence of the positive class grows with the position.
  std::vector<uint32_t> test_ = {1, 3, 5, 7, 9, 11};
  std::vector<float> logits_ = {0, -1, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5};

  std::vector<ChosenImage> Choose(uint32_t most, uint32_t least, uint32_t random, uint64_t seed = 1,
                                  uint32_t median = 0) {
    v1::ExplainedImages spec;
    spec.mutable_per_confusion_cell()->set_median(median);
    spec.mutable_per_confusion_cell()->set_most_confident(most);
    spec.mutable_per_confusion_cell()->set_least_confident(least);
    spec.mutable_per_confusion_cell()->set_random(random);
    return ChooseImages(spec, *manifest_, test_, logits_, 2, seed);
  }
};

TEST_F(ChooseImagesTest, PerCell_MostThenLeastConfident) {
  const auto chosen = Choose(1, 1, 0);
  ASSERT_EQ(chosen.size(), 3u);  // The false-negative cell holds one image.
  EXPECT_EQ(chosen[0].image, 1u);
  EXPECT_EQ(chosen[0].why, "false negative, most confident");
  EXPECT_EQ(chosen[1].image, 11u);
  EXPECT_EQ(chosen[1].why, "true positive, most confident");
  EXPECT_EQ(chosen[2].image, 3u);
  EXPECT_EQ(chosen[2].why, "true positive, least confident");
}

// Of the true positives 3, 5, 7, 9, 11.
TEST_F(ChooseImagesTest, Median_IsTheMiddleOfTheWholeCell) {
  const auto chosen = Choose(1, 0, 0, 1, 1);
  ASSERT_EQ(chosen.size(), 3u);
  EXPECT_EQ(chosen[0].why, "false negative, most confident, median") << "the cell's one image";
  EXPECT_EQ(chosen[1].image, 11u);
  EXPECT_EQ(chosen[2].image, 7u) << "not of what the most confident one leaves";
  EXPECT_EQ(chosen[2].why, "true positive, median");
  const auto three = Choose(0, 0, 0, 1, 3);
  ASSERT_EQ(three.size(), 4u);
  EXPECT_EQ(three[1].image, 9u);
  EXPECT_EQ(three[2].image, 7u);
  EXPECT_EQ(three[3].image, 5u);
  // Of two in the middle the more confident one.
  test_.pop_back();
  logits_.resize(10);
  EXPECT_EQ(Choose(0, 0, 0, 1, 1)[1].image, 7u);
  // Random ones are drawn of what is left.
  EXPECT_EQ(Choose(1, 1, 10, 1, 1).size(), 5u);
}

TEST_F(ChooseImagesTest, NoImageIsChosenTwice_AndRandomDependsOnTheSeedAlone) {
  const auto all = Choose(2, 2, 10);
  std::set<uint32_t> images;
  for (const ChosenImage& chosen : all) images.insert(chosen.image);
  EXPECT_EQ(images.size(), all.size());
  EXPECT_EQ(all.size(), test_.size());
  std::set<uint32_t> drawn;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const auto a = Choose(0, 0, 1, seed), b = Choose(0, 0, 1, seed);
    ASSERT_EQ(a.size(), 2u);
    EXPECT_EQ(a[1].image, b[1].image);
    drawn.insert(a[1].image);
  }
  EXPECT_GT(drawn.size(), 2u);
}

TEST_F(ChooseImagesTest, Ties_GoToTheSmallerImageDigest) {
  logits_ = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1};
  const auto chosen = Choose(1, 0, 0);
  ASSERT_EQ(chosen.size(), 1u);
  uint32_t smallest = test_[0];
  for (uint32_t image : test_) {
    if (manifest_->images(static_cast<int>(image)).digest() <
        manifest_->images(static_cast<int>(smallest)).digest()) {
      smallest = image;
    }
  }
  EXPECT_EQ(chosen[0].image, smallest);
}

// A whole study as a fold: results in any order, some of them twice.
struct Folded {
  std::set<Digest> wanted;
  std::vector<ChosenImage> chosen;
  std::vector<ExplanationPlanner::MethodTask> last;  // What is shown: by image and method.
  bool done = false;
  std::vector<std::vector<CheckPlanner::Check>> checks;  // By chosen image.
};

Folded Fold(uint64_t seed, const std::string& explanation = kFakeExplanation) {
  FakeBlobs blobs;
  const auto manifest = FakeManifest(60);
  const Digest image_set = Sha256Of("set");
  const v1::StudySpec spec = *FakeSpec("a", 3, 0, explanation);
  auto run = *StudyRun::Make(spec, image_set, manifest, kClass);
  const Split split = *MakeSplit(*manifest, spec.images().split(), spec.seed());
  const SweepPlanner::Training& training = run->sweep().training(0);
  const uint64_t per_epoch = training.planner.steps_per_epoch();
  std::mt19937_64 random(seed);
  Folded folded;
  std::vector<StudyRun::Want> open, finished;
  const auto take = [&](absl::StatusOr<StudyRun::Wants> wants) {
    EXPECT_TRUE(wants.ok()) << wants.status();
    for (StudyRun::Want& want : *wants) {
      EXPECT_TRUE(folded.wanted.insert(want.task).second) << "wanted twice";
      open.push_back(std::move(want));
    }
  };
  std::vector<uint64_t> steps = {1, per_epoch, 2 * per_epoch + 1, 3 * per_epoch, 3 * per_epoch};
  std::shuffle(steps.begin(), steps.end(), random);
  for (uint64_t step : steps) {
    take(run->OnState(training.digest, FakeState(training.recipe, kClass, step, per_epoch, blobs)));
  }
  while (!open.empty()) {
    const size_t i = random() % open.size();
    StudyRun::Want want = open[i];
    open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
    finished.push_back(want);
    const auto give = [&](const StudyRun::Want& w) {
      take(run->OnResult(w.task, [&]() -> absl::StatusOr<v1::Payload> {
        v1::Payload payload = FakePayload(w.spec, split);
        // Another number of superpixels for each image.
        if (payload.has_superpixels()) payload.mutable_superpixels()->set_count(5 + w.spec.superpixels().image());
        return payload;
      }));
    };
    give(want);
    if (random() % 3 == 0) give(finished[random() % finished.size()]);
  }
  folded.done = run->done();
  folded.chosen = run->explanation()->chosen();
  for (size_t i = 0; i < folded.chosen.size(); ++i) {
    for (const v1::MethodSpec& method : spec.explanation().methods()) {
      folded.last.push_back(*run->explanation()->TaskOf(i, method));
      EXPECT_TRUE(folded.wanted.contains(folded.last.back().digest)) << "a result that nobody made";
    }
  }
  EXPECT_EQ(run->explanation()->tasks_done(), run->explanation()->tasks_total());
  EXPECT_EQ(run->checks()->tasks_done(), run->checks()->tasks_total());
  for (size_t i = 0; i < folded.chosen.size(); ++i) {
    folded.checks.push_back(run->checks()->ChecksOf(i));
  }
  return folded;
}

TEST(StudyRun, AnyOrderAndRepetitionOfResults_EndsInTheSameWantsAndResult) {
  const Folded first = Fold(1);
  ASSERT_TRUE(first.done);
  ASSERT_GT(first.chosen.size(), 2u);
  for (uint64_t seed = 2; seed < 20; ++seed) {
    const Folded other = Fold(seed);
    EXPECT_TRUE(other.done);
    EXPECT_EQ(first.wanted, other.wanted);
    ASSERT_EQ(first.chosen.size(), other.chosen.size());
    for (size_t i = 0; i < first.chosen.size(); ++i) {
      EXPECT_EQ(first.chosen[i].image, other.chosen[i].image);
      EXPECT_EQ(first.chosen[i].why, other.chosen[i].why);
    }
  }
}

constexpr char kFakeStability[] =
    "  checks: {stability: {images: 2, noise_draws: 3, seeds: 2}}\n";

TEST(StudyRun, ChecksInAnyOrder_EndInTheSameWants) {
  const Folded first = Fold(1, kFakeExplanation + std::string(kFakeStability));
  ASSERT_TRUE(first.done);
  for (uint64_t seed = 2; seed < 8; ++seed) {
    const Folded other = Fold(seed, kFakeExplanation + std::string(kFakeStability));
    EXPECT_TRUE(other.done);
    EXPECT_EQ(first.wanted, other.wanted);
  }
}

TEST(StudyRun, EveryExplainedImageIsChecked_AndTheFirstByDigestForStability) {
  const Folded folded = Fold(1, kFakeExplanation + std::string(kFakeStability));
  const auto manifest = FakeManifest(60);
  std::vector<std::pair<std::string, size_t>> by_digest;
  for (size_t i = 0; i < folded.chosen.size(); ++i) {
    by_digest.emplace_back(manifest->images(static_cast<int>(folded.chosen[i].image)).digest(), i);
  }
  std::sort(by_digest.begin(), by_digest.end());
  const std::set<size_t> sample = {by_digest[0].second, by_digest[1].second};
  for (size_t i = 0; i < folded.checks.size(); ++i) {
    int fidelity = 0, stability = 0, priors = 0;
    for (const CheckPlanner::Check& check : folded.checks[i]) {
      fidelity += check.task.has_fidelity();
      stability += check.task.has_stability();
      priors += !check.method;
      EXPECT_TRUE(folded.wanted.contains(*TaskDigest(check.task)));
    }
    // LIME, Shapley, Grad-CAM and the priors; activation maps are not judged.
    EXPECT_EQ(fidelity, 4);
    EXPECT_EQ(stability, sample.contains(i) ? 4 : 0);
    EXPECT_EQ(priors, sample.contains(i) ? 2 : 1);
  }
}

TEST(StudyRun, WithoutChecks_NothingIsWantedBeyondTheExplanations) {
  const Folded with = Fold(1), without = Fold(1, kFakeExplanation + std::string("  checks: {fidelity: false}\n"));
  EXPECT_TRUE(without.done);
  // Fidelity of three methods and the priors on each image; the common superpixels are LIME's.
  EXPECT_EQ(with.wanted.size(), without.wanted.size() + 4 * with.chosen.size());
}

constexpr char kSampled[] =
    "explanation:\n"
    "  images: {per_confusion_cell: {most_confident: 1, least_confident: 1, random: 2}}\n"
    "  methods:\n"
    "    - lime: {samples: 700, tolerance: 0.3}\n"
    "    - shapley: {permutations: 100, tolerance: 0.2}\n"
    "    - shapley: {permutations: 100}\n"             // The same runs, all of them.
    "    - shapley: {estimator: auto}\n"
    "    - shapley: {estimator: leverage, budget: 3000, tolerance: 0.2}\n"
    "    - shapley: {estimator: leverage, budget: 3000, tolerance: 0.4}\n"  // The same runs, at times fewer.
    "    - shapley: {estimator: kernel, budget: 1000, tolerance: 0.1}\n"
    "    - shapley: {estimator: partition}\n"
    "    - occlusion: {}\n"
    "    - rise: {samples: 300}\n";

TEST(StudyRun, ToleranceAndMasksThatDependOnTheImage_EndAlike_InAnyOrder) {
  const Folded first = Fold(1, kSampled);
  ASSERT_TRUE(first.done);
  std::set<uint32_t> units;
  bool exact = false, leverage = false;
  size_t passed = 0;  // Checkpoints that did not meet a tolerance.
  const v1::StudySpec spec = *FakeSpec("a", 3, 0, kSampled);
  const auto& methods = spec.explanation().methods();
  for (size_t i = 0; i < first.last.size(); ++i) {  // Of each image all methods.
    const v1::TaskSpec& last = first.last[i].task;
    const v1::FitTask& fit = last.fit();
    units.insert(fit.units());
    exact |= fit.perturbation().coalitions().estimator() == v1::ESTIMATOR_EXACT;
    leverage |= fit.perturbation().coalitions().estimator() == v1::ESTIMATOR_LEVERAGE;
    const double tolerance =
        ToleranceOf(methods[static_cast<int>(i % static_cast<size_t>(methods.size()))]);
    bool stopped = fit.units() == 0;
    for (const uint32_t checkpoint : Checkpoints(fit.perturbation())) {
      if (tolerance == 0) break;
      v1::TaskSpec at = last;
      at.mutable_fit()->set_units(checkpoint);
      const double error = *RelativeError(FakePayload(at, {}).fit());
      if (checkpoint == fit.units()) {
        stopped = true;
        EXPECT_LE(error, tolerance) << "stopped before its tolerance";
        break;
      }
      EXPECT_GT(error, tolerance) << "went on where its tolerance was met";
      ++passed;
    }
    EXPECT_TRUE(stopped) << "at " << fit.units() << " units, which is no checkpoint of a tolerance";
  }
  EXPECT_GT(passed, 10u);
  EXPECT_GT(units.size(), 3u);  // Some stop early, at different checkpoints, some never.
  EXPECT_TRUE(units.contains(0));
  EXPECT_TRUE(exact && leverage);  // `auto` chose both.
  for (uint64_t seed = 2; seed < 20; ++seed) {
    const Folded other = Fold(seed, kSampled);
    EXPECT_TRUE(other.done);
    EXPECT_EQ(first.wanted, other.wanted);
    ASSERT_EQ(first.last.size(), other.last.size());
    for (size_t i = 0; i < first.last.size(); ++i) {
      EXPECT_EQ(first.last[i].digest, other.last[i].digest);
    }
  }
}

TEST(StudyRun, Tolerance_SparesTheRunsBeyondItsCheckpoint) {
  const auto wanted_with = [](const char* method) {
    return Fold(1, absl::StrCat("explanation: {images: {per_confusion_cell: {most_confident: 1, "
                                "least_confident: 0, random: 0}}, methods: [{shapley: ",
                                method, "}]}\n"))
        .wanted.size();
  };
  const size_t all = wanted_with("{permutations: 2000}");
  const size_t tolerant = wanted_with("{permutations: 2000, tolerance: 0.9}");
  EXPECT_LT(tolerant, all / 10);
  EXPECT_GT(wanted_with("{permutations: 2000, tolerance: 0.000001}"), all);  // And the fits in between.
}

TEST(StudyRun, OfAProbability_LimeIsFittedToTheMarginToo_FromTheSameRuns) {
  const std::string sampled =
      "explanation:\n"
      "  output: probability\n"
      "  images: {per_confusion_cell: {most_confident: 1, least_confident: 1, random: 2}}\n"
      "  checks: {fidelity: false}\n"
      "  methods: [lime: {samples: 700, tolerance: 0.3}, shapley: {permutations: 3}]\n";
  const Folded folded = Fold(1, sampled);
  EXPECT_TRUE(folded.done);
  size_t margins = 0;
  for (const ExplanationPlanner::MethodTask& last : folded.last) {
    const v1::FitTask& fit = last.task.fit();
    EXPECT_EQ(fit.output(), v1::OUTPUT_KIND_PROBABILITY);
    EXPECT_EQ(last.margin.none(), !fit.perturbation().has_lime());
    if (last.margin.none()) continue;
    v1::TaskSpec margin = last.task;
    margin.mutable_fit()->set_output(v1::OUTPUT_KIND_MARGIN);
    EXPECT_EQ(last.margin, *TaskDigest(margin)) << "of the same masks";
    EXPECT_TRUE(folded.wanted.contains(last.margin));
    ++margins;
  }
  EXPECT_EQ(margins, folded.chosen.size());
  const std::string of_margin = absl::StrReplaceAll(sampled, {{"probability", "margin"}});
  for (const ExplanationPlanner::MethodTask& last : Fold(1, of_margin).last) {
    EXPECT_TRUE(last.margin.none());
  }
  for (uint64_t seed = 2; seed < 8; ++seed) EXPECT_EQ(Fold(seed, sampled).wanted, folded.wanted);
}

TEST(StudyRun, WhereTrainingImagesHide_NoMarginIsFittedBesideTheProbability) {
  const auto fold = [](const char* hidden) {
    return Fold(1, absl::StrCat("explanation:\n"
                                "  output: probability\n"
                                "  images: {per_confusion_cell: {most_confident: 1, least_confident: 1, random: 2}}\n"
                                "  checks: {fidelity: false}\n"
                                "  methods: [lime: {samples: 700, hidden: ",
                                hidden, "}]\n"));
  };
  const Folded background = fold("background"), mean = fold("training_mean");
  EXPECT_TRUE(background.done);
  for (const ExplanationPlanner::MethodTask& last : background.last) {
    EXPECT_TRUE(last.margin.none()) << "a run has mean probabilities, of which none is a mean margin";
  }
  EXPECT_EQ(background.wanted.size() + background.chosen.size(), mean.wanted.size());
}

TEST(StudyRun, TrainingSplitSmallerThanABatch_IsRefusedWithBothNumbers) {
  v1::StudySpec spec = *FakeSpec("a", 3, 0, "");
  spec.mutable_training()->set_batch_size(64);
  const auto run = StudyRun::Make(spec, Sha256Of("set"), FakeManifest(60), kClass);
  EXPECT_EQ(run.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(run.status().ToString().find("batch_size = 64"), std::string::npos) << run.status();
}

TEST(StudyRun, ExplanationThatWouldFillTheMemory_IsRefusedWithItsSize) {
  const auto spec = FakeSpec(
      "a", 1, 0,
      "explanation: {images: {all_test: true}, methods: [{shapley: {permutations: 100000}}]}\n");
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto run = StudyRun::Make(*spec, Sha256Of("images"), FakeManifest(600), "fake/1");
  EXPECT_EQ(run.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(run.status().message().find("at most 500000"), std::string::npos) << run.status();
}

TEST(StudyRun, EvaluationOfAnotherSplit_IsAnError) {
  FakeBlobs blobs;
  const auto manifest = FakeManifest(60);
  auto run = *StudyRun::Make(*FakeSpec("a", 1, 0, ""), Sha256Of("set"), manifest, kClass);
  const SweepPlanner::Training& training = run->sweep().training(0);
  const uint64_t per_epoch = training.planner.steps_per_epoch();
  const auto wants = *run->OnState(training.digest,
                                   FakeState(training.recipe, kClass, per_epoch, per_epoch, blobs));
  ASSERT_FALSE(wants.empty());
  const std::vector<uint32_t> list(60, 59);
  const Split another = {list, list, list};
  const auto result = run->OnResult(wants[0].task, [&]() -> absl::StatusOr<v1::Payload> {
    return FakePayload(wants[0].spec, another);
  });
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace dermis
