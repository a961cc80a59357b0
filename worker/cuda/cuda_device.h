// A GPU as a Device, by the functions of the library dermis_cuda. Made by CudaLibrary::Open.
#ifndef DERMIS_WORKER_CUDA_CUDA_DEVICE_H_
#define DERMIS_WORKER_CUDA_CUDA_DEVICE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "worker/cuda/cuda_library.h"
#include "worker/cuda/device.h"

namespace dermis {

// "what: cudaErrorX: words". RESOURCE_EXHAUSTED: no memory; else UNAVAILABLE: a device's error says
// nothing about the task. OK if `error` is no error.
absl::Status CudaStatus(const CudaLibraryTable& table, int error, const std::string& what);

// After some errors (an illegal address, a failed launch, memory that cannot be corrected) no call of
// this process to CUDA succeeds any more. `ended` is then called with what happened, by the thread
// that saw it; a worker ends, for its supervisor to start a new one. nullptr: nothing is called.
void OnBrokenCuda(void (*ended)(const absl::Status& cause));
// Calls it: what is known to be so, though no call of CUDA's has said it.
void TellBrokenCuda(const absl::Status& cause);

class CudaDevice : public Device {
 public:
  // stream == nullptr: one of its own.
  static absl::StatusOr<std::unique_ptr<Device>> Make(const CudaLibraryTable* table, int ordinal,
                                                      void* stream);
  ~CudaDevice() override;

  std::string name() const override;
  int ordinal() const override { return ordinal_; }
  void* stream() const override { return stream_; }
  absl::Status MakeCurrent() override;
  absl::StatusOr<void*> Allocate(uint64_t bytes) override;
  void Free(void* memory) override;
  absl::StatusOr<void*> AllocateHost(uint64_t bytes) override;
  void FreeHost(void* memory) override;
  absl::Status Copy(void* to, const void* from, uint64_t bytes) override;
  absl::StatusOr<std::unique_ptr<Device>> Branch() override;
  absl::Status Precede(Device& other) override;
  void ReleaseCache() override { table_->release_cache(); }
  uint64_t MemoryFailures() const override { return table_->memory_failures(); }
  absl::StatusOr<std::unique_ptr<DeviceGraph>> Record(
      absl::FunctionRef<absl::Status()> queue) override;
  absl::StatusOr<bool> Idle() override;
  absl::Status Finish() override;
  absl::Status Launch(uint32_t functor, const void* bytes, uint64_t n) override;

 private:
  CudaDevice(const CudaLibraryTable* table, int ordinal) : table_(table), ordinal_(ordinal) {}
  absl::Status Status(int error, const std::string& what) const;

  const CudaLibraryTable* const table_;
  const int ordinal_;
  void* stream_ = nullptr;
  bool own_stream_ = false;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_CUDA_DEVICE_H_
