#include "worker/training/trainer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"

#include "common/clock.h"
#include "common/digest.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/shuffle.h"
#include "common/status_macros.h"
#include "common/tasks.h"
#include "worker/models/init.h"
#include "worker/training/host_engine.h"
#include "worker/training/loss.h"
#include "worker/training/optimizer.h"
#include "worker/training/schedule.h"
#include "worker/training/shard_pool.h"
#include "worker/training/training_state.h"

namespace dermis {
namespace {

// A NaN's bits are the processor's business; ours are always the same.
double Canonical(double v) { return std::isnan(v) ? std::numeric_limits<double>::quiet_NaN() : v; }

// Bytes between ranks of one build on one kind of processor: plain little-endian memory.
template <typename T>
void Put(const T* values, size_t n, std::string& out) {
  out.append(reinterpret_cast<const char*>(values), n * sizeof(T));
}

template <typename T>
bool Take(std::string_view& in, T* values, size_t n) {
  if (in.size() < n * sizeof(T)) return false;
  std::memcpy(values, in.data(), n * sizeof(T));
  in.remove_prefix(n * sizeof(T));
  return true;
}

absl::Status CheckRecipe(const v1::Recipe& recipe, const ImageData& data) {
  const uint32_t shards = recipe.logical_shards(), batch = recipe.batch_size();
  if (!std::has_single_bit(shards) || batch == 0 || batch % shards != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("logical_shards must be a power of two that divides batch_size; they are ",
                     shards, " and ", batch));
  }
  if (recipe.optimizer().kind_case() == v1::OptimizerSpec::KIND_NOT_SET) {
    return absl::InvalidArgumentError("the recipe names no optimizer");
  }
  if (recipe.precision() != v1::PRECISION_FP32 && recipe.precision() != v1::PRECISION_BF16) {
    return absl::InvalidArgumentError("the recipe names no precision");
  }
  const std::vector<uint32_t>& training = data.split.training;
  if (training.size() < batch) {
    return absl::InvalidArgumentError(
        absl::StrCat("the training split has ", training.size(), " images, fewer than a batch of ",
                     batch, ": lower training.batch_size or give more images"));
  }
  if (data.split.validation.empty()) {
    return absl::InvalidArgumentError(
        "the validation split is empty: raise images.split.validation");
  }
  std::vector<uint64_t> per_class(data.classes, 0);
  for (uint32_t image : training) {
    if (data.labels[image] >= data.classes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "image ", image, " has label ", data.labels[image], " of ", data.classes, " classes"));
    }
    ++per_class[data.labels[image]];
  }
  if (!recipe.class_weights().empty() &&
      static_cast<uint32_t>(recipe.class_weights_size()) != data.classes) {
    return absl::InvalidArgumentError(
        absl::StrCat("training.class_weights has ", recipe.class_weights_size(),
                     " weights, the image set ", data.classes, " classes"));
  }
  for (uint32_t k = 0; k < data.classes; ++k) {
    if (per_class[k] == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("class ", k, " has no image in the training split"));
    }
  }
  return absl::OkStatus();
}

Loss LossOf(const v1::Recipe& recipe, const ImageData& data) {
  Loss loss;
  loss.smoothing = recipe.label_smoothing();
  loss.class_weights.assign(recipe.class_weights().begin(), recipe.class_weights().end());
  if (recipe.balance_classes()) {
    std::vector<double> per_class(data.classes, 0);
    for (uint32_t image : data.split.training) ++per_class[data.labels[image]];
    const double images = static_cast<double>(data.split.training.size());
    for (double n : per_class) loss.class_weights.push_back(images / (data.classes * n));
  }
  return loss;
}

// One rank's part of a training run. Compute happens on the pool's threads only: they, not the
// caller's, have the floating point mode that the bits depend on.
class Trainer {
 public:
  Trainer(const v1::Recipe& recipe, const v1::TrainGoal& goal, const ImageData& data,
          Collective& collective, const TrainerOptions& options, const StateSink& sink,
          const std::atomic<bool>& yield, std::atomic<uint64_t>& progress)
      : recipe_(recipe),
        goal_(goal),
        data_(data),
        collective_(collective),
        options_(options),
        sink_(sink),
        yield_(yield),
        progress_(progress),
        pool_(options.threads) {}

