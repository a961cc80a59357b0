#include "tests/stand_in/nccl/channel.h"

#include <algorithm>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace dermis::stand_in {

size_t Ring::Put(const void* from, size_t count) {
  const uint64_t at = written.load(std::memory_order_relaxed);
  const uint64_t room = kRingBytes - (at - read.load(std::memory_order_acquire));
  count = std::min<size_t>(count, room);
  const size_t first = std::min<size_t>(count, kRingBytes - at % kRingBytes);
  std::memcpy(bytes + at % kRingBytes, from, first);
  std::memcpy(bytes, static_cast<const char*>(from) + first, count - first);
  written.store(at + count, std::memory_order_release);
  return count;
}

size_t Ring::Take(void* to, size_t count) {
  const uint64_t at = read.load(std::memory_order_relaxed);
  count = std::min<size_t>(count, written.load(std::memory_order_acquire) - at);
  const size_t first = std::min<size_t>(count, kRingBytes - at % kRingBytes);
  std::memcpy(to, bytes + at % kRingBytes, first);
  std::memcpy(static_cast<char*>(to) + first, bytes, count - first);
  read.store(at + count, std::memory_order_release);
  return count;
}

std::shared_ptr<SharedSegment> SharedSegment::Map(const std::string& name, int world) {
  const int file = shm_open(name.c_str(), O_CREAT | O_RDWR, 0600);
  if (file < 0) return nullptr;
  const size_t bytes = sizeof(Segment) + sizeof(Ring) * static_cast<size_t>(world * world);
  void* memory = MAP_FAILED;
  if (ftruncate(file, static_cast<off_t>(bytes)) == 0) {
    memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  close(file);
  if (memory == MAP_FAILED) return nullptr;
  return std::shared_ptr<SharedSegment>(
      new SharedSegment(name, world, static_cast<Segment*>(memory), bytes));
}

SharedSegment::~SharedSegment() {
  shm_unlink(name_.c_str());
  munmap(segment_, bytes_);
}

bool SharedSegment::AllJoined() {
  for (int r = 0; r < world_; ++r) {
    if (segment_->joined[r].load() == 0) return false;
  }
  shm_unlink(name_.c_str());
  return true;
}

void SharedSegment::Mismatch(const std::string& why) {
  int none = 0;
  // 1: being written, 2: to be read.
  if (!segment_->mismatch.compare_exchange_strong(none, 1)) return;
  std::strncpy(segment_->why, why.c_str(), sizeof(segment_->why) - 1);
  segment_->mismatch.store(2);
}

bool Transfer::Progress(SharedSegment& segment, int me) {
  if (hangs || Finished()) return false;
  Ring& ring = sends ? segment.ring(me, peer) : segment.ring(peer, me);
  bool moved = false;
  if (head_done < sizeof(Head)) {
    const size_t rest = sizeof(Head) - head_done;
    const size_t now = sends ? ring.Put(reinterpret_cast<const char*>(&head) + head_done, rest)
                             : ring.Take(reinterpret_cast<char*>(&got) + head_done, rest);
    head_done += now;
    moved = now > 0;
    if (head_done < sizeof(Head)) return moved;
    if (!sends && got != head) {
      segment.Mismatch("rank " + std::to_string(peer) + " gave kind " + std::to_string(got.kind) +
                       ", type " + std::to_string(got.type) + ", count " +
                       std::to_string(got.count) + " where rank " + std::to_string(me) +
                       " expected " + std::to_string(head.kind) + ", " + std::to_string(head.type) +
                       ", " + std::to_string(head.count));
      return moved;
    }
  }
  const uint64_t now =
      sends ? ring.Put(from + done, bytes - done) : ring.Take(to + done, bytes - done);
  done += now;
  return moved || now > 0;
}

}  // namespace dermis::stand_in
