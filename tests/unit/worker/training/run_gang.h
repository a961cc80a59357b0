// A small recipe, and gangs whose ranks are threads of this process.
#ifndef DERMIS_TESTS_UNIT_WORKER_TRAINING_RUN_GANG_H_
#define DERMIS_TESTS_UNIT_WORKER_TRAINING_RUN_GANG_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "common/digest.h"
#include "tests/unit/worker/training/memory_collective.h"
#include "worker/training/trainer.h"

namespace dermis {

inline v1::Recipe TestRecipe() {
  v1::Recipe recipe;
  recipe.mutable_images()->set_size(16);
  recipe.set_model(v1::MODEL_KIND_SEED_CNN);
  recipe.set_logical_shards(4);
  recipe.set_batch_size(16);
  v1::RmspropSpec* rmsprop = recipe.mutable_optimizer()->mutable_rmsprop();
  rmsprop->set_learning_rate(1e-3);
  rmsprop->set_alpha(0.9);
  rmsprop->set_epsilon(1e-7);
  rmsprop->set_decay(1e-6);
  rmsprop->set_weight_decay(1e-4);
  recipe.set_augment(true);
  recipe.set_dropout(true);
  recipe.set_precision(v1::PRECISION_FP32);
  recipe.set_seed(5);
  recipe.set_best_metric(v1::SELECTION_METRIC_VALIDATION_LOSS);
  return recipe;
}

inline v1::TrainGoal GoalOf(uint64_t epochs, uint32_t patience = 0) {
  v1::TrainGoal goal;
  goal.set_max_epochs(epochs);
  goal.set_patience(patience);
  return goal;
}

struct Outcome {
  absl::StatusOr<uint64_t> step = absl::UnknownError("not run");
  std::vector<TrainedState> states;
};

// All ranks of a gang as threads of this process; the outcome of rank 0 (the others' errors must be
// alike).
inline Outcome RunGang(const v1::Recipe& recipe, const v1::TrainGoal& goal,
                       std::shared_ptr<const ImageData> data, uint32_t ranks, uint32_t threads,
                       const std::string& start = "", bool yield_at_once = false,
                       absl::Duration segment = absl::InfiniteDuration(),
                       const EngineFactory& engine = {}) {
  MemoryGang gang(recipe.logical_shards(), ranks);
  Outcome outcome;
  std::atomic<bool> yield{yield_at_once};
  std::vector<std::thread> others;
  std::vector<absl::StatusOr<uint64_t>> steps(ranks, absl::UnknownError("not run"));
  for (uint32_t r = 0; r < ranks; ++r) {
    others.emplace_back([&, r] {
      std::unique_ptr<Collective> end = gang.Rank(r);
      std::atomic<uint64_t> progress{0};
      const StateSink sink = [&outcome](TrainedState state) {
        outcome.states.push_back(std::move(state));
        return absl::OkStatus();
      };
      TrainerOptions options;
      options.threads = threads;
      options.segment = segment;
      options.engine = engine;
      steps[r] = Train(recipe, goal, data, *end, start, options, sink, yield, progress);
    });
  }
  for (std::thread& t : others) t.join();
  for (uint32_t r = 1; r < ranks; ++r) EXPECT_EQ(steps[r].ok(), steps[0].ok()) << steps[r].status();
  outcome.step = steps[0];
  return outcome;
}

inline std::string LastHash(const Outcome& outcome) {
  if (!outcome.step.ok() || outcome.states.empty()) return outcome.step.status().ToString();
  return Sha256Of(outcome.states.back().state).hex();
}

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_WORKER_TRAINING_RUN_GANG_H_
