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

class CudaDevice : public Device {
 public:
  // stream == nullptr: one of its own.
  static absl::StatusOr<std::unique_ptr<Device>> Make(const CudaLibraryTable* table, int ordinal,
                                                      void* stream);
  ~CudaDevice() override;

  std::string name() const override;
  void* stream() const override { return stream_; }
  absl::Status MakeCurrent() override;
  absl::StatusOr<void*> Allocate(uint64_t bytes) override;
  void Free(void* memory) override;
  absl::Status Copy(void* to, const void* from, uint64_t bytes) override;
  absl::Status Run(const TreeSum& sum, uint64_t n) override;
  absl::Status Run(const Fill& fill, uint64_t n) override;
  absl::StatusOr<bool> Idle() override;

 private:
  CudaDevice(const CudaLibraryTable* table, int ordinal) : table_(table), ordinal_(ordinal) {}
  absl::Status Status(int error, const char* what) const;

  const CudaLibraryTable* const table_;
  const int ordinal_;
  void* stream_ = nullptr;
  bool own_stream_ = false;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_CUDA_DEVICE_H_
