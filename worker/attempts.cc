#include "worker/attempts.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/clock.h"
#include "common/log.h"
#include "common/tasks.h"

namespace dermis {

void RunningWork::OnCancel(std::function<void()> callback) {
  absl::MutexLock lock(&mutex_);
  on_cancel_ = std::move(callback);
  if (on_cancel_ != nullptr && cancelled) on_cancel_();
}

void RunningWork::Cancel() {
  absl::MutexLock lock(&mutex_);
  if (cancelled.exchange(true)) return;
  if (on_cancel_ != nullptr) on_cancel_();
}

void RunningWork::OnAskWhom(std::function<std::vector<uint32_t>()> callback) {
  absl::MutexLock lock(&mutex_);
  whom_ = std::move(callback);
}

std::vector<uint32_t> RunningWork::WaitsFor() {
  absl::MutexLock lock(&mutex_);
  return whom_ == nullptr ? std::vector<uint32_t>() : whom_();
}

void Attempts::Assign(const v1::Assign& assign) {
  auto work = std::make_shared<RunningWork>();
  work->assign = assign;
  if (assign.has_bundle()) {
    for (const v1::TaskSpec& task : assign.bundle().tasks()) {
      const absl::StatusOr<Digest> digest = TaskDigest(task);
      work->tasks.push_back(digest.ok() ? *digest : Digest());
    }
  } else if (assign.has_gang()) {
    const absl::StatusOr<Digest> digest =
        RecipeDigest(assign.gang().recipe(), assign.gang().numerics_class());
    work->tasks.push_back(digest.ok() ? *digest : Digest());
  }
  {
    absl::MutexLock lock(&mutex_);
    if (!entries_.emplace(assign.assignment(), Entry{work, false, {}}).second) return;
  }
  if (draining_) work->yield = true;
  start_(std::move(work));
}

void Attempts::Cancel(uint64_t assignment) {
  std::shared_ptr<RunningWork> work;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = entries_.find(assignment);
    if (it != entries_.end()) {
      work = it->second.work;
      if (!it->second.cancelled) it->second.cancelled = Clock::Real().Now();
    }
  }
  if (work != nullptr) work->Cancel();
}

bool Attempts::Yield(uint64_t assignment) {
  absl::MutexLock lock(&mutex_);
  const auto it = entries_.find(assignment);
  return it != entries_.end() && !it->second.work->yield.exchange(true);
}

void Attempts::Drain() {
  draining_ = true;
  {
    absl::MutexLock lock(&mutex_);
    for (auto& [assignment, entry] : entries_) entry.work->yield = true;
  }
  Wake();
}

absl::Duration Attempts::Ignored() {
  absl::MutexLock lock(&mutex_);
  const absl::Duration now = Clock::Real().Now();
  absl::Duration longest;
  const auto look = [&](Entry& entry) {
    if (entry.over || !entry.cancelled) return;
    if (const uint64_t progress = entry.work->progress; progress != entry.progress) {
      entry.progress = progress;
      entry.cancelled = now;
    }
    longest = std::max(longest, now - *entry.cancelled);
  };
  for (auto& [assignment, entry] : entries_) look(entry);
  for (Entry& entry : dropped_) look(entry);
  return longest;
}

void Attempts::Reconcile(const std::vector<uint64_t>& adopted) {
  const std::set<uint64_t> keep(adopted.begin(), adopted.end());
  std::vector<std::shared_ptr<RunningWork>> dropped;
  {
    absl::MutexLock lock(&mutex_);
    for (auto it = entries_.begin(); it != entries_.end();) {
      if (keep.count(it->first) > 0) {
        ++it;
        continue;
      }
      if (!it->second.over) {
        dropped.push_back(it->second.work);
        if (!it->second.cancelled) it->second.cancelled = Clock::Real().Now();
        dropped_.push_back(it->second);
      }
      over_.erase(std::remove(over_.begin(), over_.end(), it->first), over_.end());
      it = entries_.erase(it);
    }
  }
  for (const auto& work : dropped) {
    DERMIS_LOG(kInfo, "attempt ", work->assign.assignment(), " was not adopted: dropped");
    work->Cancel();
  }
}

void Attempts::Ended(const RunningWork& work, v1::AttemptEnded ended) {
  const uint64_t assignment = work.assign.assignment();
  ended.set_assignment(assignment);
  absl::MutexLock lock(&mutex_);
  std::erase_if(dropped_, [&](const Entry& entry) { return entry.work.get() == &work; });
  const auto it = entries_.find(assignment);
  if (it == entries_.end() || it->second.work.get() != &work || it->second.over) return;
  it->second.over = true;
  it->second.ended = std::move(ended);
  over_.push_back(assignment);
}

std::vector<v1::RunningAttempt> Attempts::Running() const {
  absl::MutexLock lock(&mutex_);
  std::vector<v1::RunningAttempt> out;
  for (const auto& [assignment, entry] : entries_) {
    v1::RunningAttempt running;
    running.set_assignment(assignment);
    for (const Digest& task : entry.work->tasks) running.add_tasks(task.bytes());
    running.set_progress(entry.work->progress);
    if (entry.work->assign.has_gang()) {
      *running.mutable_generation() = entry.work->assign.gang().generation();
      running.set_step(entry.work->step);
      for (uint32_t rank : entry.work->WaitsFor()) running.add_waits_for(rank);
    }
    out.push_back(std::move(running));
  }
  return out;
}

std::vector<v1::AttemptEnded> Attempts::Ends() const {
  absl::MutexLock lock(&mutex_);
  std::vector<v1::AttemptEnded> out;
  for (const uint64_t assignment : over_) out.push_back(entries_.at(assignment).ended);
  return out;
}

void Attempts::Told(uint64_t assignment) {
  absl::MutexLock lock(&mutex_);
  over_.erase(std::remove(over_.begin(), over_.end(), assignment), over_.end());
  entries_.erase(assignment);
}

void Attempts::WaitForEnds(absl::Duration timeout, const std::atomic<bool>& stop) {
  absl::MutexLock lock(&mutex_);
  const uint64_t wakes = wakes_;
  auto ready = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return !over_.empty() || stop || wakes_ != wakes;
  };
  mutex_.AwaitWithTimeout(absl::Condition(&ready), timeout);
}

void Attempts::Wake() {
  absl::MutexLock lock(&mutex_);
  ++wakes_;
}

bool Attempts::WaitUntilIdle(absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  auto idle = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return entries_.empty(); };
  return mutex_.AwaitWithTimeout(absl::Condition(&idle), timeout);
}

}  // namespace dermis
