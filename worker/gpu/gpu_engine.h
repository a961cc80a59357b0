// Training steps on a GPU. Images, weights and what the optimiser keeps lie in its memory; a step
// uploads which images it takes and how they are varied, and brings back losses and batch
// statistics. The work of a step is recorded as a graph at its second time and replayed from then on.
//
// Gradients are summed in the order of the tree, so the bits are those of one worker: by the ranks'
// NCCL where the collective works on the device's memory, else through the host's memory and the
// gang's mesh. They are exchanged in buckets, from the last layer on, each while the backward pass of
// the layers before it runs.
#ifndef DERMIS_WORKER_GPU_GPU_ENGINE_H_
#define DERMIS_WORKER_GPU_GPU_ENGINE_H_

#include <memory>

#include "absl/status/statusor.h"

#include "worker/cuda/device.h"
#include "worker/training/step_engine.h"

namespace dermis {

struct GpuEngineOptions {
  // The branch of the device on whose stream the collective's OrderedReduce works, on the device's
  // memory. nullptr: it works on the host's memory.
  Device* collective_device = nullptr;
  // All images of the set lie in the device's memory where they take no more bytes than this; else
  // each step uploads its own.
  uint64_t image_memory = 0;
};

// The device outlives the engine, which is used by the thread that is its.
absl::StatusOr<std::unique_ptr<StepEngine>> MakeGpuEngine(Device& device,
                                                          const EngineSetting& setting,
                                                          const GpuEngineOptions& options);

}  // namespace dermis

#endif  // DERMIS_WORKER_GPU_GPU_ENGINE_H_
