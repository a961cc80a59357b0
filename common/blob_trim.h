// Keeps a folder of blobs (the layout of blob_store.h) below a size.
#ifndef DERMIS_COMMON_BLOB_TRIM_H_
#define DERMIS_COMMON_BLOB_TRIM_H_

#include <cstdint>
#include <string>

namespace dermis {

// Deletes the files that were used longest ago (by their time of change, which readers of a cache
// move) until at most `limit` bytes of blobs are left; gives what is left. A file that someone has
// locked stays. Reads the whole folder: call it when it is worth it. Errors only leave more behind.
uint64_t TrimBlobs(const std::string& directory, uint64_t limit);

}  // namespace dermis

#endif  // DERMIS_COMMON_BLOB_TRIM_H_
