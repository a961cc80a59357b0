// Memory and one stream of a device: the little that the NCCL collective needs. Two
// implementations: the GPU (load.h) and the host, whose memory is plain memory and whose stream is
// a thread (tests, with a stand-in NCCL). A device is used by one thread.
#ifndef DERMIS_WORKER_CUDA_DEVICE_H_
#define DERMIS_WORKER_CUDA_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "worker/cuda/functors.h"

namespace dermis {

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;  // For messages: "GPU 0".

  // For NCCL: a cudaStream_t, or the host device's HostStream* (host_stream.h).
  virtual void* stream() const = 0;

  // The calling thread's device from now on, as NCCL's calls expect it.
  virtual absl::Status MakeCurrent() = 0;

  // Uninitialised, aligned for any vector load. RESOURCE_EXHAUSTED: no memory. Free only while
  // nothing queued uses it. May wait for the device.
  virtual absl::StatusOr<void*> Allocate(uint64_t bytes) = 0;
  virtual void Free(void* memory) = 0;

  // Queued on the stream, in this order; errors may also show later, in Idle. Either side of Copy
  // may be the host's memory or the device's; host memory is used until the stream is idle.
  virtual absl::Status Copy(void* to, const void* from, uint64_t bytes) = 0;
  virtual absl::Status Run(const TreeSum& sum, uint64_t n) = 0;
  virtual absl::Status Run(const Fill& fill, uint64_t n) = 0;

  // Is all done that was queued? Never waits.
  virtual absl::StatusOr<bool> Idle() = 0;
};

// Polls until the stream is idle; DEADLINE_EXCEEDED after `patience`.
absl::Status AwaitIdle(Device& device, absl::Duration patience);

// Between two polls: gives way at first, sleeps when the wait gets long. `polls`: how many there
// have been.
void PausePolling(uint64_t polls);

std::unique_ptr<Device> MakeHostDevice();

// Memory of a device that grows, and never shrinks.
class DeviceBuffer {
 public:
  explicit DeviceBuffer(Device* device) : device_(device) {}
  ~DeviceBuffer() { device_->Free(memory_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  // At least so many floats; what was there before is lost. The stream must be idle.
  absl::StatusOr<float*> Floats(uint64_t count);

 private:
  Device* device_;
  void* memory_ = nullptr;
  uint64_t floats_ = 0;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_DEVICE_H_
