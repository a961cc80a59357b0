#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "worker/cuda/device.h"
#include "worker/cuda/host_stream.h"

namespace dermis {
namespace {

constexpr size_t kAlignment = 256;  // What cudaMalloc promises.

class ThreadStream : public HostStream {
 public:
  ThreadStream() : thread_([this] { Serve(); }) {}

  // All that was queued still runs.
  ~ThreadStream() {
    {
      absl::MutexLock lock(&mutex_);
      ending_ = true;
    }
    thread_.join();
  }

  void Enqueue(void (*run)(void*), void* argument) override {
    Add([run, argument] { run(argument); });
  }

  void Add(std::function<void()> work) {
    absl::MutexLock lock(&mutex_);
    queue_.push_back(std::move(work));
  }

  bool Idle() {
    absl::MutexLock lock(&mutex_);
    return queue_.empty();
  }

 private:
  void Serve() {
    auto something = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return ending_ || !queue_.empty(); };
    for (;;) {
      std::function<void()> work;
      {
        absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(&something));
        if (queue_.empty()) return;
        work = std::move(queue_.front());
      }
      work();
      absl::MutexLock lock(&mutex_);
      queue_.pop_front();  // Only now: Idle means done.
    }
  }

  absl::Mutex mutex_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// A functor's loop over a copy of its bytes.
template <typename Functor>
struct Loop {
  static std::function<void()> Make(const void* bytes, uint64_t n) {
    return [functor = *static_cast<const Functor*>(bytes), n] { ParallelFor(functor, n); };
  }
  static constexpr auto value = &Make;
};

class HostDevice : public Device {
 public:
  // Without one each call does its work itself.
  explicit HostDevice(bool stream) {
    if (stream) stream_ = std::make_unique<ThreadStream>();
  }

  std::string name() const override { return "the host"; }
  void* stream() const override { return static_cast<HostStream*>(stream_.get()); }
  absl::Status MakeCurrent() override { return absl::OkStatus(); }

  absl::StatusOr<void*> Allocate(uint64_t bytes) override {
    void* memory =
        std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
    if (memory != nullptr) return memory;
    return absl::ResourceExhaustedError(absl::StrCat("the host has no ", bytes, " bytes"));
  }
  void Free(void* memory) override { std::free(memory); }

  absl::StatusOr<void*> AllocateHost(uint64_t bytes) override { return Allocate(bytes); }
  void FreeHost(void* memory) override { Free(memory); }

  absl::Status Copy(void* to, const void* from, uint64_t bytes) override {
    Do([to, from, bytes] { std::memcpy(to, from, bytes); });
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<Device>> Branch() override {
    return std::make_unique<HostDevice>(stream_ != nullptr);
  }
  absl::Status Precede(Device&) override { return Finish(); }
  void ReleaseCache() override {}
  uint64_t MemoryFailures() const override { return 0; }
  absl::StatusOr<std::unique_ptr<DeviceGraph>> Record(absl::FunctionRef<absl::Status()>) override {
    return nullptr;
  }
  absl::StatusOr<bool> Idle() override { return stream_ == nullptr || stream_->Idle(); }
  absl::Status Finish() override { return AwaitIdle(*this, absl::InfiniteDuration()); }
  absl::Status Launch(uint32_t functor, const void* bytes, uint64_t n) override {
    static constexpr auto kLoops = Functors::Table<Loop>();
    Do(kLoops[functor](bytes, n));
    return absl::OkStatus();
  }

 private:
  void Do(std::function<void()> work) {
    if (stream_ == nullptr) return work();
    stream_->Add(std::move(work));
  }

  std::unique_ptr<ThreadStream> stream_;
};

}  // namespace

std::unique_ptr<Device> MakeHostDevice() { return std::make_unique<HostDevice>(true); }
std::unique_ptr<Device> MakePromptHostDevice() { return std::make_unique<HostDevice>(false); }

}  // namespace dermis
