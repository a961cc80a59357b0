// What this worker runs now: one entry an assignment. The session talks of it to the coordinator, the runners
// report into it.
#ifndef DERMIS_WORKER_ATTEMPTS_H_
#define DERMIS_WORKER_ATTEMPTS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/digest.h"
#include "dermis/v1/cluster.pb.h"

namespace dermis {

// One execution, shared by the session and the threads that run it. The atomics may be used from any thread.
struct RunningWork {
  v1::Assign assign;
  std::vector<Digest> tasks;             // Of a gang: the recipe's digest.
  std::atomic<uint64_t> progress{0};     // Grows while work is done: steps, batches.
  std::atomic<uint64_t> step{0};         // Gang: the training step that it has reached.
  std::atomic<bool> yield{false};        // Gang: store the state at the next step, then stop.
  std::atomic<bool> cancelled{false};    // Stop without a result.

  // Called once when the work is cancelled, from another thread; at once where it is already. For what
  // cannot look at `cancelled`, such as a collective that waits. nullptr = forget the last one.
  void OnCancel(std::function<void()> callback);
  void Cancel();

  // Gang: asked for the ranks whose part of an exchange is waited for now. nullptr = forget the last one.
  void OnAskWhom(std::function<std::vector<uint32_t>()> callback);
  std::vector<uint32_t> WaitsFor();

 private:
  absl::Mutex mutex_;
  std::function<void()> on_cancel_ ABSL_GUARDED_BY(mutex_);
  std::function<std::vector<uint32_t>()> whom_ ABSL_GUARDED_BY(mutex_);
};

// Thread-safe. An attempt stays in the table until the coordinator was told of its end: so a worker that
// was alone for a while still says what happened.
class Attempts {
 public:
  using Start = std::function<void(std::shared_ptr<RunningWork>)>;  // Must not block.
  explicit Attempts(Start start) : start_(std::move(start)) {}

  // A second Assign of the same number is ignored (the coordinator may repeat itself).
  void Assign(const v1::Assign& assign);
  void Cancel(uint64_t assignment);
  bool Yield(uint64_t assignment);   // True: it had not been told.
  // This worker is about to end: everything yields, and beats say so.
  void Drain();
  bool draining() const { return draining_; }
  // After a gap: attempts that the coordinator did not adopt are cancelled and forgotten (but for Ignored).
  void Reconcile(const std::vector<uint64_t>& adopted);

  // The runner's last word. Ignored when the attempt was forgotten.
  void Ended(const RunningWork& work, v1::AttemptEnded ended);

  // For Register and Beat: all that is in the table.
  std::vector<v1::RunningAttempt> Running() const;
  // Ends to tell, oldest first; they stay until Told.
  std::vector<v1::AttemptEnded> Ends() const;
  void Told(uint64_t assignment);

  // Blocks until Ends() is not empty, `stop` is true (checked on Wake) or the timeout is over.
  void WaitForEnds(absl::Duration timeout, const std::atomic<bool>& stop);
  void Wake();
  // How long a cancelled attempt has neither ended nor got on (what gets on will hear of it); zero: there is none.
  absl::Duration Ignored();
  // True when nothing runs and every end was told.
  bool WaitUntilIdle(absl::Duration timeout) const;

 private:
  struct Entry {
    std::shared_ptr<RunningWork> work;
    bool over = false;
    v1::AttemptEnded ended;
    std::optional<absl::Duration> cancelled = std::nullopt;  // When, or when it last got on after that.
    uint64_t progress = 0;  // Then.
  };
  std::atomic<bool> draining_{false};
  const Start start_;
  mutable absl::Mutex mutex_;
  std::map<uint64_t, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::vector<Entry> dropped_ ABSL_GUARDED_BY(mutex_);  // Forgotten, and have not ended yet.
  std::vector<uint64_t> over_ ABSL_GUARDED_BY(mutex_);  // In order of their ends.
  uint64_t wakes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_ATTEMPTS_H_
