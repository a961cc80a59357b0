// Data-parallel training of one recipe by the ranks of a gang: the whole step loop, validation
// after each epoch, states at segment ends. Same bits for any number of ranks, threads and any
// cutting into segments.
#ifndef DERMIS_WORKER_TRAINING_TRAINER_H_
#define DERMIS_WORKER_TRAINING_TRAINER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "dermis/v1/cluster.pb.h"
#include "dermis/v1/task.pb.h"
#include "worker/collective/collective.h"
#include "worker/data/image_source.h"
#include "worker/training/step_engine.h"

namespace dermis {

// A state on its way out (rank 0 only): safetensors bytes; the output's digests are of these bytes.
struct TrainedState {
  v1::TrainOutput output;
  std::string state, best_model, last_model;  // best_model may be empty.
};

struct TrainerOptions {
  std::string init;  // The bytes of the blob that recipe.init names; not needed with a start state.
  uint32_t threads = 1;  // Shards run side by side on so many threads.
  absl::Duration segment =
      absl::Seconds(30);  // A state about so often (rank 0's clock decides, all ranks follow).
  std::atomic<uint64_t>* step = nullptr;  // Where the step that is reached is shown; may be null.
  EngineFactory engine;  // What computes the steps; empty: the processor.
};

// Called on rank 0 with each state; must not block long (upload goes on elsewhere). An error ends
// training.
using StateSink = std::function<absl::Status(TrainedState)>;

// Runs until the goal's max_epochs, its early stop (StopEpoch), or `yield` (checked at every step
// boundary, agreed between ranks): each time with a last state at exactly that step. start_state:
// bytes of a stored state of this recipe, "" = from scratch. progress counts steps (grows while
// alive). Returns the last step. Errors: INVALID_ARGUMENT for a recipe that cannot run (training
// split smaller than a batch, ...), the collective's error when a rank is lost.
absl::StatusOr<uint64_t> Train(const v1::Recipe& recipe, const v1::TrainGoal& goal,
                               std::shared_ptr<const ImageData> data, Collective& collective,
                               const std::string& start_state, const TrainerOptions& options,
                               const StateSink& sink, const std::atomic<bool>& yield,
                               std::atomic<uint64_t>& progress);

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_TRAINER_H_
