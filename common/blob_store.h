// Blobs on a disk: bytes under their SHA-256, in a directory ab/cdef... A blob is written to a temporary
// file while it is hashed, fsynced, renamed, and its folder fsynced: after Commit it is there for good or
// was never there. Used by the coordinator (durable) and by workers (cache).
#ifndef DERMIS_COMMON_BLOB_STORE_H_
#define DERMIS_COMMON_BLOB_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/digest.h"

namespace dermis {

// Thread-safe.
class BlobStore {
 public:
  struct Options {
    bool durable = true;                 // fsync files and folders; a cache need not.
    uint64_t reserve_bytes = 0;          // Free space kept: Put below it gives RESOURCE_EXHAUSTED.
  };
  // Makes the directory (0700) where needed and removes temporary files of a crash.
  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(const std::string& directory, Options options);

  class Writer {                          // One blob being written. Dropped = removed.
   public:
    virtual ~Writer() = default;
    virtual absl::Status Append(std::string_view data) = 0;
    // INVALID_ARGUMENT when the bytes do not hash to `expected`; storing what is there already is fine.
    virtual absl::Status Commit(const Digest& expected) = 0;
  };

  // One blob being read, in bounded memory. It reads on when the blob is removed, and Trim leaves
  // it.
  class Reader {
   public:
    virtual ~Reader() = default;
    virtual uint64_t size() const = 0;
    // Up to `most` further bytes; "" at the end. The last bytes come only when the hash of all is
    // right: DATA_LOSS (and the blob removed) when the disk changed it.
    virtual absl::Status Read(size_t most, std::string* piece) = 0;
  };

  virtual ~BlobStore() = default;
  virtual bool Has(const Digest& digest) const = 0;
  virtual absl::StatusOr<uint64_t> Size(const Digest& digest) const = 0;   // NOT_FOUND
  virtual absl::StatusOr<std::unique_ptr<Writer>> NewWriter() = 0;
  virtual absl::StatusOr<std::unique_ptr<Reader>> NewReader(const Digest& digest) = 0;  // NOT_FOUND
  virtual absl::StatusOr<Digest> Put(std::string_view bytes) = 0;
  // Whole blob, hash verified: DATA_LOSS (and the blob removed) when the disk changed it. NOT_FOUND.
  virtual absl::StatusOr<std::string> Get(const Digest& digest) = 0;
  virtual std::string PathOf(const Digest& digest) const = 0;   // For mmap and zero-copy readers.
  virtual absl::Status Remove(const Digest& digest) = 0;
  virtual uint64_t FreeBytes() const = 0;
  // For a cache: removes the least recently used blobs until at most `limit` bytes are left, and
  // gives what is left. Blobs that are being read stay.
  virtual uint64_t Trim(uint64_t limit) = 0;
};

}  // namespace dermis

#endif  // DERMIS_COMMON_BLOB_STORE_H_
