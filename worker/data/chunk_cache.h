// The chunks of an image set that does not fit into memory: as many as a limit allows, loaded ahead
// by a thread of their own.
#ifndef DERMIS_WORKER_DATA_CHUNK_CACHE_H_
#define DERMIS_WORKER_DATA_CHUNK_CACHE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

namespace dermis {

// Thread-safe. What is held, and what is loaded, is one chunk after the other: so beside the limit
// there is what `load` itself needs for one chunk.
class ChunkCache {
 public:
  // The bytes of a chunk, as many as its size says. Called on the cache's thread; may take long.
  using Load = std::function<absl::StatusOr<std::vector<uint8_t>>(uint32_t chunk)>;

  // A chunk that stays while this lives. It must not outlive the cache.
  class Pin {
   public:
    Pin() = default;
    Pin(Pin&& other) noexcept { *this = std::move(other); }
    Pin& operator=(Pin&& other) noexcept {
      std::swap(cache_, other.cache_);
      std::swap(chunk_, other.chunk_);
      std::swap(data_, other.data_);
      return *this;
    }
    ~Pin() {
      if (cache_ != nullptr) cache_->Unpin(chunk_);
    }
    const uint8_t* data() const { return data_; }

   private:
    friend class ChunkCache;
    Pin(ChunkCache* cache, uint32_t chunk, const uint8_t* data)
        : cache_(cache), chunk_(chunk), data_(data) {}
    ChunkCache* cache_ = nullptr;
    uint32_t chunk_ = 0;
    const uint8_t* data_ = nullptr;
  };

  struct Counts {
    uint64_t held = 0, peak = 0;  // Bytes, now and at most.
    uint64_t loads = 0;           // Chunks that came.
    uint64_t waits = 0;           // Calls of Get that had to wait for one.
  };

  // sizes: bytes of each chunk. limit: bytes of all that are held; at least the largest chunk's.
  ChunkCache(std::vector<uint64_t> sizes, uint64_t limit, Load load);
  ~ChunkCache();
  ChunkCache(const ChunkCache&) = delete;
  ChunkCache& operator=(const ChunkCache&) = delete;

  // Waits until the chunk is there. A thread holds at most one pin when it calls, and lets it go
  // without this call's help: else threads could wait for each other's room. Errors: what `load`
  // says; the next call tries again.
  absl::StatusOr<Pin> Get(uint32_t chunk);

  // A hint: these chunks (each once) will be asked for next, in this order. They are loaded ahead;
  // where room is needed, the chunk goes that is asked for last, then the one that was used longest
  // ago. Replaces the hint before.
  void Expect(absl::Span<const uint32_t> chunks);

  uint64_t limit() const { return limit_; }
  uint64_t size(uint32_t chunk) const { return sizes_[chunk]; }
  Counts counts() const;

 private:
  struct Entry {
    std::vector<uint8_t> bytes;  // Empty: not here.
    uint32_t users = 0;          // Pins, and calls that wait for the chunk.
    uint64_t used = 0;           // When, by the count of calls.
    size_t expected = SIZE_MAX;  // Place in the hint.
    uint64_t attempts = 0;       // Loads that have ended, ...
    absl::Status failure;        // ... and what the last one that failed said.
  };

  void Unpin(uint32_t chunk);
  void Loop();
  // What to load now, once there is room for it.
  std::optional<uint32_t> Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // By giving up chunks that nobody uses and that are expected after place `before`.
  bool MakeRoom(uint64_t bytes, std::optional<size_t> before) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::vector<uint64_t> sizes_;
  const uint64_t limit_;
  const Load load_;
  mutable absl::Mutex mutex_;
  absl::CondVar work_;    // For the loading thread.
  absl::CondVar loaded_;  // For those who wait for a chunk.
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::deque<uint32_t> asked_ ABSL_GUARDED_BY(mutex_);  // Waited for, first come first served.
  std::vector<uint32_t> expected_ ABSL_GUARDED_BY(mutex_);
  // Those before it have been seen to: a hint loads a chunk once, so an old one keeps nobody else's chunks away.
  size_t ahead_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t calls_ ABSL_GUARDED_BY(mutex_) = 0;
  Counts counts_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_DATA_CHUNK_CACHE_H_
