// What the ranks of a gang exchange. All calls are collective: every rank makes the same calls in the
// same order. Called from one thread. After any error the object is dead: every later call returns it.
#ifndef DERMIS_WORKER_COLLECTIVE_COLLECTIVE_H_
#define DERMIS_WORKER_COLLECTIVE_COLLECTIVE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace dermis {

// A rank that has fetched its images waits so long for one that has not. The coordinator looks after both: whoever does not get
// on is told to leave long before.
inline constexpr absl::Duration kJoinPatience = absl::Minutes(15);

class Collective {
 public:
  virtual ~Collective() = default;
  virtual uint32_t rank() const = 0;
  virtual uint32_t world_size() const = 0;
  virtual uint32_t logical_shards() const = 0;           // V
  virtual uint32_t first_shard() const = 0;              // Of this rank.
  virtual uint32_t shard_count() const = 0;

  // shards[k]: n floats of logical shard first_shard() + k (overwritten as scratch). out: n floats, on
  // every rank the sum over all V shards in tree order (common/reduce_tree.h): the same bits for any W.
  virtual absl::Status OrderedReduce(absl::Span<float* const> shards, uint64_t n, float* out) = 0;

  // Every rank gives bytes, every rank gets all of them, by rank. Lengths may differ.
  virtual absl::StatusOr<std::vector<std::string>> AllGather(std::string mine) = 0;

  // The ranks whose part of an exchange this rank waits for now; from any thread.
  virtual std::vector<uint32_t> WaitsFor() const { return {}; }

  // What is known of the other ranks, without waiting: the error that ended the attempt, or UNAVAILABLE, naming a rank
  // that is not to be waited for any longer (nothing heard from it for the timeout, counted from `since` on the
  // monotonic clock at the earliest). From the thread that makes the calls.
  virtual absl::Status Check(absl::Duration /*since*/) { return absl::OkStatus(); }

  // Ends the attempt on all ranks within a bounded time; may be called from any thread. Calls that wait
  // return ABORTED (of another rank: UNAVAILABLE "rank 2 (worker x): cause").
  virtual void Abort(const absl::Status& cause) = 0;
};

// W = 1: no exchange.
std::unique_ptr<Collective> MakeLocalCollective(uint32_t logical_shards);

}  // namespace dermis

#endif  // DERMIS_WORKER_COLLECTIVE_COLLECTIVE_H_
