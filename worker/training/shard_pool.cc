#include "worker/training/shard_pool.h"

#include <algorithm>
#include <exception>

#include <malloc.h>
#include <torch/types.h>

#include "worker/unavailability.h"

namespace dermis {

namespace {

// A step frees and takes the same few megabytes of maps again and again. glibc would give each back
// to the system and fault its pages in anew: keep them. For the whole process, from the first pool
// on.
void KeepFreedMemory() {
  static const bool once = [] {
    mallopt(M_MMAP_THRESHOLD, 32 << 20);  // The largest that glibc takes.
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    return true;
  }();
  (void)once;
}

}  // namespace

ShardPool::ShardPool(uint32_t threads) {
  KeepFreedMemory();
  for (uint32_t i = 0; i < std::max(threads, 1u); ++i) threads_.emplace_back([this] { Loop(); });
}

ShardPool::~ShardPool() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

absl::Status ShardPool::Run(uint32_t n, const std::function<void(uint32_t)>& job) {
  absl::MutexLock lock(&mutex_);
  job_ = &job;
  next_ = done_ = 0;
  count_ = n;
  failed_ = n;
  failure_ = absl::OkStatus();
  auto finished = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return done_ == count_; };
  mutex_.Await(absl::Condition(&finished));
  job_ = nullptr;
  return failure_;
}

void ShardPool::Loop() {
  at::set_num_threads(1);
  at::globalContext().setFlushDenormal(true);  // Of this thread.
  auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return stop_ || (job_ != nullptr && next_ < count_);
  };
  absl::MutexLock lock(&mutex_);
  while (true) {
    mutex_.Await(absl::Condition(&ready));
    if (stop_) return;
    const uint32_t i = next_++;
    const std::function<void(uint32_t)>& job = *job_;
    mutex_.Unlock();
    absl::Status status;
    try {
      job(i);
    } catch (const std::exception& e) {
      status = StatusOfException(e);
    }
    mutex_.Lock();
    if (!status.ok() && i < failed_) {
      failed_ = i;
      failure_ = status;
    }
    ++done_;
  }
}

}  // namespace dermis
