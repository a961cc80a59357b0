// Results on their way to the coordinator: facts, retried until it has them for good.
#ifndef DERMIS_WORKER_COMPLETER_H_
#define DERMIS_WORKER_COMPLETER_H_

#include <cstdint>
#include <deque>
#include <functional>
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
#include "worker/blob_cache.h"

namespace dermis {

// A task's result before it is packed: the payload, and the bytes of the blobs that it names.
struct Finished {
  v1::TaskSpec spec;
  v1::Payload payload;
  v1::Attempt attempt;
  std::vector<std::string> blobs = {};
  std::vector<v1::UsedResult> inputs = {};  // Results that it was computed from.
  // Called once, from a thread of the completer: OK = durable. FAILED_PRECONDITION = the
  // coordinator refused it; DATA_LOSS = another result is stored for this task; UNAVAILABLE = its
  // blobs could not be stored (disk full, ...), or what it was computed from does not stand any
  // more; CANCELLED = the completer was stopped.
  std::function<void(absl::Status)> done;
  // Asked before blobs are sent, where set: false = not any more (done gets CANCELLED).
  std::function<bool()> wanted = nullptr;
};

// The result of a task: inline up to 16 KiB, else as a blob, whose bytes go to *payload_blob.
absl::StatusOr<v1::TaskResult> PackResult(const v1::TaskSpec& spec, const v1::Payload& payload,
                                          std::string* payload_blob);

// Thread-safe. Small results travel in batches; those with blobs are sent beside them by another thread, so
// that the upload of a training state holds up nobody.
class Completer {
 public:
  using Call = std::function<absl::StatusOr<v1::CompleteTasksResponse>(const v1::CompleteTasksRequest&)>;
  // Call: UNAVAILABLE, DEADLINE_EXCEEDED, ... are retried for ever (the coordinator may be away).
  Completer(Call call, BlobCache* blobs, absl::Duration retry = absl::Milliseconds(200));
  ~Completer();  // Stops: what waits is answered CANCELLED.
  void Add(Finished finished);
  void Stop();

 private:
  struct Item {
    v1::Completion completion;
    std::vector<std::pair<Digest, std::string>> blobs;
    std::function<void(absl::Status)> done;
    std::function<bool()> wanted;
    uint64_t bytes = 0;
    int missed = 0;  // How often the coordinator missed a blob.
  };
  void Loop(std::deque<Item>* queue, bool uploads);
  void Send(std::vector<Item> batch);
  bool Pause(int attempt);  // False: stopped.

  const Call call_;
  BlobCache* const blobs_;
  const absl::Duration retry_;
  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Item> small_ ABSL_GUARDED_BY(mutex_);
  std::deque<Item> large_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_COMPLETER_H_
