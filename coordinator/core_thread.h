// The thread that owns a Core. Other threads post commands; all that wait are run together and
// committed in one transaction (group commit).
#ifndef DERMIS_COORDINATOR_CORE_THREAD_H_
#define DERMIS_COORDINATOR_CORE_THREAD_H_

#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "coordinator/core.h"

namespace dermis {

class CoreThread {
 public:
  using Command = std::function<void(Core&)>;

  // `core` is open already and is used by nobody else until Stop returns. `failed` is called on the
  // core thread when a commit failed, as its last act: it should log and end the process.
  CoreThread(Core& core, std::function<void(const absl::Status&)> failed);
  ~CoreThread();  // Stop().

  // Thread-safe. Commands of one caller run in order. After Stop or a failure they are dropped
  // (their replies never come).
  void Post(Command command);
  // Runs what waits, commits, and joins. Not from the core thread.
  void Stop();

 private:
  void Run();

  Core& core_;
  std::function<void(const absl::Status&)> failed_;
  absl::Mutex mutex_;
  std::vector<Command> queue_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_CORE_THREAD_H_
