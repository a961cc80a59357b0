#include "worker/cuda/cuda_device.h"

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace dermis {

absl::Status CudaStatus(const CudaLibraryTable& table, int error, const std::string& what) {
  if (error == kCudaSuccess) return absl::OkStatus();
  const std::string text =
      absl::StrCat(what, ": ", table.error_name(error), ": ", table.error_text(error));
  if (error == kCudaOutOfMemory) return absl::ResourceExhaustedError(text);
  return absl::UnavailableError(text);
}

absl::StatusOr<std::unique_ptr<Device>> CudaDevice::Make(const CudaLibraryTable* table, int ordinal,
                                                         void* stream) {
  std::unique_ptr<CudaDevice> device(new CudaDevice(table, ordinal));
  RETURN_IF_ERROR(device->MakeCurrent());
  device->stream_ = stream;
  if (stream == nullptr) {
    RETURN_IF_ERROR(device->Status(table->make_stream(&device->stream_), "make a stream"));
    device->own_stream_ = true;
  }
  return device;
}

CudaDevice::~CudaDevice() {
  if (own_stream_) table_->destroy_stream(stream_);
}

std::string CudaDevice::name() const { return absl::StrCat("GPU ", ordinal_); }

absl::Status CudaDevice::MakeCurrent() {
  return Status(table_->set_device(ordinal_), "make it the current device");
}

absl::StatusOr<void*> CudaDevice::Allocate(uint64_t bytes) {
  void* memory = nullptr;
  RETURN_IF_ERROR(Status(table_->allocate(&memory, bytes), "allocate memory"));
  return memory;
}

// An error here is one of earlier work, and the next call says it again.
void CudaDevice::Free(void* memory) { table_->free(memory); }

absl::Status CudaDevice::Copy(void* to, const void* from, uint64_t bytes) {
  return Status(table_->copy(to, from, bytes, stream_), "copy");
}

absl::Status CudaDevice::Run(const TreeSum& sum, uint64_t n) {
  return Status(table_->tree_sum(&sum, n, stream_), "launch a tree sum");
}

absl::Status CudaDevice::Run(const Fill& fill, uint64_t n) {
  return Status(table_->fill(&fill, n, stream_), "launch a fill");
}

absl::StatusOr<bool> CudaDevice::Idle() {
  const int error = table_->query(stream_);
  if (error == kCudaNotReady) return false;
  RETURN_IF_ERROR(Status(error, "work that was queued"));
  return true;
}

absl::Status CudaDevice::Status(int error, const char* what) const {
  return error == kCudaSuccess ? absl::OkStatus()
                               : CudaStatus(*table_, error, absl::StrCat(name(), ": ", what));
}

}  // namespace dermis
