// A training state: everything that is needed to go on from a step, and nothing that depends on how
// one came there. The file (docs/formats.md) is a safetensors container that Python reads:
//   model.<name>     F32  weights and running statistics now
//   <slot>.<name>    F32  what the optimiser keeps of each parameter (OptimizerSlots: rmsprop, sgd,
//   ...) ema.<name>       F32  the moving average of weights and running statistics, where the
//   recipe has one best.<name>      F32  weights and running statistics of the best epoch so far;
//   absent before the first epochs           F64  [k, 6], of the completed epochs: epoch, training
//   loss, training accuracy,
//                         validation loss, validation accuracy, learning rate; absent before the
//                         first
//   epoch_sums       F64  [2], of the running epoch: sum of losses, number of right answers
// Metadata: format "dermis training state", version, model, size, classes, pixel_mean,
// pixel_deviation, recipe (hex digest), step, best_epoch.
#ifndef DERMIS_WORKER_TRAINING_TRAINING_STATE_H_
#define DERMIS_WORKER_TRAINING_TRAINING_STATE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "dermis/v1/task.pb.h"
#include "worker/models/model.h"

namespace dermis {

struct TrainingState {
  Model model;
  std::vector<std::string> slot_names;
  std::vector<std::vector<float>> slots;  // parameter_count each.
  bool averaged = false;
  std::vector<float> average_parameters, average_statistics;
  uint64_t step = 0;
  std::vector<v1::EpochMetrics> epochs;
  uint32_t best_epoch = 0;  // 0: none yet.
  std::vector<float> best_parameters, best_statistics;
  double epoch_loss = 0;
  uint64_t epoch_correct = 0;
};

// Equal states give equal bytes. recipe: hex digest.
std::string SerializeTrainingState(const TrainingState& state, const std::string& recipe);

// model's layout, pixel_mean, pixel_deviation, slot_names and averaged of `like` must be those of
// the file. Errors: INVALID_ARGUMENT: damaged, or of another recipe.
absl::StatusOr<TrainingState> ParseTrainingState(std::string_view bytes, const std::string& recipe,
                                                 const TrainingState& like);

// The weights that count: the moving average where there is one.
Model CurrentModel(const TrainingState& state);
// A model file of them now, or of the best epoch.
std::string LastModel(const TrainingState& state);
std::string BestModel(const TrainingState& state);  // "" before the first epoch.

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_TRAINING_STATE_H_
