// Shared memory between the ranks of one host: what one rank writes once, the others read where it lies.
// Anonymous (memfd), so nothing stays behind when a process is killed; opened through /proc/PID/fd, which
// only processes of the same user in the same PID namespace can do.
#ifndef DERMIS_WORKER_COLLECTIVE_ARENA_H_
#define DERMIS_WORKER_COLLECTIVE_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <memory>

namespace dermis {

// Names a range of an arena to another process.
struct ArenaRange {
  uint64_t process, descriptor, size;   // The arena ...
  uint64_t inode;                       // ... and which of all that ever had that descriptor.
  uint64_t offset, bytes;
};

// Written by this process. Its size never changes (sealed), so no reader can be made to fault.
class OwnArena {
 public:
  static std::unique_ptr<OwnArena> Make(size_t size);   // nullptr: not to be had.
  ~OwnArena();
  OwnArena(const OwnArena&) = delete;
  OwnArena& operator=(const OwnArena&) = delete;
  char* data() const { return data_; }
  size_t size() const { return size_; }
  ArenaRange Range(uint64_t offset, uint64_t bytes) const;

 private:
  OwnArena(int fd, uint64_t inode, char* data, size_t size)
      : fd_(fd), inode_(inode), data_(data), size_(size) {}
  int fd_;
  uint64_t inode_;
  char* data_;
  size_t size_;
};

// Another process's arena, read-only; the last one seen stays mapped. Not thread-safe.
class PeerArena {
 public:
  PeerArena() = default;
  ~PeerArena();
  PeerArena(const PeerArena&) = delete;
  PeerArena& operator=(const PeerArena&) = delete;
  // nullptr: it cannot be opened, is not sealed, or the range lies outside.
  const char* At(const ArenaRange& range);

 private:
  void Unmap();
  uint64_t process_ = 0, descriptor_ = 0, size_ = 0, inode_ = 0;
  void* data_ = nullptr;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_COLLECTIVE_ARENA_H_
