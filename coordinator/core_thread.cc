#include "coordinator/core_thread.h"

#include <utility>

namespace dermis {

CoreThread::CoreThread(Core& core, std::function<void(const absl::Status&)> failed)
    : core_(core), failed_(std::move(failed)), thread_([this] { Run(); }) {}

CoreThread::~CoreThread() { Stop(); }

void CoreThread::Post(Command command) {
  absl::MutexLock lock(&mutex_);
  if (!stop_) queue_.push_back(std::move(command));
}

void CoreThread::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void CoreThread::Run() {
  constexpr absl::Duration kTick = absl::Milliseconds(100);
  std::vector<Command> commands;
  bool last = false;
  while (!last) {
    commands.clear();
    {
      absl::MutexLock lock(&mutex_);
      const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stop_ || !queue_.empty();
      };
      mutex_.AwaitWithTimeout(absl::Condition(&ready), kTick);
      commands.swap(queue_);
      last = stop_;
    }
    const absl::Duration before = Clock::Real().Now();
    for (Command& command : commands) command(core_);
    // After long work what waits is heard first: beats among it tell who is alive.
    if (!last && Clock::Real().Now() - before > kTick) {
      {
        absl::MutexLock lock(&mutex_);
        commands.swap(queue_);
        queue_.clear();
      }
      for (Command& command : commands) command(core_);
    }
    core_.Tick();
    if (absl::Status status = core_.Flush(); !status.ok()) {
      {
        absl::MutexLock lock(&mutex_);
        stop_ = true;
        queue_.clear();
      }
      failed_(status);
      return;
    }
  }
}

}  // namespace dermis
