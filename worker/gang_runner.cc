#include "worker/gang_runner.h"

#include <exception>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/progress.h"
#include "common/status_macros.h"
#include "common/tasks.h"
#include "worker/unavailability.h"

namespace dermis {
namespace {

// States on their way to the coordinator. Shared with the completer's callbacks.
class Uploads {
 public:
  // While the coordinator is away states wait here; beyond this, training is held up rather than
  // the memory filled.
  static constexpr uint64_t kBytesAtOnce = uint64_t{1} << 30;

  // Waits until there is room for a state of so many bytes; for one there always is.
  absl::Status Begin(uint64_t bytes) {
    absl::MutexLock lock(&mutex_);
    auto room = [this, bytes]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return open_ == 0 || bytes_ + bytes <= kBytesAtOnce;
    };
    mutex_.Await(absl::Condition(&room));
    if (status_.ok()) {
      ++open_;
      bytes_ += bytes;
    }
    return status_;
  }
  void End(uint64_t bytes, const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    --open_;
    bytes_ -= bytes;
    if (status_.ok()) status_ = status;
  }
  bool ok() {
    absl::MutexLock lock(&mutex_);
    return status_.ok();
  }
  absl::Status Flush() {
    absl::MutexLock lock(&mutex_);
    auto none = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return open_ == 0; };
    mutex_.Await(absl::Condition(&none));
    return status_;
  }

