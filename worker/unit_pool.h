// Runs bundles of units on compute threads, side by side.
#ifndef DERMIS_WORKER_UNIT_POOL_H_
#define DERMIS_WORKER_UNIT_POOL_H_

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "dermis/v1/cluster.pb.h"
#include "worker/attempts.h"
#include "worker/completer.h"
#include "worker/given_images.h"
#include "worker/task_runner.h"

namespace dermis {

// Thread-safe.
class UnitPool {
 public:
  // TaskRunner::Run, or a fake.
  using Run = std::function<absl::StatusOr<v1::Payload>(const v1::TaskSpec&, PlanCache&, uint64_t* items)>;
  struct Options {
    uint32_t threads = 1;
    std::string worker;
    std::function<void()> prepare_thread = nullptr;  // First thing in each compute thread; may be empty.
    // Of a question: its familiarity; may be empty.
    std::function<absl::StatusOr<v1::Familiarity>(const v1::FamiliarityQuestion&, GivenBundle&)> familiarity = nullptr;
    ForeignOptions foreign = {};                     // What the threads' plans may be made of.
    PlanMaker networks = {};                         // Makes plans of our own networks; empty: the processor's.
  };
  // Arguments outlive the pool.
  UnitPool(Run run, Completer* completer, Attempts* attempts, Options options);
  ~UnitPool();  // Tasks that run are finished, the rest is left.

  // A bundle. Its end goes to `attempts` when every result is acknowledged: FAILED with the first task (in
  // order) whose function returned an error, else UNAVAILABLE, else YIELDED, else DONE. Of a question (`given`) the results go
  // with that end, and to nobody else.
  void Start(std::shared_ptr<RunningWork> work);

 private:
  struct Bundle;
  struct Unit {
    std::shared_ptr<Bundle> bundle;
    int index;
  };
  void Loop();
  void Compute(const Unit& unit, PlanCache& plans);
  // A task of a question, or (the last index) its familiarity.
  void Answer(const Unit& unit, PlanCache& plans);
  // Unit `index` is over: OK = stored.
  void Resolve(const std::shared_ptr<Bundle>& bundle, int index, const absl::Status& status);

  const Run run_;
  Completer* const completer_;
  Attempts* const attempts_;
  const Options options_;
  absl::Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Unit> queue_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_UNIT_POOL_H_
