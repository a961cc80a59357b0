// The collective calls of a gang over its links: slices all to all, summed by their owner in tree order, gathered by all.
// Ranks of one host pass long vectors by shared memory (arena.h).
#ifndef DERMIS_WORKER_COLLECTIVE_GANG_COLLECTIVE_H_
#define DERMIS_WORKER_COLLECTIVE_GANG_COLLECTIVE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/reduce_tree.h"
#include "worker/collective/arena.h"
#include "worker/collective/collective.h"
#include "worker/collective/gang.h"

namespace dermis {

class GangCollective : public Collective {
 public:
  explicit GangCollective(std::shared_ptr<Gang> gang);
  ~GangCollective() override { gang_->Leave(); }

  // Finds out which ranks can read this one's memory. Collective; part of joining.
  absl::Status ShareMemory(bool allowed);

  uint32_t rank() const override { return gang_->rank(); }
  uint32_t world_size() const override { return gang_->world(); }
  uint32_t logical_shards() const override { return v_; }
  uint32_t first_shard() const override { return gang_->member(rank()).first_shard(); }
  uint32_t shard_count() const override { return gang_->member(rank()).shards(); }

  absl::Status OrderedReduce(absl::Span<float* const> shards, uint64_t n, float* out) override;
  absl::StatusOr<std::vector<std::string>> AllGather(std::string mine) override;

  std::vector<uint32_t> WaitsFor() const override { return gang_->WaitsFor(); }

  absl::Status Check(absl::Duration since) override { return gang_->Check(since); }

  void Abort(const absl::Status& cause) override;

 private:
  struct Slice { uint64_t begin, end; };
  Slice SliceOf(uint32_t r, uint64_t n) const;

  // Where a frame's data lie; inline ones are copied to `scratch`. nullptr: not `bytes` of them.
  const float* DataOf(uint32_t r, const Frame& frame, uint64_t bytes, float* scratch);
  static bool SizeFits(const Frame& frame, uint64_t bytes);
  static grpc::ByteBuffer Reference(FrameHeader header, const ArenaRange& range);

  absl::Status Disagree(uint32_t r, const char* what);

  std::shared_ptr<Gang> gang_;
  uint32_t v_ = 0;
  std::vector<std::vector<TreeNode>> covers_;   // By rank.
  std::vector<TreeNode> operands_;
  std::vector<std::vector<float>> scratch_;     // By rank: its operands of one chunk.
  std::vector<bool> reads_me_;                  // By rank.
  std::vector<std::unique_ptr<PeerArena>> peer_arenas_;
  std::unique_ptr<OwnArena> arena_;
  uint64_t long_calls_ = 0;
  uint64_t sequence_ = 0;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_COLLECTIVE_GANG_COLLECTIVE_H_
