// Blobs as a worker sees them: a local cache in front of the coordinator, other workers and a
// shared folder.
#ifndef DERMIS_WORKER_BLOB_CACHE_H_
#define DERMIS_WORKER_BLOB_CACHE_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "common/blob_store.h"
#include "common/digest.h"

namespace dermis {

// Thread-safe. A blob that several threads want at once is fetched once.
class BlobCache {
 public:
  using Download = std::function<absl::StatusOr<std::string>(const Digest&)>;   // Verified bytes.
  using Upload = std::function<absl::Status(const Digest&, std::string_view)>;  // Durable when OK.
  struct Options {
    // Bytes on the disk; beyond them the least recently used blobs are deleted.
    uint64_t limit = std::numeric_limits<uint64_t>::max();
    // Told of each blob that came here, and whether a copy could be kept.
    std::function<void(const Digest&, uint64_t size, bool kept)> came = nullptr;
  };

  BlobCache(std::unique_ptr<BlobStore> store, Download download, Upload upload, Options options);
  BlobCache(std::unique_ptr<BlobStore> store, Download download, Upload upload)
      : BlobCache(std::move(store), std::move(download), std::move(upload), Options{}) {}

  // From the disk (verified there), else downloaded and kept on the disk. All errors are
  // UNAVAILABLE: that a blob cannot be had is never the fault of the task that wants it.
  absl::StatusOr<std::string> Get(const Digest& digest);

  // Durable at the coordinator when OK; a copy stays here (best effort: a full cache disk does not matter).
  absl::Status Put(const Digest& digest, std::string_view bytes);

  // The coordinator asked for a blob again: sends the copy that is here. UNAVAILABLE when it is gone.
  absl::Status PutAgain(const Digest& digest);

  // The copy here, if there is one, goes. Best effort: what the disk refuses is logged.
  void Forget(const Digest& digest);

 private:
  // False: the bytes have another hash.
  bool Keep(const Digest& digest, std::string_view bytes, bool* kept);

  const std::unique_ptr<BlobStore> store_;
  const Download download_;
  const Upload upload_;
  const Options options_;
  absl::Mutex mutex_;
  absl::CondVar fetched_;
  std::map<Digest, int> fetching_ ABSL_GUARDED_BY(mutex_);
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_);  // On the disk, at most.
};

// What a cache may take where nobody says: 20 GB, or half of the space that is free (or taken by
// the cache already), whichever is less.
uint64_t DefaultCacheLimit(BlobStore& store);

}  // namespace dermis

#endif  // DERMIS_WORKER_BLOB_CACHE_H_