  absl::StatusOr<uint64_t> Run(const std::string& start_state) {
    RETURN_IF_ERROR(Prepare(start_state));
    RETURN_IF_ERROR(AgreeOnStart(start_state));
    absl::Duration stored = Clock::Real().Now();
    bool done = Done();
    if (done) RETURN_IF_ERROR(Store());
    const uint64_t start = state_.step;
    while (!done) {
      const bool segment_due =
          collective_.rank() == 0 && Clock::Real().Now() - stored >= options_.segment;
      Decision decision = {.yield = yield_.load(), .store = segment_due};
      RETURN_IF_ERROR(Step(decision));
      // tools/bench/run reads from it when a gang goes on after a loss.
      if (state_.step == start + 1) {
        DERMIS_LOG(kDebug, "rank ", collective_.rank(), " took its first step, ", state_.step);
      }
      if (state_.step % steps_per_epoch_ == 0) RETURN_IF_ERROR(EndEpoch());
      ++progress_;
      done = decision.yield || Done();
      const auto& exact = goal_.exact_steps();
      if (done || decision.store ||
          std::find(exact.begin(), exact.end(), state_.step) != exact.end()) {
        RETURN_IF_ERROR(Store());
        stored = Clock::Real().Now();
      }
    }
    return state_.step;
  }

 private:
  // What ranks agree on at the end of a step: it travels with the step's statistics.
  struct Decision {
    bool yield = false;  // Any rank may ask.
    bool store = false;  // Rank 0's clock.
  };

  absl::Status Prepare(const std::string& start_state);
  absl::Status AgreeOnStart(const std::string& start_state);
  bool Done() const {
    return StopEpoch(state_.epochs, recipe_.best_metric(), goal_.patience(),
                     static_cast<uint32_t>(std::min<uint64_t>(goal_.max_epochs(), UINT32_MAX)))
        .has_value();
  }
  absl::Status Step(Decision& decision);
  void LogIfSlow() const;
  absl::StatusOr<Decision> ExchangeOutcomes(Decision mine);
  void UpdateRunningStatistics();
  void UpdateAverageStatistics();
  absl::Status EndEpoch();
  absl::StatusOr<PassResult> Validate();
  absl::Status Store();

  // Of training images [first, first + count) of the epoch's order, in the loss.
  double WeightOf(uint64_t first, uint64_t count) const;

  uint32_t epoch() const { return static_cast<uint32_t>(state_.step / steps_per_epoch_) + 1; }

  const v1::Recipe& recipe_;
  const v1::TrainGoal& goal_;
  const ImageData& data_;
  Collective& collective_;
  const TrainerOptions& options_;
  const StateSink& sink_;
  const std::atomic<bool>& yield_;
  std::atomic<uint64_t>& progress_;
  ShardPool pool_;

  std::string recipe_digest_;
  uint64_t steps_per_epoch_ = 0;
  Loss loss_;
  TrainingState state_;
  std::unique_ptr<StepEngine> engine_;

  std::vector<ShardOutcome> outcomes_;  // Per shard of this rank.
  // Per shard of the gang.
  std::vector<std::vector<double>> statistics_;
  std::vector<PassResult> all_results_;

  uint32_t order_epoch_ = 0;
  std::vector<uint32_t> order_;  // The epoch's training images as they are visited.
  double learning_rate_ = 0;     // Of the last step.
};

