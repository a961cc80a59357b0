// How the learning rate changes over a training run. Pure.
#ifndef DERMIS_WORKER_TRAINING_SCHEDULE_H_
#define DERMIS_WORKER_TRAINING_SCHEDULE_H_

#include <cstdint>

#include "dermis/v1/spec.pb.h"

namespace dermis {

// What the optimiser's rate is multiplied by in the step that follows `step` steps. Of the first w
// steps (warm-up) step s has (s + 1) / w. Then
//   step    factor ^ floor(epochs done / every)
//   cosine  final + (1 - final) (1 + cos(pi p)) / 2, p from 0 after the warm-up to 1 after
//   `epochs`,
//           where it stays
// PyTorch: SequentialLR of LinearLR and CosineAnnealingLR, stepped once a batch; StepLR once an
// epoch.
double ScheduleFactor(const v1::ScheduleSpec& spec, uint64_t step, uint64_t steps_per_epoch);

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_SCHEDULE_H_
