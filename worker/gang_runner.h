// Runs this worker's seats in gangs: joins, fetches the start state, trains, and (rank 0) stores the states.
#ifndef DERMIS_WORKER_GANG_RUNNER_H_
#define DERMIS_WORKER_GANG_RUNNER_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/digest.h"
#include "dermis/v1/cluster.pb.h"
#include "worker/attempts.h"
#include "worker/collective/collective.h"
#include "worker/completer.h"
#include "worker/data/image_source.h"
#include "worker/training/trainer.h"

namespace dermis {

// Thread-safe.
class GangRunner {
 public:
  struct Options {
    std::string worker;
    std::string numerics_class;
    uint32_t threads = 1;
    absl::Duration join_patience = kJoinPatience;
    EngineFactory engine = {};  // What computes the steps; empty: the processor.
    std::function<void()> prepare_thread = nullptr;  // First thing in each gang's thread; may be empty.
  };
  struct Parts {  // The real ones, or fakes.
    std::function<absl::StatusOr<std::shared_ptr<const ImageData>>(const v1::ImageSource&)> images;
    std::function<absl::StatusOr<std::string>(const Digest&)> blob;
    std::function<absl::StatusOr<std::unique_ptr<Collective>>(const v1::GangSeat&, absl::Duration)> join;
    // Ends the gang of that generation, also while it is being joined.
    std::function<void(const v1::Generation&)> leave;
    std::function<absl::StatusOr<uint64_t>(const v1::Recipe&, const v1::TrainGoal&,
                                           std::shared_ptr<const ImageData>, Collective&,
                                           const std::string& start_state, const TrainerOptions&,
                                           const StateSink&, const std::atomic<bool>& yield,
                                           std::atomic<uint64_t>& progress)>
        train;
  };
  // `completer` and `attempts` outlive the runner.
  GangRunner(Parts parts, Completer* completer, Attempts* attempts, Options options);
  ~GangRunner();  // Cancels what runs and waits for it.

  // A gang's seat. Its end goes to `attempts` when all states are acknowledged.
  void Start(std::shared_ptr<RunningWork> work);

 private:
  struct Running {
    std::shared_ptr<RunningWork> work;
    std::shared_ptr<std::atomic<bool>> over;
    std::thread thread;
  };
  v1::AttemptEnded Run(const std::shared_ptr<RunningWork>& work);
  absl::Status Train(RunningWork& work, bool* joined);

  const Parts parts_;
  Completer* const completer_;
  Attempts* const attempts_;
  const Options options_;
  absl::Mutex mutex_;
  std::vector<Running> running_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_WORKER_GANG_RUNNER_H_