absl::Status Trainer::Prepare(const std::string& start_state) {
  RETURN_IF_ERROR(CheckRecipe(recipe_, data_));
  if (collective_.logical_shards() != recipe_.logical_shards()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the gang was formed for ", collective_.logical_shards(),
                     " logical shards, the recipe has ", recipe_.logical_shards()));
  }
  ASSIGN_OR_RETURN(const Digest digest, MessageDigest(recipe_));
  recipe_digest_ = digest.hex();
  steps_per_epoch_ = StepsPerEpoch(data_.split.training.size(), recipe_.batch_size());

  Model& model = state_.model;
  ASSIGN_OR_RETURN(model.layout,
                   LayoutOf(recipe_.model(), data_.size, data_.classes, recipe_.stem()));
  model.pixel_mean = data_.mean;
  model.pixel_deviation = data_.deviation;
  RETURN_IF_ERROR(FreezeBefore(recipe_.frozen_before(), model.layout));
  loss_ = LossOf(recipe_, data_);
  state_.slot_names = OptimizerSlots(recipe_.optimizer());
  state_.averaged = recipe_.ema_decay() > 0;
  if (start_state.empty()) {
    InitializeModel(recipe_.seed(), model);
    if (!recipe_.init().empty()) {
      ASSIGN_OR_RETURN(const std::string note, LoadWeights(options_.init, model));
      if (!note.empty() && collective_.rank() == 0) {
        DERMIS_LOG(kInfo, "recipe ", recipe_digest_.substr(0, 12), ": ", note);
      }
    }
    state_.slots.assign(state_.slot_names.size(),
                        std::vector<float>(model.layout.parameter_count, 0.0f));
    if (state_.averaged) {
      state_.average_parameters = model.parameters;
      state_.average_statistics = model.statistics;
    }
  } else {
    const TrainingState like = std::move(state_);
    ASSIGN_OR_RETURN(state_, ParseTrainingState(start_state, recipe_digest_, like));
    if (state_.epochs.size() != state_.step / steps_per_epoch_) {
      return absl::InvalidArgumentError(absl::StrCat("training state of step ", state_.step,
                                                     " holds ", state_.epochs.size(), " epochs of ",
                                                     steps_per_epoch_, " steps"));
    }
  }
  outcomes_.resize(collective_.shard_count());
  statistics_.assign(recipe_.logical_shards(),
                     std::vector<double>(state_.model.layout.statistic_count));
  all_results_.resize(recipe_.logical_shards());
  LogIfSlow();
  const EngineSetting setting = {recipe_,           data_, collective_, pool_, options_.threads,
                                 loss_, progress_};
  ASSIGN_OR_RETURN(engine_, options_.engine ? options_.engine(setting) : MakeHostEngine(setting));
  return engine_->Load(state_);
}

// Where the images do not fit into memory and are visited all over it.
void Trainer::LogIfSlow() const {
  const uint32_t fits = std::max(data_.FittingWindow(), recipe_.batch_size());
  const uint32_t window = recipe_.shuffle_window();
  if (data_.chunks == nullptr || (window > 0 && window <= fits)) return;
  DERMIS_LOG(kWarning, "recipe ", recipe_digest_.substr(0, 12), ": its ", data_.labels.size(),
             " images do not fit into this worker's --image-memory (", data_.chunks->limit(),
             " bytes), so most steps wait for the disk. With 'training.shuffle_window: ", fits,
             "' or less ", window > 0 ? absl::StrCat("(it is ", window, ") ") : "",
             "they would not");
}

absl::Status Trainer::AgreeOnStart(const std::string& start_state) {
  ASSIGN_OR_RETURN(const Digest goal, MessageDigest(goal_));
  const std::string mine = absl::StrCat(recipe_digest_, goal.hex(), Sha256Of(start_state).hex());
  ASSIGN_OR_RETURN(const std::vector<std::string> all, collective_.AllGather(mine));
  for (size_t r = 0; r < all.size(); ++r) {
    if (all[r] != all[0]) {
      return absl::FailedPreconditionError(
          absl::StrCat("rank ", r, " was given another recipe, goal or start state than rank 0"));
    }
  }
  return absl::OkStatus();
}

