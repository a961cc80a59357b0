#include "common/blob_trim.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/log.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;

struct Blob {
  fs::file_time_type used;
  uint64_t size;
  std::string path;
};

std::vector<Blob> BlobsOf(const std::string& directory) {
  std::vector<Blob> blobs;
  std::error_code error;
  for (const fs::directory_entry& folder : fs::directory_iterator(directory, error)) {
    // ab/cdef...: what is being written lies in tmp/.
    if (folder.path().filename().string().size() != 2) continue;
    std::error_code ignored;  // What another process has just removed is no blob any more.
    for (const fs::directory_entry& file : fs::directory_iterator(folder.path(), ignored)) {
      const auto used = file.last_write_time(ignored);
      if (ignored) continue;
      const uint64_t size = file.file_size(ignored);
      if (!ignored) blobs.push_back({used, size, file.path().string()});
    }
  }
  return blobs;
}

bool RemoveUnlessLocked(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return false;
  const bool removed = flock(fd, LOCK_EX | LOCK_NB) == 0 && unlink(path.c_str()) == 0;
  close(fd);
  return removed;
}

}  // namespace

uint64_t TrimBlobs(const std::string& directory, uint64_t limit) {
  std::vector<Blob> blobs = BlobsOf(directory);
  uint64_t bytes = 0;
  for (const Blob& blob : blobs) bytes += blob.size;
  if (bytes <= limit) return bytes;
  std::sort(blobs.begin(), blobs.end(),
            [](const Blob& a, const Blob& b) { return a.used < b.used; });
  const uint64_t before = bytes;
  for (const Blob& blob : blobs) {
    if (bytes <= limit) break;
    if (RemoveUnlessLocked(blob.path)) bytes -= blob.size;
  }
  DERMIS_LOG(kInfo, "cache ", directory, ": ", (before - bytes) >> 20,
             " MiB of blobs that were used longest ago are deleted, ", bytes >> 20,
             " MiB are left");
  return bytes;
}

}  // namespace dermis
