// Small helpers of the worker's tests.
#ifndef DERMIS_TESTS_UNIT_WORKER_RUNNER_FAKES_H_
#define DERMIS_TESTS_UNIT_WORKER_RUNNER_FAKES_H_

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/blob_store.h"
#include "common/tasks.h"
#include "dermis/v1/cluster.pb.h"
#include "worker/attempts.h"
#include "worker/blob_cache.h"
#include "worker/completer.h"

namespace dermis {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "dermis-test-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline v1::TaskSpec Noop(uint64_t index) {
  v1::TaskSpec spec;
  spec.mutable_noop()->set_index(index);
  return MakeTask(std::move(spec), "test");
}

// The coordinator's side of completions and blobs, in memory. Thread-safe.
class FakeCoordinator {
 public:
  absl::StatusOr<v1::CompleteTasksResponse> Complete(const v1::CompleteTasksRequest& request) {
    absl::MutexLock lock(&mutex);
    ++calls;
    if (away > 0) {
      --away;
      return absl::UnavailableError("away");
    }
    v1::CompleteTasksResponse response;
    for (const v1::Completion& completion : request.completions()) {
      v1::CompletionReply& reply = *response.add_replies();
      const v1::TaskResult& result = completion.result();
      for (const std::string& blob : result.blobs()) {
        if (blobs.count(blob) == 0) reply.add_missing(blob);
      }
      if (!result.payload_blob().empty() && blobs.count(result.payload_blob()) == 0) {
        reply.add_missing(result.payload_blob());
      }
      if (blobs_alone && !result.payload().empty()) reply.add_missing(result.payload_digest());
      const auto forced = verdicts.find(result.task());
      if (forced != verdicts.end()) {
        reply.set_verdict(forced->second);
        reply.set_cause("forced by the test");
      } else if (reply.missing_size() > 0) {
        reply.set_verdict(v1::CompletionReply::MISSING);
      } else {
        reply.set_verdict(v1::CompletionReply::STORED);
        stored[result.task()] = completion;
      }
    }
    return response;
  }
  absl::Status Upload(const Digest& digest, std::string_view bytes) {
    absl::MutexLock lock(&mutex);
    if (full) return absl::ResourceExhaustedError("disk full");
    if (lose > 0) {
      --lose;  // Says that it is stored, and has it not: a disk that lies, or a blob dropped since.
    } else {
      blobs[digest.bytes()] = std::string(bytes);
    }
    return absl::OkStatus();
  }
  size_t Stored() {
    absl::MutexLock lock(&mutex);
    return stored.size();
  }

  absl::Mutex mutex;
  int away = 0, lose = 0, calls = 0;
  bool full = false, blobs_alone = false;
  std::map<std::string, v1::CompletionReply::Verdict> verdicts;
  std::map<std::string, std::string> blobs;
  std::map<std::string, v1::Completion> stored;
};

// A completer and what it needs, against a FakeCoordinator.
struct CompleterBench {
  TemporaryFolder folder;
  FakeCoordinator coordinator;
  BlobCache blobs{*BlobStore::Open(folder.path(), {.durable = false}),
                  [](const Digest&) { return absl::NotFoundError("no blobs here"); },
                  [this](const Digest& d, std::string_view b) { return coordinator.Upload(d, b); }};
  Completer completer{[this](const v1::CompleteTasksRequest& r) { return coordinator.Complete(r); }, &blobs,
                      absl::Milliseconds(1)};
};

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_WORKER_RUNNER_FAKES_H_