absl::Status Trainer::Step(Decision& decision) {
  if (order_epoch_ != epoch()) {
    order_epoch_ = epoch();
    order_ = EpochOrder(recipe_.seed(), order_epoch_, data_.split.training, data_.chunk_begin,
                        recipe_.shuffle_window());
  }
  data_.Expect(
      absl::MakeConstSpan(order_).subspan(state_.step % steps_per_epoch_ * recipe_.batch_size()));
  const uint64_t batch = state_.step % steps_per_epoch_ * recipe_.batch_size();
  const uint32_t shard_batch = recipe_.batch_size() / recipe_.logical_shards();
  learning_rate_ = BaseLearningRate(recipe_.optimizer(), state_.step, epoch()) *
                   ScheduleFactor(recipe_.schedule(), state_.step, steps_per_epoch_);
  StepInputs inputs;
  inputs.step = state_.step;
  inputs.epoch = epoch();
  inputs.images = absl::MakeConstSpan(order_).subspan(
      batch + uint64_t{collective_.first_shard()} * shard_batch,
      uint64_t{collective_.shard_count()} * shard_batch);
  // The mean over the whole batch, whichever rank has it.
  inputs.loss_scale = loss_.class_weights.empty()
                          ? 1.0f / static_cast<float>(recipe_.batch_size())
                          : static_cast<float>(1 / WeightOf(batch, recipe_.batch_size()));
  inputs.learning_rate = learning_rate_;
  RETURN_IF_ERROR(engine_->Run(inputs, outcomes_));
  ASSIGN_OR_RETURN(decision, ExchangeOutcomes(decision));
  RETURN_IF_ERROR(pool_.Run(1, [this](uint32_t) {
    UpdateRunningStatistics();
    if (state_.averaged) UpdateAverageStatistics();
  }));
  for (const PassResult& result : all_results_) {
    state_.epoch_loss += result.loss;
    state_.epoch_correct += result.correct;
  }
  ++state_.step;
  if (options_.step != nullptr) *options_.step = state_.step;
  return absl::OkStatus();
}

double Trainer::WeightOf(uint64_t first, uint64_t count) const {
  if (loss_.class_weights.empty()) return static_cast<double>(count);
  double sum = 0;
  for (uint64_t i = first; i < first + count; ++i) {
    sum += loss_.weight(data_.labels[order_[i]]);
  }
  return sum;
}

// The one small exchange of a step: every shard's loss, hits and batch statistics, and what is to
// happen next.
absl::StatusOr<Trainer::Decision> Trainer::ExchangeOutcomes(Decision mine) {
  std::string message;
  Put(&mine, 1, message);
  for (const ShardOutcome& outcome : outcomes_) {
    Put(&outcome.result, 1, message);
    Put(outcome.statistics.data(), outcome.statistics.size(), message);
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> all, collective_.AllGather(std::move(message)));
  Decision agreed;
  uint32_t shard = 0;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    std::string_view in = all[rank];
    Decision theirs;
    bool whole = Take(in, &theirs, 1);
    while (whole && !in.empty() && shard < statistics_.size()) {
      whole = Take(in, &all_results_[shard], 1) &&
              Take(in, statistics_[shard].data(), statistics_[shard].size());
      ++shard;
    }
    if (!whole || !in.empty()) {
      return absl::InternalError(
          absl::StrCat("rank ", rank, " sent malformed statistics at step ", state_.step));
    }
    agreed.yield |= theirs.yield;
    if (rank == 0) agreed.store = theirs.store;
  }
  if (shard != statistics_.size()) {
    return absl::InternalError(
        absl::StrCat("statistics of ", shard, " shards, expected ", statistics_.size()));
  }
  return agreed;
}

// Mean of the shards' means; mean of their variances plus variance of their means (the variance of
// the whole batch).
void Trainer::UpdateRunningStatistics() {
  Model& model = state_.model;
  const double shards = recipe_.logical_shards();
  const double momentum = model.layout.batch_norm_momentum;
  auto blend = [momentum](float& running, double now) {
    running = static_cast<float>((1 - momentum) * static_cast<double>(running) + momentum * now);
  };
  for (size_t k = 0; k + 1 < model.layout.statistics.size(); k += 2) {
    const uint64_t means = model.layout.statistics[k].offset,
                   variances = model.layout.statistics[k + 1].offset;
    for (uint64_t c = 0; c < model.layout.statistics[k].count; ++c) {
      double mean = 0, variance = 0, spread = 0;
      for (const std::vector<double>& s : statistics_) {
        mean += s[means + c];
        variance += s[variances + c];
      }
      mean /= shards;
      for (const std::vector<double>& s : statistics_)
        spread += (s[means + c] - mean) * (s[means + c] - mean);
      blend(model.statistics[means + c], mean);
      blend(model.statistics[variances + c], variance / shards + spread / shards);
    }
  }
}

// Of the weights' moving average, which is the engine's.
void Trainer::UpdateAverageStatistics() {
  const Model& model = state_.model;
  if (state_.step == 0) {
    state_.average_statistics = model.statistics;
    return;
  }
  Blend(recipe_.ema_decay(), model.statistics.data(), model.statistics.size(),
        state_.average_statistics.data());
}

