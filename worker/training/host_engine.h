// Training steps on the processor: shards side by side, each single-threaded.
#ifndef DERMIS_WORKER_TRAINING_HOST_ENGINE_H_
#define DERMIS_WORKER_TRAINING_HOST_ENGINE_H_

#include <memory>

#include "worker/training/step_engine.h"

namespace dermis {

std::unique_ptr<StepEngine> MakeHostEngine(const EngineSetting& setting);

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_HOST_ENGINE_H_
