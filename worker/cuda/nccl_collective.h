// The collective of a gang whose ranks each drive a GPU: vectors travel by NCCL, bytes and news of
// the other ranks by the gang's control path (the gRPC mesh).
//
// Ordered: each rank sums whole aligned subtrees of its shards; slices go all to all (grouped
// ncclSend/ncclRecv); their owner sums them in the order of common/reduce_tree.h; ncclAllGather
// hands them round. NCCL only moves data, so the bits are those of LocalCollective, for any W and
// any version of NCCL. Fast: the local sum, then ncclAllReduce in whatever order NCCL likes: the
// same on all ranks, not reproducible.
#ifndef DERMIS_WORKER_CUDA_NCCL_COLLECTIVE_H_
#define DERMIS_WORKER_CUDA_NCCL_COLLECTIVE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/reduce_tree.h"
#include "worker/collective/collective.h"
#include "worker/cuda/device.h"
#include "worker/cuda/nccl_api.h"

namespace dermis {

enum class NcclReduction { kOrdered, kFast };

class NcclCollective : public Collective {
 public:
  struct Options {
    NcclReduction reduction = NcclReduction::kOrdered;
    // All ranks must have made their communicator within this.
    absl::Duration join_patience = absl::Seconds(60);
    // An exchange that lasts longer has failed. Far above what the coordinator bears of a rank that
    // makes no progress (it names the rank, and this one does not know which it is), so this is the
    // last resort.
    absl::Duration exchange_patience = absl::Seconds(120);
    // After an error: how long the control path may take to name the rank that was lost, when NCCL
    // was first to notice; and how long the device may take to come to rest.
    absl::Duration blame_patience = absl::Seconds(2);
    absl::Duration rest_patience = absl::Seconds(10);
  };

  // Collective: all ranks of `control` call it. The device outlives the collective. Bounded by
  // join_patience. UNAVAILABLE names what failed; FAILED_PRECONDITION: the ranks differ in version
  // or reduction.
  static absl::StatusOr<std::unique_ptr<NcclCollective>> Create(std::shared_ptr<const NcclApi> api,
                                                                Device* device,
                                                                std::shared_ptr<Collective> control,
                                                                Options options);
  ~NcclCollective() override;

  uint32_t rank() const override { return control_->rank(); }
  uint32_t world_size() const override { return control_->world_size(); }
  uint32_t logical_shards() const override { return control_->logical_shards(); }
  uint32_t first_shard() const override { return control_->first_shard(); }
  uint32_t shard_count() const override { return control_->shard_count(); }

  // shards and out are the DEVICE's memory. What was queued on the device's stream before comes
  // first; when this returns OK, `out` is there, and after an error nothing touches the memory any
  // more. INTERNAL "did not come to rest": not even that could be had, and the process must end.
  // Ranks that give different n are found by exchange_patience alone.
  absl::Status OrderedReduce(absl::Span<float* const> shards, uint64_t n, float* out) override;

  // Of the control path: host memory, small.
  absl::StatusOr<std::vector<std::string>> AllGather(std::string mine) override;

  std::vector<uint32_t> WaitsFor() const override;
  absl::Status Check(absl::Duration since) override;

  // Tells the others, then aborts the communicator. Waits for what NCCL does in this moment, which
  // returns promptly, and for ncclCommAbort; a caller that finds it does not return ends the
  // process.
  void Abort(const absl::Status& cause) override;

 private:
  struct Slice {
    uint64_t begin, length;
  };

  NcclCollective(std::shared_ptr<const NcclApi> api, Device* device,
                 std::shared_ptr<Collective> control, Options options);

  absl::Status Join();
  uint64_t SliceFloats(uint64_t n) const;
  Slice SliceOf(uint32_t r, uint64_t n) const;

  absl::Status Ordered(absl::Span<float* const> shards, uint64_t n, float* out);
  absl::Status Fast(absl::Span<float* const> shards, uint64_t n, float* out);
  // My nodes' sums, each of n floats; a single shard is its own sum and is not copied.
  absl::StatusOr<std::vector<const float*>> LocalSums(absl::Span<float* const> shards, uint64_t n);

  // One operation in ncclGroupStart/End; then waits until the communicator has taken it (it is on
  // the stream).
  template <typename Operations>
  absl::Status Group(const char* what, const Operations& operations);
  // Waits until the communicator is ready and, if asked, the stream is idle.
  absl::Status Await(const char* what, absl::Duration patience, bool idle);

  absl::Status status();
  // Ends the attempt: returns the first error, ours or another's.
  absl::Status Fail(absl::Status error);
  absl::Status FailNccl(NcclResult result, const char* what);
  absl::Status Rest();  // After an error: the device must not touch the caller's memory any more.
  void AbortComm();

  const std::shared_ptr<const NcclApi> api_;
  Device* const device_;
  const std::shared_ptr<Collective> control_;
  const Options options_;
  std::vector<std::vector<TreeNode>> covers_;  // By rank.
  DeviceBuffer partial_, received_, gathered_;
  uint64_t calls_ = 0;
  std::atomic<bool> exchanging_ = false;

  // Held over each of NCCL's calls (they do not wait: the communicator is not a blocking one), so
  // that an abort from another thread never frees what a call uses.
  absl::Mutex mutex_;
  NcclComm* comm_ ABSL_GUARDED_BY(mutex_) = nullptr;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_NCCL_COLLECTIVE_H_