absl::Status Trainer::EndEpoch() {
  ASSIGN_OR_RETURN(const PassResult validation, Validate());
  const uint64_t trained = steps_per_epoch_ * recipe_.batch_size();
  const double images = static_cast<double>(trained);
  const double validated = static_cast<double>(data_.split.validation.size());
  v1::EpochMetrics metrics;
  metrics.set_epoch(static_cast<uint32_t>(state_.epochs.size() + 1));
  metrics.set_training_loss(Canonical(state_.epoch_loss / WeightOf(0, trained)));
  metrics.set_training_accuracy(static_cast<double>(state_.epoch_correct) / images);
  metrics.set_validation_loss(Canonical(validation.loss / validated));
  metrics.set_validation_accuracy(validation.correct / validated);
  metrics.set_learning_rate(learning_rate_);
  if (state_.best_epoch == 0 ||
      Better(recipe_.best_metric(), metrics, state_.epochs[state_.best_epoch - 1])) {
    state_.best_epoch = metrics.epoch();
    RETURN_IF_ERROR(engine_->Save());
    Model best = CurrentModel(state_);
    state_.best_parameters = std::move(best.parameters);
    state_.best_statistics = std::move(best.statistics);
  }
  state_.epochs.push_back(std::move(metrics));
  state_.epoch_loss = 0;
  state_.epoch_correct = 0;
  return absl::OkStatus();
}

absl::StatusOr<PassResult> Trainer::Validate() {
  const std::vector<uint32_t>& images = data_.split.validation;
  const uint32_t batches =
      static_cast<uint32_t>((images.size() + kValidationBatch - 1) / kValidationBatch);
  // Consecutive batches: a rank needs only its part of the image set's chunks.
  const uint64_t rank = collective_.rank(), ranks = collective_.world_size();
  const uint32_t first_batch = static_cast<uint32_t>(rank * batches / ranks);
  const uint32_t count = static_cast<uint32_t>((rank + 1) * batches / ranks) - first_batch;
  ASSIGN_OR_RETURN(const std::vector<PassResult> results, engine_->Validate(first_batch, count));
  std::string message;
  Put(results.data(), results.size(), message);
  ASSIGN_OR_RETURN(const std::vector<std::string> all, collective_.AllGather(std::move(message)));
  // Ranks in turn are batches in their order.
  const std::string joined = absl::StrJoin(all, "");
  std::string_view in = joined;
  PassResult sum;
  for (uint32_t b = 0; b < batches; ++b) {
    PassResult batch;
    if (!Take(in, &batch, 1)) {
      return absl::InternalError(
          absl::StrCat("the ranks sent ", b, " validation results, not ", batches));
    }
    sum.loss += batch.loss;
    sum.correct += batch.correct;
  }
  return sum;
}

absl::Status Trainer::Store() {
  if (collective_.rank() != 0) return absl::OkStatus();
  RETURN_IF_ERROR(engine_->Save());
  TrainedState out;
  out.state = SerializeTrainingState(state_, recipe_digest_);
  out.best_model = BestModel(state_);
  out.last_model = LastModel(state_);
  v1::TrainOutput& output = out.output;
  output.set_step(state_.step);
  output.set_steps_per_epoch(steps_per_epoch_);
  output.set_state(Sha256Of(out.state).bytes());
  if (!out.best_model.empty()) output.set_best_model(Sha256Of(out.best_model).bytes());
  output.set_last_model(Sha256Of(out.last_model).bytes());
  output.set_best_epoch(state_.best_epoch);
  output.mutable_epochs()->Assign(state_.epochs.begin(), state_.epochs.end());
  return sink_(std::move(out));
}

}  // namespace

absl::StatusOr<uint64_t> Train(const v1::Recipe& recipe, const v1::TrainGoal& goal,
                               std::shared_ptr<const ImageData> data, Collective& collective,
                               const std::string& start_state, const TrainerOptions& options,
                               const StateSink& sink, const std::atomic<bool>& yield,
                               std::atomic<uint64_t>& progress) {
  Trainer trainer(recipe, goal, *data, collective, options, sink, yield, progress);
  absl::StatusOr<uint64_t> step = trainer.Run(start_state);
  // The other ranks wait for this one: they must hear of it.
  if (!step.ok()) collective.Abort(step.status());
  return step;
}

}  // namespace dermis
