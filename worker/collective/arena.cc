#include "worker/collective/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

namespace dermis {

std::unique_ptr<OwnArena> OwnArena::Make(size_t size) {
  const int fd = memfd_create("dermis-reduce", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return nullptr;
  struct stat info;
  void* data = MAP_FAILED;
  if (fstat(fd, &info) == 0 && ftruncate(fd, static_cast<off_t>(size)) == 0 &&
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
    data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  if (data == MAP_FAILED) {
    close(fd);
    return nullptr;
  }
  return std::unique_ptr<OwnArena>(new OwnArena(fd, info.st_ino, static_cast<char*>(data), size));
}

OwnArena::~OwnArena() {
  munmap(data_, size_);
  close(fd_);
}

ArenaRange OwnArena::Range(uint64_t offset, uint64_t bytes) const {
  return {static_cast<uint64_t>(getpid()), static_cast<uint64_t>(fd_), size_, inode_, offset, bytes};
}

PeerArena::~PeerArena() { Unmap(); }

void PeerArena::Unmap() {
  if (data_ != nullptr) munmap(data_, size_);
  data_ = nullptr;
}

const char* PeerArena::At(const ArenaRange& range) {
  if (range.offset > range.size || range.bytes > range.size - range.offset) return nullptr;
  if (data_ == nullptr || range.process != process_ || range.descriptor != descriptor_ ||
      range.size != size_ || range.inode != inode_) {
    Unmap();
    const std::string path =
        "/proc/" + std::to_string(range.process) + "/fd/" + std::to_string(range.descriptor);
    // Whatever a peer names: a pipe must not hold us up.
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return nullptr;
    struct stat info;
    const int seals = fcntl(fd, F_GET_SEALS);
    // A file that could shrink could kill this process.
    if (seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && fstat(fd, &info) == 0 &&
        static_cast<uint64_t>(info.st_size) == range.size && info.st_ino == range.inode &&
        range.size > 0) {
      void* data = mmap(nullptr, range.size, PROT_READ, MAP_SHARED, fd, 0);
      if (data != MAP_FAILED) data_ = data;
    }
    close(fd);
    if (data_ == nullptr) return nullptr;
    process_ = range.process;
    descriptor_ = range.descriptor;
    size_ = range.size;
    inode_ = range.inode;
  }
  return static_cast<const char*>(data_) + range.offset;
}

}  // namespace dermis
