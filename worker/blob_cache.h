// Blobs as a worker sees them: a local cache in front of the coordinator.
#ifndef DERMIS_WORKER_BLOB_CACHE_H_
#define DERMIS_WORKER_BLOB_CACHE_H_

#include <functional>
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

  BlobCache(std::unique_ptr<BlobStore> store, Download download, Upload upload);

  // From the disk (verified there), else from the coordinator, which is kept on the disk. All errors are
  // UNAVAILABLE: that a blob cannot be had is never the fault of the task that wants it.
  absl::StatusOr<std::string> Get(const Digest& digest);

  // Durable at the coordinator when OK; a copy stays here (best effort: a full cache disk does not matter).
  absl::Status Put(const Digest& digest, std::string_view bytes);

  // The coordinator asked for a blob again: sends the copy that is here. UNAVAILABLE when it is gone.
  absl::Status PutAgain(const Digest& digest);

 private:
  const std::unique_ptr<BlobStore> store_;
  const Download download_;
  const Upload upload_;
  absl::Mutex mutex_;
  absl::CondVar fetched_;
  std::map<Digest, int> fetching_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_WORKER_BLOB_CACHE_H_
