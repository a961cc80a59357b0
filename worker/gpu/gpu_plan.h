// Inference on a GPU: a network in evaluation form, its batch always full (what is not used is
// computed and dropped), recorded as one graph. Inputs are written to the host's memory and
// uploaded.
#ifndef DERMIS_WORKER_GPU_GPU_PLAN_H_
#define DERMIS_WORKER_GPU_GPU_PLAN_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "common/digest.h"
#include "worker/cuda/device.h"
#include "worker/plan/inference_plan.h"

namespace dermis {

// The plans of one GPU. Threads have a plan each, with inputs of its own; the network on the GPU, its
// maps and its graph are there once a model, whichever threads use it: they take gigabytes, and
// batches run one after the other in any case. Thread-safe.
class GpuPlans {
 public:
  using OpenDevice = std::function<absl::StatusOr<std::unique_ptr<Device>>()>;
  // batch: images that go through the network together; 0: as many as fill a device.
  explicit GpuPlans(OpenDevice open, uint32_t batch = 0) : open_(std::move(open)), batch_(batch) {}

  // As MakeInferencePlan; it is compared with the model's graph before it is used, too. A model's
  // plans end with the last of them.
  absl::StatusOr<std::unique_ptr<InferencePlan>> Make(v1::ModelKind kind, std::string_view weights,
                                                      uint32_t size, v1::Precision precision);

 private:
  class Network;
  class Plan;

  const OpenDevice open_;
  const uint32_t batch_;
  absl::Mutex mutex_;
  std::map<std::tuple<Digest, v1::ModelKind, uint32_t, v1::Precision>, std::weak_ptr<Network>>
      networks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_WORKER_GPU_GPU_PLAN_H_
