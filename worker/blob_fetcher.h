// Where a worker gets a blob that its cache has not: a shared folder, another worker, at last the
// coordinator (coordinator/services/blob_holders.h says who gets what from whom).
#ifndef DERMIS_WORKER_BLOB_FETCHER_H_
#define DERMIS_WORKER_BLOB_FETCHER_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"

#include "common/blob_client.h"
#include "common/digest.h"
#include "dermis/v1/blobs.pb.h"

namespace dermis {

// Thread-safe.
class BlobFetcher {
 public:
  using Dial = std::function<absl::StatusOr<std::shared_ptr<grpc::Channel>>(const v1::BlobPeer&)>;
  struct Options {
    v1::BlobPeer me;            // How peers reach this worker.
    std::string shared_folder;  // In the layout of a blob store, only read; "" = none.
    absl::Duration stall = absl::Seconds(10);  // A peer that sends nothing for so long is left.
  };
  // `coordinator` outlives this.
  BlobFetcher(BlobClient* coordinator, Dial dial, Options options);
  // From the next call on (the certificate was renewed). Outlives this, as does the one before.
  void Use(BlobClient* coordinator) { coordinator_ = coordinator; }

  // The bytes, verified, whoever sent them. A peer or folder that fails or has other bytes is
  // logged and passed over: an error is the coordinator's.
  absl::StatusOr<std::string> Get(const Digest& digest);

  // A blob was got or stored here, and is (`kept`) in the cache that this worker serves. Best
  // effort.
  void Tell(const Digest& digest, uint64_t size, bool kept);

 private:
  absl::StatusOr<std::string> FromFolder(const Digest& digest) const;
  absl::StatusOr<std::string> FromPeer(const Digest& digest, const v1::BlobPeer& peer) const;
  void Avoid(const std::string& worker);
  void AddAvoided(v1::GetRequest* request);

  std::atomic<BlobClient*> coordinator_;
  const Dial dial_;
  const Options options_;
  absl::Mutex mutex_;
  std::map<std::string, absl::Duration> avoid_ ABSL_GUARDED_BY(mutex_);  // Worker -> until when.
};

}  // namespace dermis

#endif  // DERMIS_WORKER_BLOB_FETCHER_H_
