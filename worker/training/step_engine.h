// What the steps of a training run are computed by: the processor (host_engine.h) or a GPU
// (worker/gpu/gpu_engine.h). The trainer decides what is computed and keeps what is small: losses,
// running statistics, metrics; the engine holds images, weights and what the optimiser keeps.
#ifndef DERMIS_WORKER_TRAINING_STEP_ENGINE_H_
#define DERMIS_WORKER_TRAINING_STEP_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "dermis/v1/task.pb.h"
#include "worker/collective/collective.h"
#include "worker/data/image_source.h"
#include "worker/training/loss.h"
#include "worker/training/shard_pool.h"
#include "worker/training/training_state.h"

namespace dermis {

// Validation batches: consecutive images of the validation list. Their composition is fixed, so
// which rank runs which batch changes nothing.
inline constexpr uint32_t kValidationBatch = 64;

// What stays the same while a trainer runs. All of it outlives the engine.
struct EngineSetting {
  const v1::Recipe& recipe;
  const ImageData& data;
  Collective& collective;
  ShardPool& pool;  // Compute on the host happens on its threads only.
  uint32_t threads;
  const Loss& loss;
  std::atomic<uint64_t>& progress;  // Grows while work is alive.
};

// One optimiser step.
struct StepInputs {
  uint64_t step = 0;                 // So many came before.
  uint32_t epoch = 1;                // First = 1.
  absl::Span<const uint32_t> images;  // Of this rank's shards, shard by shard.
  float loss_scale = 1;
  double learning_rate = 0;
};

// What a step says of each shard of this rank.
struct ShardOutcome {
  PassResult result;
  std::vector<double> statistics;  // Batch means and (biased) variances, in the layout's order.
};

// Called from one thread. Any error ends the attempt.
class StepEngine {
 public:
  virtual ~StepEngine() = default;

  // The state that training goes on from; it outlives the engine. Until Save its parameters, slots
  // and average_parameters may be out of date.
  virtual absl::Status Load(TrainingState& state) = 0;
  virtual absl::Status Save() = 0;

  // The gradient of this rank's shards, summed over those of all; then the update of the weights
  // and of their moving average. Collective. outcomes: one a shard of this rank.
  virtual absl::Status Run(const StepInputs& inputs, std::vector<ShardOutcome>& outcomes) = 0;

  // The loss of validation batches [first, first + count), by the weights that count and the state's
  // running statistics.
  virtual absl::StatusOr<std::vector<PassResult>> Validate(uint32_t first, uint32_t count) = 0;
};

using EngineFactory =
    std::function<absl::StatusOr<std::unique_ptr<StepEngine>>(const EngineSetting&)>;

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_STEP_ENGINE_H_
