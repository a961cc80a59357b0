#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "worker/collective/collective.h"
#include "worker/collective/tree_sum.h"

namespace dermis {
namespace {

class LocalCollective : public Collective {
 public:
  explicit LocalCollective(uint32_t v) : v_(v) {
    for (uint32_t k = 0; k < v; ++k) leaves_.push_back({k, 1});
  }

  uint32_t rank() const override { return 0; }
  uint32_t world_size() const override { return 1; }
  uint32_t logical_shards() const override { return v_; }
  uint32_t first_shard() const override { return 0; }
  uint32_t shard_count() const override { return v_; }

  absl::Status OrderedReduce(absl::Span<float* const> shards, uint64_t n, float* out) override {
    absl::MutexLock lock(&mutex_);
    if (!status_.ok()) return status_;
    if (shards.size() != v_) {
      status_ = absl::InvalidArgumentError(
          absl::StrCat("OrderedReduce got ", shards.size(), " shards, this rank hosts ", v_));
      return status_;
    }
    TreeSumInto(leaves_, {shards.begin(), shards.end()}, {0, v_}, n, out);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> AllGather(std::string mine) override {
    absl::MutexLock lock(&mutex_);
    if (!status_.ok()) return status_;
    std::vector<std::string> all;
    all.push_back(std::move(mine));
    return all;
  }

  void Abort(const absl::Status& cause) override {
    absl::MutexLock lock(&mutex_);
    if (status_.ok()) status_ = absl::AbortedError(cause.message());
  }

 private:
  const uint32_t v_;
  std::vector<TreeNode> leaves_;
  absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<Collective> MakeLocalCollective(uint32_t logical_shards) {
  return std::make_unique<LocalCollective>(logical_shards);
}

}  // namespace dermis
