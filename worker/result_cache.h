// Results of other tasks that a task takes as inputs.
#ifndef DERMIS_WORKER_RESULT_CACHE_H_
#define DERMIS_WORKER_RESULT_CACHE_H_

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/digest.h"
#include "dermis/v1/cluster.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// Thread-safe. Keeps the least recently used out of memory beyond `limit_bytes`.
class ResultCache {
 public:
  using Fetch = std::function<absl::StatusOr<v1::FetchResultsResponse>(const v1::FetchResultsRequest&)>;
  using GetBlob = std::function<absl::StatusOr<std::string>(const Digest&)>;
  ResultCache(Fetch fetch, GetBlob get_blob, uint64_t limit_bytes = 64 << 20);

  // Payloads in the order of `tasks`, verified against their digests, and noted (used_results.h).
  // UNAVAILABLE when one cannot be had.
  absl::StatusOr<std::vector<std::shared_ptr<const v1::Payload>>> Get(
      const std::vector<v1::TaskSpec>& tasks);

  // It does not stand any more: asked for anew.
  void Forget(const Digest& task);
  void Clear();  // The same of all.

 private:
  struct Result {
    std::shared_ptr<const v1::Payload> payload;
    Digest digest;
  };
  struct Entry {
    Result result;
    uint64_t bytes;
    std::list<Digest>::iterator used;
  };
  std::shared_ptr<const v1::Payload> Find(const Digest& task);
  void Keep(const Digest& task, Result result);
  // Asks for the tasks with these indices and puts them into `out`.
  absl::Status FetchPart(const std::vector<v1::TaskSpec>& tasks, const std::vector<Digest>& digests,
                         absl::Span<const size_t> absent, std::vector<std::shared_ptr<const v1::Payload>>& out);
  absl::StatusOr<Result> Unpack(const v1::TaskResult& result);

  const Fetch fetch_;
  const GetBlob get_blob_;
  const uint64_t limit_bytes_;
  absl::Mutex mutex_;
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::list<Digest> order_ ABSL_GUARDED_BY(mutex_);  // Least recently used first.
  std::map<Digest, Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_WORKER_RESULT_CACHE_H_
