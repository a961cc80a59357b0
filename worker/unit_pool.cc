#include "worker/unit_pool.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/progress.h"
#include "common/status_macros.h"
#include "common/tasks.h"
#include "worker/unavailability.h"
#include "worker/used_results.h"

namespace dermis {

struct UnitPool::Bundle {
  std::shared_ptr<RunningWork> work;
  absl::Mutex mutex;
  int open ABSL_GUARDED_BY(mutex) = 0;
  int failed ABSL_GUARDED_BY(mutex) = -1;  // Lowest index whose function returned an error.
  absl::Status failure ABSL_GUARDED_BY(mutex);
  absl::Status unavailable ABSL_GUARDED_BY(mutex);
  bool skipped ABSL_GUARDED_BY(mutex) = false;
  // Of a question.
  std::unique_ptr<GivenBundle> given;
  std::vector<v1::GivenResult> results ABSL_GUARDED_BY(mutex);
};

UnitPool::UnitPool(Run run, Completer* completer, Attempts* attempts, Options options)
    : run_(std::move(run)), completer_(completer), attempts_(attempts), options_(std::move(options)) {
  for (uint32_t i = 0; i < std::max(1u, options_.threads); ++i) {
    threads_.emplace_back([this] { Loop(); });
  }
}

UnitPool::~UnitPool() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

void UnitPool::Start(std::shared_ptr<RunningWork> work) {
  auto bundle = std::make_shared<Bundle>();
  bundle->work = std::move(work);
  const v1::Bundle& assigned = bundle->work->assign.bundle();
  if (assigned.has_given()) bundle->given = std::make_unique<GivenBundle>(assigned.given(), &bundle->work->cancelled);
  const int n = assigned.tasks_size() + (assigned.given().has_familiarity() ? 1 : 0);
  if (n == 0) {
    v1::AttemptEnded ended;
    ended.set_outcome(v1::OUTCOME_DONE);
    attempts_->Ended(*bundle->work, std::move(ended));
    return;
  }
  {
    absl::MutexLock lock(&bundle->mutex);
    bundle->open = n;
  }
  absl::MutexLock lock(&mutex_);
  for (int i = 0; i < n; ++i) queue_.push_back({bundle, i});
}

void UnitPool::Loop() {
  if (options_.prepare_thread != nullptr) options_.prepare_thread();
  PlanCache plans(options_.foreign, options_.networks);
  while (true) {
    Unit unit;
    {
      absl::MutexLock lock(&mutex_);
      auto ready = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stop_ || !queue_.empty(); };
      mutex_.Await(absl::Condition(&ready));
      if (stop_) return;
      unit = std::move(queue_.front());
      queue_.pop_front();
    }
    Compute(unit, plans);
  }
}

void UnitPool::Compute(const Unit& unit, PlanCache& plans) {
  RunningWork& work = *unit.bundle->work;
  if (work.cancelled || work.yield) {
    Resolve(unit.bundle, unit.index, absl::CancelledError("not run"));
    return;
  }
  if (unit.bundle->given != nullptr) return Answer(unit, plans);
  const v1::TaskSpec& task = work.assign.bundle().tasks(unit.index);
  Finished finished;
  finished.attempt.set_started_unix_ms(Clock::Real().UnixMillis());
  const absl::Duration start = Clock::Real().Now();
  uint64_t items = 0;
  absl::StatusOr<v1::Payload> payload = [&] {
    const ProgressScope progress(&work.progress);
    const UsedResults results;
    auto out = run_(task, plans, &items);
    finished.inputs = results.used();
    return out;
  }();
  ++work.progress;
  if (!payload.ok()) {
    DERMIS_LOG(kWarning, Describe(task), ": ", payload.status().ToString());
    // CANCELLED is this pool's own word for "not run"; from a function it means: not available.
    Resolve(unit.bundle, unit.index,
            absl::IsCancelled(payload.status())
                ? absl::UnavailableError(payload.status().message())
                : payload.status());
    return;
  }
  finished.spec = task;
  finished.payload = *std::move(payload);
  finished.attempt.set_worker(options_.worker);
  finished.attempt.set_world_size(1);
  finished.attempt.set_seconds(absl::ToDoubleSeconds(Clock::Real().Now() - start));
  finished.attempt.set_items(items);
  finished.done = [this, bundle = unit.bundle, index = unit.index](absl::Status status) {
    // A result that the coordinator refuses, or has otherwise, is deterministic as far as this worker can
    // tell: the coordinator decides what to do with the task.
    Resolve(bundle, index, status);
  };
  completer_->Add(std::move(finished));
}

