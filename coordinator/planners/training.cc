#include "coordinator/planners/training.h"

#include <algorithm>
#include <utility>

#include "common/metrics.h"

namespace dermis {

TrainingPlanner::TrainingPlanner(const v1::TrainingSpec& training, uint64_t steps_per_epoch)
    : kind_(training.model()),
      steps_per_epoch_(steps_per_epoch),
      max_epochs_(training.epochs()),
      limit_(max_epochs_),
      early_stopping_(training.has_early_stopping()),
      patience_(early_stopping_ ? training.early_stopping().patience() : 0),
      metric_(early_stopping_ ? training.early_stopping().metric()
                              : v1::SELECTION_METRIC_VALIDATION_LOSS) {}

TrainingPlanner TrainingPlanner::Given(v1::ModelRef model) {
  TrainingPlanner planner(v1::TrainingSpec(), 1);
  planner.stop_epoch_ = 0;
  planner.outcome_ = Outcome{0, 0, std::move(model)};
  return planner;
}

void TrainingPlanner::OnState(const v1::TrainOutput& output) {
  const size_t known = std::min<size_t>(output.epochs_size(), max_epochs_);
  if (known > epochs_.size()) {
    epochs_.assign(output.epochs().begin(), output.epochs().begin() + static_cast<int>(known));
    stop_epoch_ = StopEpoch(epochs_, metric_, patience_, max_epochs_);
  }
  // Metrics of a prefix decide a prefix: a state that ends the stage also holds the metrics that
  // say so, so it is recognised whenever it comes.
  if (outcome_ || !stop_epoch_ || output.step() != *target_step()) return;
  const bool best = early_stopping_ && !output.best_model().empty();
  const std::string& weights = best ? output.best_model() : output.last_model();
  if (weights.empty()) return;  // A retired state: its metrics are known, its weights are gone.
  Outcome outcome;
  outcome.step = output.step();
  outcome.stop_epoch = *stop_epoch_;
  outcome.model.set_kind(kind_);
  outcome.model.set_weights(weights);
  outcome_ = outcome;
}

std::optional<uint64_t> TrainingPlanner::target_step() const {
  if (!stop_epoch_) return std::nullopt;
  return uint64_t{*stop_epoch_} * steps_per_epoch_;
}

v1::TrainGoal TrainingPlanner::goal() const {
  v1::TrainGoal goal;
  goal.set_max_epochs(stop_epoch_.value_or(limit_));
  goal.set_patience(patience_);
  // Without early stopping the target is known from the start; with it a gang stores the state
  // where it stops. Named all the same once the metrics (of another study's longer run) tell it.
  if (stop_epoch_) {
    goal.add_exact_steps(*target_step());
  } else if (patience_ == 0 && limit_ == max_epochs_) {
    goal.add_exact_steps(last_step());
  }
  return goal;
}

const v1::EpochMetrics& TrainingPlanner::chosen_epoch() const {
  const size_t last = chosen_limit();
  size_t chosen = last - 1;
  if (early_stopping_) {
    chosen = 0;
    for (size_t e = 1; e < last; ++e) {
      if (Better(metric_, epochs_[e], epochs_[chosen])) chosen = e;
    }
  }
  return epochs_[chosen];
}

uint32_t TrainingPlanner::epochs_done() const {
  const uint32_t known = static_cast<uint32_t>(epochs_.size());
  return stop_epoch_ ? std::min(known, *stop_epoch_) : known;
}

std::optional<v1::EpochMetrics> TrainingPlanner::last_epoch() const {
  const uint32_t done = epochs_done();
  if (done == 0) return std::nullopt;
  return epochs_[done - 1];
}

}  // namespace dermis
