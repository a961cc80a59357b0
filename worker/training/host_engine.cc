#include "worker/training/host_engine.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "common/status_macros.h"
#include "worker/training/augmentation.h"
#include "worker/training/optimizer.h"
#include "worker/training/pass.h"

namespace dermis {
namespace {

class HostEngine final : public StepEngine {
 public:
  explicit HostEngine(const EngineSetting& setting)
      : setting_(setting),
        recipe_(setting.recipe),
        data_(setting.data),
        shard_batch_(recipe_.batch_size() / recipe_.logical_shards()),
        ranges_(RangesOf(recipe_.augmentation())),
        normalise_(NormalisationOf(data_)) {}

  absl::Status Load(TrainingState& state) override {
    state_ = &state;
    const ModelLayout& layout = state.model.layout;
    for (uint32_t k = 0; k < setting_.collective.shard_count(); ++k) {
      passes_.push_back(
          MakeTrainingPass(layout, shard_batch_, recipe_.precision(), setting_.loss));
      gradients_.emplace_back(layout.parameter_count);
    }
    reduced_.resize(layout.parameter_count);
    weights_ = MakeStepWeights(layout, recipe_.precision());
    return setting_.pool.Run(1, [this](uint32_t) { UpdateWeights(); });
  }

  absl::Status Save() override { return absl::OkStatus(); }

  absl::Status Run(const StepInputs& inputs, std::vector<ShardOutcome>& outcomes) override {
    RETURN_IF_ERROR(RunAll(static_cast<uint32_t>(passes_.size()), [&](uint32_t k) {
      return RunShard(inputs, k, outcomes[k]);
    }));
    std::vector<float*> shards;
    for (std::vector<float>& g : gradients_) shards.push_back(g.data());
    RETURN_IF_ERROR(
        setting_.collective.OrderedReduce(shards, reduced_.size(), reduced_.data()));
    return setting_.pool.Run(1, [&](uint32_t) { Update(inputs); });
  }

  absl::StatusOr<std::vector<PassResult>> Validate(uint32_t first, uint32_t count) override;

 private:
  // On the pool's threads; the error of the lowest job.
  absl::Status RunAll(uint32_t n, const std::function<absl::Status(uint32_t)>& job) {
    std::vector<absl::Status> ends(n);
    RETURN_IF_ERROR(setting_.pool.Run(n, [&](uint32_t i) { ends[i] = job(i); }));
    for (const absl::Status& end : ends) RETURN_IF_ERROR(end);
    return absl::OkStatus();
  }

  // Shard `k` of this rank: images in, gradient, batch statistics and loss out.
  absl::Status RunShard(const StepInputs& inputs, uint32_t k, ShardOutcome& outcome);
  void Update(const StepInputs& inputs);
  void UpdateWeights() {
    weights_->Update(state_->model.parameters.data(), state_->model.statistics.data());
  }

  const EngineSetting setting_;
  const v1::Recipe& recipe_;
  const ImageData& data_;
  const uint32_t shard_batch_;
  const AugmentationRanges ranges_;
  const Normalisation normalise_;

