// Memory and one stream of a device. Three implementations: the GPU (load.h), the host, whose
// memory is plain memory and whose stream is a thread (tests, with a stand-in NCCL), and the host
// without a stream: all is done when a call returns (tests of what a GPU computes). A device is
// used by one thread.
#ifndef DERMIS_WORKER_CUDA_DEVICE_H_
#define DERMIS_WORKER_CUDA_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "worker/cuda/functor_list.h"

namespace dermis {

// Work that was recorded once and is queued as a whole.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  virtual absl::Status Replay() = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;  // For messages: "GPU 0".
  // Of the GPU, as LibTorch counts them too; -1: the host.
  virtual int ordinal() const { return -1; }

  // For NCCL: a cudaStream_t, or the host device's HostStream* (host_stream.h).
  virtual void* stream() const = 0;

  // The calling thread's device from now on, as NCCL's calls expect it; and its stream the one that
  // LibTorch's operations of this thread are queued on.
  virtual absl::Status MakeCurrent() = 0;

  // Uninitialised, aligned for any vector load. RESOURCE_EXHAUSTED: no memory. Free only while
  // nothing queued uses it. May wait for the device.
  virtual absl::StatusOr<void*> Allocate(uint64_t bytes) = 0;
  virtual void Free(void* memory) = 0;
  // Memory of the host that the device copies from and to without a detour.
  virtual absl::StatusOr<void*> AllocateHost(uint64_t bytes) = 0;
  virtual void FreeHost(void* memory) = 0;

  // Queued on the stream, in this order; errors may also show later, in Idle. Either side of Copy
  // may be the host's memory or the device's; host memory is used until the stream is idle.
  virtual absl::Status Copy(void* to, const void* from, uint64_t bytes) = 0;
  template <typename Functor>
  absl::Status Run(const Functor& functor, uint64_t n) {
    constexpr uint32_t kIndex = Functors::IndexOf<Functor>();
    static_assert(kIndex < Functors::kCount, "is it in functor_list.h?");
    return Launch(kIndex, &functor, n);
  }
  // A functor of functor_list.h by its number.
  virtual absl::Status Launch(uint32_t functor, const void* bytes, uint64_t n) = 0;

  // Another stream of the same device, which it must not outlive.
  virtual absl::StatusOr<std::unique_ptr<Device>> Branch() = 0;
  // What `other` queues from now on comes after what this one has queued so far.
  virtual absl::Status Precede(Device& other) = 0;

  // Gives back what LibTorch keeps of the device's memory for later.
  virtual void ReleaseCache() = 0;
  // How often memory was asked for in vain by LibTorch: where it grows while convolutions are queued
  // for the first time, cuDNN may have taken another algorithm than it takes elsewhere.
  virtual uint64_t MemoryFailures() const = 0;

  // Runs `queue`, which queues work (LibTorch's too), and records it instead of doing it: a replay
  // does it, on the memory that was used then. nullptr: this device records nothing, and nothing
  // was queued. What is recorded must have run once before.
  virtual absl::StatusOr<std::unique_ptr<DeviceGraph>> Record(
      absl::FunctionRef<absl::Status()> queue) = 0;

  // Is all done that was queued? Never waits.
  virtual absl::StatusOr<bool> Idle() = 0;
  // Waits for it.
  virtual absl::Status Finish() = 0;
};

// Polls until the stream is idle; DEADLINE_EXCEEDED after `patience`.
absl::Status AwaitIdle(Device& device, absl::Duration patience);

// Between two polls: gives way at first, sleeps when the wait gets long. `polls`: how many there
// have been.
void PausePolling(uint64_t polls);

std::unique_ptr<Device> MakeHostDevice();
std::unique_ptr<Device> MakePromptHostDevice();  // Without a stream.

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
