// How the ranks of the stand-in move data: a ring of bytes in POSIX shared memory for each ordered
// pair of ranks, one writer, one reader. No locks, so that a killed process leaves nothing locked.
#ifndef DERMIS_TESTS_STAND_IN_NCCL_CHANNEL_H_
#define DERMIS_TESTS_STAND_IN_NCCL_CHANNEL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace dermis::stand_in {

inline constexpr size_t kRingBytes = 64 * 1024;
inline constexpr int kMaxRanks = 16;

// All zeros is the state at the start: what a new shared memory holds.
struct Ring {
  alignas(64) std::atomic<uint64_t> written;
  alignas(64) std::atomic<uint64_t> read;
  char bytes[kRingBytes];

  // As many as there is room for (or as there are); how many that was.
  size_t Put(const void* from, size_t count);
  size_t Take(void* to, size_t count);
};

// Travels before the data of each message.
struct Head {
  uint32_t kind;
  uint32_t type;
  uint64_t count;
  friend bool operator==(const Head&, const Head&) = default;
};

struct Segment {
  std::atomic<int> world;
  std::atomic<int> joined[kMaxRanks];
  std::atomic<int> mismatch;  // The ranks disagree; `why` was written before.
  char why[256];
  Ring rings[1];  // world * world: [from * world + to].
};

// One mapping of a segment. The name goes once all ranks have joined, or with the first that
// leaves.
class SharedSegment {
 public:
  // nullptr: no shared memory.
  static std::shared_ptr<SharedSegment> Map(const std::string& name, int world);
  ~SharedSegment();

  Segment& operator*() { return *segment_; }
  Segment* operator->() { return segment_; }
  Ring& ring(int from, int to) { return segment_->rings[from * world_ + to]; }
  bool AllJoined();
  void Mismatch(const std::string& why);

 private:
  SharedSegment(std::string name, int world, Segment* segment, size_t bytes)
      : name_(std::move(name)), world_(world), segment_(segment), bytes_(bytes) {}
  const std::string name_;
  const int world_;
  Segment* const segment_;
  const size_t bytes_;
};

// One message from or to a peer, as far as it has got.
struct Transfer {
  bool sends;
  int peer;
  Head head;
  const char* from = nullptr;
  char* to = nullptr;
  uint64_t bytes = 0;
  bool hangs = false;

  uint64_t head_done = 0;
  uint64_t done = 0;
  Head got{};

  bool Finished() const { return head_done == sizeof(Head) && done == bytes; }
  // Moves what can be moved now; whether that was anything. Sets the segment's mismatch where the
  // peer's message is another than this one.
  bool Progress(SharedSegment& segment, int me);
};

}  // namespace dermis::stand_in

#endif  // DERMIS_TESTS_STAND_IN_NCCL_CHANNEL_H_
