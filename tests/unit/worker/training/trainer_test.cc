#include "worker/training/trainer.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/digest.h"
#include "common/metrics.h"
#include "common/safetensors.h"
#include "common/tasks.h"
#include "tests/unit/worker/training/run_gang.h"
#include "tests/unit/worker/training/toy_data.h"
#include "worker/models/model.h"
#include "worker/training/training_state.h"

namespace dermis {
namespace {

TEST(TrainerTest, FinalState_IsBitwiseEqual_ForAnyWorldSizeAndThreads) {
  const auto data = ToyData(40, 12);
  const Outcome alone = RunGang(TestRecipe(), GoalOf(2), data, 1, 1);
  ASSERT_TRUE(alone.step.ok()) << alone.step.status();
  EXPECT_EQ(*alone.step, 4u);
  for (uint32_t ranks = 1; ranks <= 4; ++ranks) {
    for (uint32_t threads = 1; threads <= 2; ++threads) {
      EXPECT_EQ(LastHash(RunGang(TestRecipe(), GoalOf(2), data, ranks, threads)), LastHash(alone))
          << ranks << " ranks, " << threads << " threads";
    }
  }
}

// Every part of a recipe that has state of its own, or looks at the whole batch.
TEST(TrainerTest, FinalState_IsBitwiseEqual_ForEveryOptimiserAndLoss) {
  const auto data = ToyData(40, 12);
  std::vector<v1::Recipe> recipes(3, TestRecipe());
  recipes[0].mutable_optimizer()->mutable_sgd()->set_learning_rate(0.01);
  recipes[0].mutable_optimizer()->mutable_sgd()->set_momentum(0.9);
  recipes[0].mutable_optimizer()->mutable_sgd()->set_nesterov(true);
  recipes[0].set_clip_norm(0.1);
  recipes[0].mutable_schedule()->set_warmup_epochs(1);
  recipes[0].mutable_schedule()->mutable_cosine()->set_epochs(2);
  v1::AdamwSpec& adamw = *recipes[1].mutable_optimizer()->mutable_adamw();
  adamw.set_learning_rate(1e-3);
  adamw.set_beta1(0.9);
  adamw.set_beta2(0.999);
  adamw.set_epsilon(1e-8);
  recipes[1].set_ema_decay(0.7);
  recipes[1].set_balance_classes(true);
  recipes[2].set_label_smoothing(0.1);
  recipes[2].add_class_weights(0.5);
  recipes[2].add_class_weights(2);
  std::vector<std::string> hashes;
  for (const v1::Recipe& recipe : recipes) {
    const Outcome alone = RunGang(recipe, GoalOf(2), data, 1, 1);
    ASSERT_TRUE(alone.step.ok()) << alone.step.status();
    EXPECT_EQ(LastHash(RunGang(recipe, GoalOf(2), data, 4, 1)), LastHash(alone));
    std::string state;
    for (uint64_t step = 1; step <= *alone.step; ++step) {
      const Outcome one = RunGang(recipe, GoalOf(2), data, 1 + step % 2, 1, state, true);
      ASSERT_TRUE(one.step.ok()) << one.step.status();
      state = one.states[0].state;
    }
    EXPECT_EQ(Sha256Of(state).hex(), LastHash(alone));
    // What is validated is what is stored as the model.
    EXPECT_EQ(alone.states.back().output.epochs_size(), 2);
    hashes.push_back(LastHash(alone));
  }
  EXPECT_NE(hashes[0], hashes[1]);
  EXPECT_NE(hashes[1], hashes[2]);
}

TEST(TrainerTest, MovingAverage_IsWhatIsStoredAsTheModel) {
  const auto data = ToyData(40, 12);
  v1::Recipe recipe = TestRecipe();
  const Outcome plain = RunGang(recipe, GoalOf(2), data, 1, 1);
  recipe.set_ema_decay(0.9);
  const Outcome averaged = RunGang(recipe, GoalOf(2), data, 1, 1);
  ASSERT_TRUE(plain.step.ok() && averaged.step.ok());
  // Training itself goes the same way: only what is looked at differs.
  EXPECT_EQ(plain.states.back().output.epochs(1).training_loss(),
            averaged.states.back().output.epochs(1).training_loss());
  EXPECT_NE(plain.states.back().last_model, averaged.states.back().last_model);
  const absl::StatusOr<Model> now = ParseModel(plain.states.back().last_model);
  const absl::StatusOr<Model> average = ParseModel(averaged.states.back().last_model);
  ASSERT_TRUE(now.ok() && average.ok());
  // It lags behind: nearer to where training began.
  Model start = *now;
  InitializeModel(recipe.seed(), start);
  double moved = 0, lagged = 0;
  for (size_t i = 0; i < start.parameters.size(); ++i) {
    moved += std::pow(now->parameters[i] - start.parameters[i], 2);
    lagged += std::pow(average->parameters[i] - start.parameters[i], 2);
  }
  EXPECT_LT(lagged, moved);
  EXPECT_GT(lagged, 0);
}

TEST(TrainerTest, ResNet_BeginsWithGivenWeights_KeepsWhatIsFrozen_AndGivesTheSameBits) {
  const auto data = ToyData(40, 12);
  v1::Recipe recipe = TestRecipe();
  recipe.set_model(v1::MODEL_KIND_RESNET18);
  recipe.set_stem(v1::STEM_SMALL);
  recipe.set_dropout(false);
  Model given;
  given.layout = *LayoutOf(v1::MODEL_KIND_RESNET18, 16, 5, v1::STEM_SMALL);  // Of 5 classes.
  InitializeModel(77, given);
  TrainerOptions options;
  options.init = SerializeModel(given);
  recipe.set_init(Sha256Of(options.init).bytes());
  recipe.set_frozen_before("layer4");
  std::vector<std::string> hashes;
  for (uint32_t ranks : {1, 2}) {
    MemoryGang gang(recipe.logical_shards(), ranks);
    std::vector<std::thread> others;
    std::vector<TrainedState> states;
    for (uint32_t r = 0; r < ranks; ++r) {
      others.emplace_back([&, r] {
        std::unique_ptr<Collective> end = gang.Rank(r);
        std::atomic<uint64_t> progress{0};
        const std::atomic<bool> yield{false};
        const auto step = Train(
            recipe, GoalOf(1), data, *end, "", options,
            [&](TrainedState state) {
              states.push_back(std::move(state));
              return absl::OkStatus();
            },
            yield, progress);
        EXPECT_TRUE(step.ok()) << step.status();
      });
    }
    for (std::thread& t : others) t.join();
    ASSERT_EQ(states.size(), 1u);
    hashes.push_back(Sha256Of(states[0].state).hex());
    const absl::StatusOr<Model> trained = ParseModel(states[0].last_model);
    ASSERT_TRUE(trained.ok()) << trained.status();
    auto same = [&](const std::string& name) {
      return std::equal(given.at(name), given.at(name) + 64, trained->at(name));
    };
    EXPECT_TRUE(same("conv1.weight"));
    EXPECT_TRUE(same("layer3.1.conv2.weight"));
    EXPECT_TRUE(same("bn1.running_var"));
    EXPECT_FALSE(same("layer4.0.conv1.weight"));
    EXPECT_FALSE(same("layer4.0.bn1.running_var"));
  }
  EXPECT_EQ(hashes[0], hashes[1]);
  // Without them nothing is trained.
  options.init = "not weights";
  std::atomic<uint64_t> progress{0};
  const std::atomic<bool> yield{false};
  auto alone = MakeLocalCollective(recipe.logical_shards());
  EXPECT_EQ(Train(
                recipe, GoalOf(1), data, *alone, "", options,
                [](TrainedState) { return absl::OkStatus(); }, yield, progress)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(TrainerTest, FinalState_IsBitwiseEqual_ForAnyCuttingIntoSegments) {
  const auto data = ToyData(40, 12);
  const Outcome whole = RunGang(TestRecipe(), GoalOf(3), data, 2, 1);
  ASSERT_TRUE(whole.step.ok()) << whole.step.status();
  // Reloaded after every single step, with another number of ranks each time.
  std::string state;
  std::vector<std::string> cut;
  for (uint64_t step = 1; step <= *whole.step; ++step) {
    Outcome one =
        RunGang(TestRecipe(), GoalOf(3), data, 1 + step % 4, 1, state, /*yield_at_once=*/true);
    ASSERT_TRUE(one.step.ok()) << one.step.status();
    ASSERT_EQ(*one.step, step);
    ASSERT_EQ(one.states.size(), 1u);
    EXPECT_EQ(one.states[0].output.step(), step);
    state = one.states[0].state;
    cut.push_back(state);
  }
  EXPECT_EQ(Sha256Of(state).hex(), LastHash(whole));
  // Warm segments: a state after every step, without reloading.
  const Outcome warm =
      RunGang(TestRecipe(), GoalOf(3), data, 2, 1, "", false, absl::ZeroDuration());
  ASSERT_EQ(warm.states.size(), cut.size());
  for (size_t i = 0; i < cut.size(); ++i)
    EXPECT_EQ(Sha256Of(warm.states[i].state), Sha256Of(cut[i])) << i;
}

TEST(TrainerTest, Bf16_IsBitwiseEqual_ForAnyWorldSize) {
  const auto data = ToyData(20, 4);
  v1::Recipe recipe = TestRecipe();
  recipe.set_precision(v1::PRECISION_BF16);
  const Outcome alone = RunGang(recipe, GoalOf(1), data, 1, 1);
  ASSERT_TRUE(alone.step.ok()) << alone.step.status();
  EXPECT_EQ(LastHash(RunGang(recipe, GoalOf(1), data, 3, 2)), LastHash(alone));
  EXPECT_NE(LastHash(RunGang(TestRecipe(), GoalOf(1), data, 1, 1)), LastHash(alone));
}

TEST(TrainerTest, Seed_DecidesTheResult) {
  const auto data = ToyData(20, 4);
  v1::Recipe other = TestRecipe();
  other.set_seed(6);
  EXPECT_NE(LastHash(RunGang(TestRecipe(), GoalOf(1), data, 1, 1)),
            LastHash(RunGang(other, GoalOf(1), data, 1, 1)));
}

TEST(TrainerTest, AugmentationOfTheRecipe_DecidesTheResult_ForAnyWorldSize) {
  const auto data = ToyData(20, 4);
  v1::Recipe jittered = TestRecipe();
  jittered.mutable_augmentation()->set_hue(0.2);
  jittered.mutable_augmentation()->mutable_crop();
  const Outcome alone = RunGang(jittered, GoalOf(1), data, 1, 1);
  ASSERT_TRUE(alone.step.ok()) << alone.step.status();
  EXPECT_NE(LastHash(RunGang(TestRecipe(), GoalOf(1), data, 1, 1)), LastHash(alone));
  EXPECT_EQ(LastHash(RunGang(jittered, GoalOf(1), data, 3, 2)), LastHash(alone));
}

TEST(TrainerTest, ToySet_IsLearned) {
  const auto data = ToyData(64, 16);
  v1::Recipe recipe = TestRecipe();
  recipe.set_augment(false);  // A flip would exchange the classes.
  const Outcome outcome = RunGang(recipe, GoalOf(12), data, 1, 2);
  ASSERT_TRUE(outcome.step.ok()) << outcome.step.status();
  const v1::TrainOutput& output = outcome.states.back().output;
  ASSERT_EQ(output.epochs_size(), 12);
  EXPECT_LT(output.epochs(11).training_loss(), 0.5 * output.epochs(0).training_loss());
  const v1::EpochMetrics& best = output.epochs(output.best_epoch() - 1);
  EXPECT_GE(best.validation_accuracy(), 0.9);
  for (const v1::EpochMetrics& e : output.epochs())
    EXPECT_LE(best.validation_loss(), e.validation_loss());
}

TEST(TrainerTest, Output_NamesItsBlobsAndSteps) {
  const auto data = ToyData(40, 12);
  const Outcome outcome = RunGang(TestRecipe(), GoalOf(2), data, 2, 1);
  ASSERT_EQ(outcome.states.size(), 1u);
  const TrainedState& last = outcome.states[0];
  EXPECT_EQ(last.output.step(), 4u);
  EXPECT_EQ(last.output.steps_per_epoch(), 2u);  // 40 / 16: the remainder is left out.
  EXPECT_EQ(last.output.state(), Sha256Of(last.state).bytes());
  EXPECT_EQ(last.output.best_model(), Sha256Of(last.best_model).bytes());
  EXPECT_EQ(last.output.last_model(), Sha256Of(last.last_model).bytes());
  const auto model = ParseModel(last.last_model);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->pixel_mean, data->mean);
  EXPECT_EQ(model->pixel_deviation, data->deviation);
  EXPECT_EQ(last.output.best_epoch() == 2, last.best_model == last.last_model);
}

TEST(TrainerTest, ExactSteps_AreStored) {
  v1::TrainGoal goal = GoalOf(2);
  goal.add_exact_steps(1);
  goal.add_exact_steps(3);
  const Outcome outcome = RunGang(TestRecipe(), goal, ToyData(40, 12), 2, 1);
  std::vector<uint64_t> steps;
  for (const TrainedState& s : outcome.states) steps.push_back(s.output.step());
  EXPECT_THAT(steps, testing::ElementsAre(1, 3, 4));
}

TEST(TrainerTest, EarlyStop_EndsAtTheEpochThatStopEpochNames) {
  v1::Recipe recipe = TestRecipe();
  // So large that training diverges: no epoch is better than an early one, and losses may be NaN.
  recipe.mutable_optimizer()->mutable_rmsprop()->set_learning_rate(1e12);
  const Outcome outcome = RunGang(recipe, GoalOf(30, 2), ToyData(40, 12), 2, 1);
  ASSERT_TRUE(outcome.step.ok()) << outcome.step.status();
  const v1::TrainOutput& output = outcome.states.back().output;
  const std::vector<v1::EpochMetrics> epochs(output.epochs().begin(), output.epochs().end());
  EXPECT_LT(output.epochs_size(), 30);
  EXPECT_EQ(StopEpoch(epochs, v1::SELECTION_METRIC_VALIDATION_LOSS, 2, 30), epochs.size());
  EXPECT_EQ(*outcome.step, epochs.size() * output.steps_per_epoch());
}

TEST(TrainerTest, NanState_GoesOnWithTheSameBits) {
  v1::Recipe recipe = TestRecipe();
  recipe.mutable_optimizer()->mutable_rmsprop()->set_learning_rate(1e38);
  const auto data = ToyData(20, 4);
  const Outcome whole = RunGang(recipe, GoalOf(4), data, 1, 1);
  ASSERT_TRUE(whole.step.ok()) << whole.step.status();
  ASSERT_TRUE(std::isnan(whole.states.back().output.epochs(3).training_loss()));
  const Outcome half = RunGang(recipe, GoalOf(2), data, 2, 1);
  EXPECT_EQ(LastHash(RunGang(recipe, GoalOf(4), data, 3, 1, half.states.back().state)),
            LastHash(whole));
}

TEST(TrainerTest, ReachedGoal_GivesTheSameStateAgain) {
  const auto data = ToyData(20, 4);
  const Outcome first = RunGang(TestRecipe(), GoalOf(2), data, 1, 1);
  const Outcome again = RunGang(TestRecipe(), GoalOf(2), data, 2, 1, first.states.back().state);
  EXPECT_EQ(LastHash(again), LastHash(first));
}

TEST(TrainerTest, LearningRate_DropsAtItsEpoch) {
  v1::Recipe recipe = TestRecipe();
  v1::RateDrop* drop = recipe.mutable_optimizer()->mutable_rmsprop()->add_drops();
  drop->set_epoch(2);
  drop->set_learning_rate(5e-4);
  const Outcome outcome = RunGang(recipe, GoalOf(2), ToyData(20, 4), 1, 1);
  ASSERT_TRUE(outcome.step.ok());
  EXPECT_DOUBLE_EQ(outcome.states.back().output.epochs(0).learning_rate(), 1e-3);
  EXPECT_DOUBLE_EQ(outcome.states.back().output.epochs(1).learning_rate(), 5e-4 / (1 + 1e-6));
}

TEST(TrainerTest, State_IsReadByPythonAlone) {
  if (std::system("python3 -c ''") != 0) GTEST_SKIP() << "no python3";
  const Outcome outcome = RunGang(TestRecipe(), GoalOf(2), ToyData(20, 4), 1, 1);
  ASSERT_TRUE(outcome.step.ok()) << outcome.step.status();
  const std::string path = absl::StrCat(testing::TempDir(), "dermis_trainer_test_state-", getpid(), ".safetensors");
  std::ofstream(path, std::ios::binary) << outcome.states[0].state;
  const char* root = std::getenv("DERMIS_SOURCE_DIR");
  const std::string command = absl::StrCat("python3 ", root == nullptr ? "." : root,
                                           "/tests/unit/worker/training/read_state.py ", path);
  FILE* pipe = popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  unsigned long step = 0, count = 0;
  double bias = 0, loss = 0;
  const int read = std::fscanf(pipe, "%lu %lu %lf %lf", &step, &count, &bias, &loss);
  EXPECT_EQ(pclose(pipe), 0);
  std::remove(path.c_str());
  ASSERT_EQ(read, 4);
  const auto model = ParseModel(outcome.states[0].last_model);
  EXPECT_EQ(step, 2u);
  EXPECT_EQ(count, model->layout.parameter_count + model->layout.statistic_count);
  EXPECT_DOUBLE_EQ(bias,
                   static_cast<double>(model->at("dense.bias")[0]) + model->at("dense.bias")[1]);
  EXPECT_EQ(loss, outcome.states[0].output.epochs(1).validation_loss());
}

TEST(TrainerTest, ImpossibleRecipes_AreNamed) {
  auto message = [](const v1::Recipe& recipe, std::shared_ptr<const ImageData> data,
                    const std::string& start = "") {
    const Outcome outcome = RunGang(recipe, GoalOf(1), data, 1, 1, start);
    EXPECT_EQ(outcome.step.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(outcome.step.status().message());
  };
  EXPECT_THAT(message(TestRecipe(), ToyData(12, 4)), testing::HasSubstr("fewer than a batch"));
  auto one_class = ToyData(20, 4);
  one_class->labels.assign(one_class->labels.size(), 0);
  EXPECT_THAT(message(TestRecipe(), one_class), testing::HasSubstr("class 1 has no image"));
  v1::Recipe recipe = TestRecipe();
  recipe.set_batch_size(18);
  EXPECT_THAT(message(recipe, ToyData(20, 4)), testing::HasSubstr("power of two"));
  EXPECT_THAT(message(TestRecipe(), ToyData(20, 4, 20)), testing::HasSubstr("multiple of 8"));
  const Outcome other = RunGang(TestRecipe(), GoalOf(1), ToyData(20, 4), 1, 1);
  recipe = TestRecipe();
  recipe.set_seed(99);
  EXPECT_THAT(message(recipe, ToyData(20, 4), other.states[0].state),
              testing::HasSubstr("another recipe"));
}

TEST(TrainerTest, SinkError_EndsTrainingOnAllRanks) {
  MemoryGang gang(4, 2);
  const auto data = ToyData(20, 4);
  std::vector<absl::Status> statuses(2);
  std::vector<std::thread> ranks;
  for (uint32_t r = 0; r < 2; ++r) {
    ranks.emplace_back([&, r] {
      std::unique_ptr<Collective> end = gang.Rank(r);
      std::atomic<bool> yield{false};
      std::atomic<uint64_t> progress{0};
      TrainerOptions options;
      options.segment = absl::ZeroDuration();
      statuses[r] = Train(
                        TestRecipe(), GoalOf(5), data, *end, "", options,
                        [](TrainedState) { return absl::ResourceExhaustedError("disk full"); },
                        yield, progress)
                        .status();
    });
  }
  for (std::thread& t : ranks) t.join();
  EXPECT_EQ(statuses[0].code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(statuses[1].message()), testing::HasSubstr("disk full"));
}

}  // namespace
}  // namespace dermis
