// Planner of the training stage: a fold over a recipe's stored states. Where training stops is a
// pure function of the per-epoch metrics, so any order and repetition of states ends alike, whoever
// wanted them.
#ifndef DERMIS_COORDINATOR_PLANNERS_TRAINING_H_
#define DERMIS_COORDINATOR_PLANNERS_TRAINING_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "dermis/v1/cluster.pb.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

class TrainingPlanner {
 public:
  // `training` resolved; steps_per_epoch > 0.
  TrainingPlanner(const v1::TrainingSpec& training, uint64_t steps_per_epoch);

  // Training that is over before it began: the model was given.
  static TrainingPlanner Given(v1::ModelRef model);

  // A stored state of the study's recipe. Any order, any repetition.
  void OnState(const v1::TrainOutput& output);

  struct Outcome {
    uint64_t step = 0;  // The state that the result is taken from: the stop epoch's last step.
    uint32_t stop_epoch = 0;
    v1::ModelRef model;  // Early stopping: the best epoch's weights; else the last ones.
  };
  const std::optional<Outcome>& outcome() const { return outcome_; }

  // It is to come so far for now (a rung): `reached` and `goal` are about this many epochs. At
  // first all of them.
  void SetLimit(uint32_t epochs) { limit_ = std::min(epochs, max_epochs_); }
  uint32_t limit() const { return limit_; }
  // The metrics of all epochs up to the limit are known, or training stops before it.
  bool reached() const { return stop_epoch_.has_value() || epochs_.size() >= limit_; }
  // The epoch within the limit whose weights count, by early stopping's metric or as the last.
  // Needs reached().
  const v1::EpochMetrics& chosen_epoch() const;
  // The last of the epochs that it is chosen from.
  uint32_t chosen_limit() const { return std::min(limit_, stop_epoch_.value_or(limit_)); }

  // The step whose state ends the stage, once the metrics tell it.
  std::optional<uint64_t> target_step() const;
  // A state at a greater step cannot help.
  uint64_t last_step() const { return uint64_t{limit_} * steps_per_epoch_; }
  // What a gang is told: it ends by itself at the stop epoch, or the limit.
  v1::TrainGoal goal() const;
  // No known state covers more epochs (at most the stop epoch).
  uint32_t epochs_done() const;
  std::optional<uint32_t> stop_epoch() const { return stop_epoch_; }
  uint32_t max_epochs() const { return max_epochs_; }
  uint64_t steps_per_epoch() const { return steps_per_epoch_; }
  std::optional<v1::EpochMetrics> last_epoch() const;
  // The longest history known; the first epochs_done() of them count.
  const std::vector<v1::EpochMetrics>& epochs() const { return epochs_; }

 private:
  const v1::ModelKind kind_;
  const uint64_t steps_per_epoch_;
  const uint32_t max_epochs_;
  uint32_t limit_;
  const bool early_stopping_;
  const uint32_t patience_;
  const v1::SelectionMetric metric_;
  std::vector<v1::EpochMetrics> epochs_;  // The longest history known, at most max_epochs.
  std::optional<uint32_t> stop_epoch_;
  std::optional<Outcome> outcome_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_PLANNERS_TRAINING_H_