void UnitPool::Answer(const Unit& unit, PlanCache& plans) {
  RunningWork& work = *unit.bundle->work;
  const v1::Bundle& bundle = work.assign.bundle();
  const bool familiarity = unit.index == bundle.tasks_size();
  v1::GivenResult result;
  const absl::Status status = [&]() -> absl::Status {
    const ProgressScope progress(&work.progress);
    if (familiarity) {
      if (options_.familiarity == nullptr) return absl::UnimplementedError("not here");
      ASSIGN_OR_RETURN(const v1::Familiarity found,
                       options_.familiarity(bundle.given().familiarity(), *unit.bundle->given));
      found.SerializeToString(result.mutable_payload());
      return absl::OkStatus();
    }
    const GivenBundle::Scope scope(unit.bundle->given.get());
    uint64_t items = 0;
    ASSIGN_OR_RETURN(const v1::Payload payload, run_(bundle.tasks(unit.index), plans, &items));
    result.set_task(work.tasks[unit.index].bytes());
    payload.SerializeToString(result.mutable_payload());
    return absl::OkStatus();
  }();
  ++work.progress;
  if (status.ok()) {
    absl::MutexLock lock(&unit.bundle->mutex);
    unit.bundle->results.push_back(std::move(result));
  }
  Resolve(unit.bundle, unit.index,
          absl::IsCancelled(status) ? absl::UnavailableError(status.message()) : status);
}

void UnitPool::Resolve(const std::shared_ptr<Bundle>& bundle, int index, const absl::Status& status) {
  v1::AttemptEnded ended;
  {
    absl::MutexLock lock(&bundle->mutex);
    if (absl::IsCancelled(status)) {
      bundle->skipped = true;
    } else if (!status.ok() && IsUnavailability(status)) {
      if (bundle->unavailable.ok()) bundle->unavailable = status;
    } else if (!status.ok() && (bundle->failed < 0 || index < bundle->failed)) {
      bundle->failed = index;
      bundle->failure = status;
    }
    if (--bundle->open > 0) return;
    if (bundle->failed >= 0) {
      ended.set_outcome(v1::OUTCOME_FAILED);
      const v1::Bundle& assigned = bundle->work->assign.bundle();
      const bool task = bundle->failed < assigned.tasks_size();  // Else: the familiarity.
      if (task) ended.set_task(bundle->work->tasks[bundle->failed].bytes());
      ended.set_cause(absl::StrCat(task ? Describe(assigned.tasks(bundle->failed)) : "familiarity", ": ",
                                   bundle->failure.ToString()));
    } else if (!bundle->unavailable.ok()) {
      ended.set_outcome(v1::OUTCOME_UNAVAILABLE);
      ended.set_cause(std::string(bundle->unavailable.message()));
    } else if (bundle->skipped) {
      ended.set_outcome(v1::OUTCOME_YIELDED);
      ended.set_cause("cancelled or told to yield");
    } else {
      ended.set_outcome(v1::OUTCOME_DONE);
    }
    for (v1::GivenResult& result : bundle->results) *ended.add_results() = std::move(result);
  }
  attempts_->Ended(*bundle->work, std::move(ended));
}

}  // namespace dermis
