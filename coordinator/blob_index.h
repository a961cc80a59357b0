// What the core needs to know of blobs. `services` implements it over BlobStore.
#ifndef DERMIS_COORDINATOR_BLOB_INDEX_H_
#define DERMIS_COORDINATOR_BLOB_INDEX_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

#include "common/digest.h"

namespace dermis {

// Thread-safe.
class BlobIndex {
 public:
  virtual ~BlobIndex() = default;
  virtual bool Has(const Digest& digest) const = 0;
  // Small blobs only (manifests, payloads beyond 16 KiB). NOT_FOUND, DATA_LOSS.
  virtual absl::StatusOr<std::string> Read(const Digest& digest) const = 0;
  virtual uint64_t Size(const Digest& digest) const = 0;  // 0 where it is not there.
  // It is about to be removed: whoever asks whether to upload it is told that it is not there, and
  // who then does keeps it.
  virtual void Going(const Digest& digest) = 0;
  virtual void Keep(const Digest& digest) = 0;  // Not going any more.
  // Where it still is going. Fine where it is not there.
  virtual void RemoveGoing(const Digest& digest) = 0;
  virtual uint64_t FreeBytes() const = 0;
  virtual bool LowDisk() const = 0;  // Below the reserve: new studies are refused.
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_BLOB_INDEX_H_