  TrainingState* state_ = nullptr;
  std::unique_ptr<StepWeights> weights_;
  // Per shard of this rank.
  std::vector<std::unique_ptr<TrainingPass>> passes_;
  std::vector<std::vector<float>> gradients_;
  std::vector<float> reduced_;
  // Made on first use; passes per thread, and the weights only where they are a moving average.
  std::vector<std::unique_ptr<TrainingPass>> validation_passes_;
  std::unique_ptr<StepWeights> average_weights_;
};

absl::Status HostEngine::RunShard(const StepInputs& inputs, uint32_t k, ShardOutcome& outcome) {
  const size_t image_floats = size_t{data_.size} * data_.size * 3;
  TrainingPass& pass = *passes_[k];
  std::vector<uint32_t> labels(shard_batch_);
  for (uint32_t i = 0; i < shard_batch_; ++i) {
    const uint32_t image = inputs.images[k * shard_batch_ + i];
    labels[i] = data_.labels[image];
    const Augmentation augmentation =
        recipe_.augment()
            ? DrawAugmentation(ranges_, recipe_.seed(), inputs.epoch, image, data_.size)
            : Augmentation();
    {
      ASSIGN_OR_RETURN(const PinnedImage pixels, data_.Pin(image));
      AugmentImage(pixels.data(), data_.size, augmentation, normalise_,
                   pass.input() + i * image_floats);
    }
    if (recipe_.dropout()) pass.DrawDropout(recipe_.seed(), inputs.step, image, i);
  }
  outcome.statistics.resize(state_->model.layout.statistic_count);
  outcome.result = pass.Train(*weights_, labels, recipe_.dropout(), inputs.loss_scale,
                              gradients_[k].data(), outcome.statistics.data());
  return absl::OkStatus();
}

void HostEngine::Update(const StepInputs& inputs) {
  if (recipe_.clip_norm() > 0) ClipNorm(recipe_.clip_norm(), reduced_.data(), reduced_.size());
  Model& model = state_->model;
  std::vector<float*> slots(state_->slots.size());
  for (const ParameterSpec& spec : model.layout.parameters) {
    if (spec.frozen) continue;
    for (size_t k = 0; k < slots.size(); ++k) slots[k] = state_->slots[k].data() + spec.offset;
    OptimizerStep(recipe_.optimizer(), inputs.learning_rate, inputs.step, spec.decayed,
                  reduced_.data() + spec.offset, spec.count, model.parameters.data() + spec.offset,
                  slots);
  }
  if (state_->averaged) {
    // As torch.optim.swa_utils.AveragedModel: the first step's weights, then the moving average.
    if (inputs.step == 0) {
      state_->average_parameters = model.parameters;
    } else {
      Blend(recipe_.ema_decay(), model.parameters.data(), model.parameters.size(),
            state_->average_parameters.data());
    }
  }
  UpdateWeights();
}

absl::StatusOr<std::vector<PassResult>> HostEngine::Validate(uint32_t first, uint32_t count) {
  const std::vector<uint32_t>& images = data_.split.validation;
  const uint32_t lanes = std::min(std::max(setting_.threads, 1u), count);
  while (validation_passes_.size() < lanes) {
    validation_passes_.push_back(
        MakeTrainingPass(state_->model.layout, kValidationBatch, recipe_.precision()));
  }
  const StepWeights* weights = weights_.get();
  const float* statistics = state_->model.statistics.data();
  if (state_->averaged) {
    if (average_weights_ == nullptr) {
      average_weights_ = MakeStepWeights(state_->model.layout, recipe_.precision());
    }
    statistics = state_->average_statistics.data();
    RETURN_IF_ERROR(setting_.pool.Run(1, [&](uint32_t) {
      average_weights_->Update(state_->average_parameters.data(), statistics);
    }));
    weights = average_weights_.get();
  }
  std::vector<PassResult> results(count);
  RETURN_IF_ERROR(RunAll(lanes, [&](uint32_t lane) -> absl::Status {
    const size_t image_floats = size_t{data_.size} * data_.size * 3;
    TrainingPass& pass = *validation_passes_[lane];
    for (uint32_t b = lane; b < count; b += lanes) {
      const absl::Span<const uint32_t> rest =
          absl::MakeConstSpan(images).subspan(size_t{first + b} * kValidationBatch);
      data_.Expect(rest);
      std::vector<uint32_t> labels(std::min<size_t>(kValidationBatch, rest.size()));
      for (size_t i = 0; i < labels.size(); ++i) {
        labels[i] = data_.labels[rest[i]];
        ASSIGN_OR_RETURN(const PinnedImage pixels, data_.Pin(rest[i]));
        AugmentImage(pixels.data(), data_.size, Augmentation(), normalise_,
                     pass.input() + i * image_floats);
      }
      results[b] = pass.Evaluate(*weights, statistics, labels, nullptr);
      ++setting_.progress;
    }
    return absl::OkStatus();
  }));
  return results;
}

}  // namespace

std::unique_ptr<StepEngine> MakeHostEngine(const EngineSetting& setting) {
  return std::make_unique<HostEngine>(setting);
}

}  // namespace dermis
