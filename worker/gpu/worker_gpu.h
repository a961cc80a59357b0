// The GPU that a worker drives: what a worker needs beside what it does on the processor.
#ifndef DERMIS_WORKER_GPU_WORKER_GPU_H_
#define DERMIS_WORKER_GPU_WORKER_GPU_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "worker/cuda/load.h"
#include "worker/cuda/nccl_api.h"
#include "worker/gpu/gpu_plan.h"
#include "worker/plan/inference_plan.h"
#include "worker/training/step_engine.h"

namespace dermis {

// Thread-safe. Lives as long as the process.
class WorkerGpu {
 public:
  // Before any other use of LibTorch. memory_share: of the GPU's memory LibTorch takes no more.
  // NOT_FOUND: there is no such GPU; other errors: it is there and cannot be used.
  static absl::StatusOr<std::unique_ptr<WorkerGpu>> Open(int ordinal, double memory_share);

  // "NVIDIA H100 80GB HBM3, 79 GiB, NCCL 2.28.9".
  std::string description() const;

  // Of this GPU and this machine: of_processor is NumericsClassOfCpu's, since a worker's tasks that
  // need no network run on the processor. Computes a canary of its own twice.
  absl::StatusOr<std::string> NumericsClass(const std::string& of_processor) const;

  // Trainings of this worker. Ranks of a gang exchange by NCCL where all of them have it in one
  // version, and a GPU each; else by the gang's mesh.
  EngineFactory Engines() const;
  PlanMaker Plans() const;

 private:
  WorkerGpu(std::shared_ptr<const CudaLibrary> library, int ordinal, const CudaDeviceFacts& facts);

  const std::shared_ptr<const CudaLibrary> library_;
  const int ordinal_;
  const CudaDeviceFacts facts_;
  std::shared_ptr<const NcclApi> nccl_;  // Null: there is none, `nccl_absence_` says why.
  std::string nccl_absence_;
  const std::shared_ptr<GpuPlans> plans_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_GPU_WORKER_GPU_H_