 private:
  absl::Mutex mutex_;
  int open_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

GangRunner::GangRunner(Parts parts, Completer* completer, Attempts* attempts, Options options)
    : parts_(std::move(parts)),
      completer_(completer),
      attempts_(attempts),
      options_(std::move(options)) {}

GangRunner::~GangRunner() {
  absl::MutexLock lock(&mutex_);
  for (Running& running : running_) running.work->Cancel();
  for (Running& running : running_) running.thread.join();
}

void GangRunner::Start(std::shared_ptr<RunningWork> work) {
  auto over = std::make_shared<std::atomic<bool>>(false);
  absl::MutexLock lock(&mutex_);
  for (auto it = running_.begin(); it != running_.end();) {
    if (*it->over) {
      it->thread.join();
      it = running_.erase(it);
    } else {
      ++it;
    }
  }
  running_.push_back({work, over, std::thread([this, work, over] {
                        if (options_.prepare_thread != nullptr) options_.prepare_thread();
                        v1::AttemptEnded ended = Run(work);
                        attempts_->Ended(*work, std::move(ended));
                        *over = true;
                      })});
}

v1::AttemptEnded GangRunner::Run(const std::shared_ptr<RunningWork>& work) {
  const v1::GangSeat& seat = work->assign.gang();
  bool joined = false;
  absl::Status status;
  try {
    status = Train(*work, &joined);
  } catch (const std::exception& error) {
    status = StatusOfException(error);
  }
  work->OnCancel(nullptr);
  work->OnAskWhom(nullptr);
  v1::AttemptEnded ended;
  if (work->cancelled) {
    ended.set_outcome(v1::OUTCOME_YIELDED);
    ended.set_cause("cancelled");
  } else if (status.ok()) {
    ended.set_outcome(work->yield ? v1::OUTCOME_YIELDED : v1::OUTCOME_DONE);
  } else {
    ended.set_cause(absl::StrCat("rank ", seat.rank(), " of ", seat.roster_size(), " (worker ",
                                 options_.worker, "): ", status.ToString()));
    if (joined && (absl::IsUnavailable(status) || absl::IsAborted(status) ||
                   absl::IsDeadlineExceeded(status))) {
      ended.set_outcome(v1::OUTCOME_PEER_LOST);
    } else if (IsUnavailability(status)) {
      ended.set_outcome(v1::OUTCOME_UNAVAILABLE);
    } else {
      ended.set_outcome(v1::OUTCOME_FAILED);
      ended.set_task(work->tasks.empty() ? "" : work->tasks[0].bytes());
    }
    DERMIS_LOG(kWarning, "gang ", seat.generation().incarnation(), ".", seat.generation().counter(),
               ": ", ended.cause());
  }
  return ended;
}

absl::Status GangRunner::Train(RunningWork& work, bool* joined) {
  const v1::GangSeat& seat = work.assign.gang();
  if (seat.numerics_class() != options_.numerics_class) {
    return absl::UnavailableError(absl::StrCat("the gang is of numerics class ",
                                               seat.numerics_class(), ", this worker of ",
                                               options_.numerics_class));
  }
  // All that may take long comes before the others wait for this rank, and shows that it goes on.
  const ProgressScope progress(&work.progress);
  ASSIGN_OR_RETURN(std::shared_ptr<const ImageData> data, parts_.images(seat.recipe().images()));
  std::string start_state;
  Digest start_digest;  // Its task.
  if (!seat.start_state().empty()) {
    ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(seat.start_state()));
    ASSIGN_OR_RETURN(start_state, parts_.blob(digest));
    ASSIGN_OR_RETURN(start_digest, TaskDigest(TrainTaskOf(seat.recipe(), seat.start_step(),
                                                          options_.numerics_class)));
  }
  TrainerOptions options;
  if (start_state.empty() && !seat.recipe().init().empty()) {
    ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(seat.recipe().init()));
    ASSIGN_OR_RETURN(options.init, parts_.blob(digest));
  }
  if (work.cancelled) return absl::CancelledError("cancelled");

  std::shared_ptr<Collective> collective;
  if (seat.roster_size() <= 1) {
    collective = MakeLocalCollective(seat.recipe().logical_shards());
  } else {
    *joined = true;
    work.OnCancel([this, &seat] { parts_.leave(seat.generation()); });
    work.OnAskWhom([&seat] {  // Any of them may still be on its way.
      std::vector<uint32_t> others(static_cast<size_t>(seat.roster_size()));
      std::iota(others.begin(), others.end(), 0u);
      std::erase(others, seat.rank());
      return others;
    });
    ASSIGN_OR_RETURN(collective, parts_.join(seat, options_.join_patience));
  }
  work.OnCancel([collective, &work] {
    work.yield = true;  // A gang of one has no exchange that could be aborted.
    collective->Abort(absl::CancelledError("cancelled by the coordinator"));
  });

  DERMIS_LOG(kInfo, "gang ", seat.generation().incarnation(), ".", seat.generation().counter(),
             ": rank ", seat.rank(), " of ", std::max(1, seat.roster_size()), " trains from step ",
             seat.start_step());
  work.step = seat.start_step();
  work.OnAskWhom([collective] { return collective->WaitsFor(); });
  auto uploads = std::make_shared<Uploads>();
  absl::Duration last = Clock::Real().Now();
  uint64_t last_unix_ms = Clock::Real().UnixMillis();
  uint64_t last_step = seat.start_step();
  const StateSink sink = [&, uploads](TrainedState state) -> absl::Status {
    if (work.cancelled) return absl::CancelledError("cancelled");
    const uint64_t bytes = state.state.size() + state.best_model.size() + state.last_model.size();
    RETURN_IF_ERROR(uploads->Begin(bytes));
    const absl::Duration now = Clock::Real().Now();
    Finished finished;
    const uint64_t step = state.output.step();
    finished.spec = TrainTaskOf(seat.recipe(), step, options_.numerics_class);
    *finished.payload.mutable_train() = std::move(state.output);
    finished.attempt.set_worker(options_.worker);
    finished.attempt.set_world_size(std::max(1, seat.roster_size()));
    finished.attempt.set_seconds(absl::ToDoubleSeconds(now - last));
    finished.attempt.set_started_unix_ms(last_unix_ms);
    for (const v1::GangMember& member : seat.roster()) finished.attempt.add_gang(member.worker());
    finished.attempt.set_items(step - last_step);
    if (!start_digest.none()) {
      finished.inputs.emplace_back().set_task(start_digest.bytes());
      finished.inputs.back().set_payload(seat.start_state());
    }
    last = now;
    last_unix_ms = Clock::Real().UnixMillis();
    last_step = step;
    for (std::string* bytes : {&state.state, &state.best_model, &state.last_model}) {
      if (!bytes->empty()) finished.blobs.push_back(std::move(*bytes));
    }
    finished.done = [uploads, bytes](absl::Status status) { uploads->End(bytes, status); };
    // States are sent one after the other: none that follows from one that was not taken.
    finished.wanted = [uploads] { return uploads->ok(); };
    completer_->Add(std::move(finished));
    return absl::OkStatus();
  };
  options.threads = options_.threads;
  options.engine = options_.engine;
  options.step = &work.step;
  if (seat.segment_ms() > 0) options.segment = absl::Milliseconds(seat.segment_ms());
  absl::StatusOr<uint64_t> step = absl::InternalError("did not train");
  try {
    step = parts_.train(seat.recipe(), seat.goal(), std::move(data), *collective, start_state,
                        options, sink, work.yield, work.progress);
  } catch (const std::exception& error) {
    step = StatusOfException(error);
  }
  if (!step.ok()) collective->Abort(step.status());  // Nobody waits for this rank.
  const absl::Status stored = uploads->Flush();
  RETURN_IF_ERROR(step.status());
  // That a state could not be stored says nothing about the gang's other ranks.
  if (!stored.ok()) {
    return IsUnavailability(stored) ? absl::ResourceExhaustedError(stored.ToString()) : stored;
  }
  return absl::OkStatus();
}

}  // namespace dermis
