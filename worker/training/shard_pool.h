// A few threads that run the shards of a step side by side. Each computes with one Torch thread and
// with denormals flushed to zero (they cost a factor of twenty, and every thread must agree on
// them).
#ifndef DERMIS_WORKER_TRAINING_SHARD_POOL_H_
#define DERMIS_WORKER_TRAINING_SHARD_POOL_H_

#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace dermis {

class ShardPool {
 public:
  explicit ShardPool(uint32_t threads);
  ~ShardPool();
  ShardPool(const ShardPool&) = delete;
  ShardPool& operator=(const ShardPool&) = delete;

  // job(i) for i in [0, n), each once, on any of the threads; returns when all are done. An
  // exception becomes StatusOfException (of the lowest i). Called from one thread at a time.
  absl::Status Run(uint32_t n, const std::function<void(uint32_t)>& job);

 private:
  void Loop();

  absl::Mutex mutex_;
  const std::function<void(uint32_t)>* job_ ABSL_GUARDED_BY(mutex_) = nullptr;
  uint32_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t count_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t failed_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_SHARD_POOL_H_
