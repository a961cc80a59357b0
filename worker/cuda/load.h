// GPUs, where there are any: the library dermis_cuda is loaded at run time, so one build runs
// everywhere. LibTorch: call FindGpus before any other use of Torch. Its first look for a GPU
// settles the matter for good.
#ifndef DERMIS_WORKER_CUDA_LOAD_H_
#define DERMIS_WORKER_CUDA_LOAD_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "worker/cuda/cuda_library.h"
#include "worker/cuda/device.h"

namespace dermis {

// Stays loaded until the process ends. Thread-safe.
class CudaLibrary {
 public:
  // Whether or not there is a GPU. FAILED_PRECONDITION: not found, what it needs is missing, or it
  // is of another release.
  static absl::StatusOr<std::shared_ptr<const CudaLibrary>> Load(const std::string& path);

  // 0 where there is no driver or no device.
  absl::StatusOr<int> device_count() const;

  absl::StatusOr<CudaDeviceFacts> Facts(int ordinal) const;

  // LibTorch takes so much of the GPU's memory at most, in this process.
  absl::Status LimitMemory(int ordinal, double fraction) const;

  // The GPU with this ordinal. `stream`: a cudaStream_t to work on, the caller's; nullptr: one of
  // its own.
  absl::StatusOr<std::unique_ptr<Device>> Open(int ordinal, void* stream = nullptr) const;

 private:
  explicit CudaLibrary(const CudaLibraryTable* table) : table_(table) {}
  const CudaLibraryTable* const table_;
};

// Beside the running program: where the build and an installation put it.
std::string CudaLibraryPath();

// How many GPUs the driver (libcuda.so.1) shows. NOT_FOUND "no GPU: why";
// UNAVAILABLE: it does not answer. Loads nothing else.
absl::StatusOr<int> CountGpusOfDriver(const std::string& driver = "libcuda.so.1");

// The library if the driver shows a device, NOT_FOUND "no GPU: why" if not: a plain answer, the
// worker then computes on the CPU. Other errors: there is a GPU and it cannot be used.
absl::StatusOr<std::shared_ptr<const CudaLibrary>> FindGpus(
    const std::string& path = CudaLibraryPath());

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_LOAD_H_
