// A gang within one process: ranks are threads that meet at barriers.
#ifndef DERMIS_TESTS_UNIT_WORKER_TRAINING_MEMORY_COLLECTIVE_H_
#define DERMIS_TESTS_UNIT_WORKER_TRAINING_MEMORY_COLLECTIVE_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/reduce_tree.h"
#include "worker/collective/collective.h"

namespace dermis {

class MemoryGang {
 public:
  MemoryGang(uint32_t shards, uint32_t ranks)
      : shards_(shards), ranges_(AssignShards(shards, ranks)) {
    gathered_.resize(ranks);
    leaves_.resize(shards);
  }

  // Rank r's end; the gang must outlive it.
  std::unique_ptr<Collective> Rank(uint32_t r) { return std::make_unique<End>(*this, r); }

 private:
  class End : public Collective {
   public:
    End(MemoryGang& gang, uint32_t rank) : gang_(gang), rank_(rank) {}
    uint32_t rank() const override { return rank_; }
    uint32_t world_size() const override { return static_cast<uint32_t>(gang_.ranges_.size()); }
    uint32_t logical_shards() const override { return gang_.shards_; }
    uint32_t first_shard() const override { return gang_.ranges_[rank_].first; }
    uint32_t shard_count() const override { return gang_.ranges_[rank_].count; }

    absl::Status OrderedReduce(absl::Span<float* const> shards, uint64_t n, float* out) override {
      if (shards.size() != shard_count())
        return absl::InvalidArgumentError("wrong number of shards");
      for (uint32_t k = 0; k < shard_count(); ++k) {
        gang_.leaves_[first_shard() + k].assign(shards[k], shards[k] + n);
      }
      if (absl::Status s = gang_.Barrier(); !s.ok()) return s;
      std::vector<std::vector<float>> copy = gang_.leaves_;
      std::vector<float*> data;
      for (std::vector<float>& leaf : copy) data.push_back(leaf.data());
      std::vector<TreeNode> nodes;
      for (uint32_t s = 0; s < gang_.shards_; ++s) nodes.push_back({s, 1});
      SumNodes(nodes, data, n, gang_.shards_);
      std::copy(copy[0].begin(), copy[0].end(), out);
      return gang_.Barrier();
    }

    absl::StatusOr<std::vector<std::string>> AllGather(std::string mine) override {
      gang_.gathered_[rank_] = std::move(mine);
      if (absl::Status s = gang_.Barrier(); !s.ok()) return s;
      std::vector<std::string> all = gang_.gathered_;
      if (absl::Status s = gang_.Barrier(); !s.ok()) return s;
      return all;
    }

    void Abort(const absl::Status& cause) override {
      std::lock_guard<std::mutex> lock(gang_.mutex_);
      if (gang_.aborted_.ok()) gang_.aborted_ = absl::UnavailableError(cause.ToString());
      gang_.changed_.notify_all();
    }

   private:
    MemoryGang& gang_;
    uint32_t rank_;
  };

  absl::Status Barrier() {
    std::unique_lock<std::mutex> lock(mutex_);
    const uint64_t round = round_;
    if (++arrived_ == ranges_.size()) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
    }
    changed_.wait(lock, [&] { return round_ != round || !aborted_.ok(); });
    return round_ != round ? absl::OkStatus() : aborted_;
  }

  const uint32_t shards_;
  const std::vector<ShardRange> ranges_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t round_ = 0;
  size_t arrived_ = 0;
  absl::Status aborted_;
  std::vector<std::string> gathered_;
  std::vector<std::vector<float>> leaves_;
};

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_WORKER_TRAINING_MEMORY_COLLECTIVE_H_
