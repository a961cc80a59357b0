#include "worker/training/tensor_cache.h"

#include <cstddef>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include <c10/core/CPUAllocator.h>
#include <torch/types.h>

namespace dermis {
namespace {

// Smaller blocks are what the C library is good at.
constexpr size_t kSmallest = 256 << 10;

class TensorCache final : public c10::Allocator {
 public:
  // Never destroyed: tensors of static objects may outlive everything else.
  static TensorCache& Get() {
    static TensorCache* const cache = [] {
      auto* made = new TensorCache(c10::GetCPUAllocator());
      c10::SetCPUAllocator(made, /*priority=*/1);
      return made;
    }();
    return *cache;
  }

  c10::DataPtr allocate(size_t bytes) override {
    if (bytes < kSmallest) return system_->allocate(bytes);
    void* block = nullptr;
    {
      absl::MutexLock lock(&mutex_);
      if (const auto free = free_.find(bytes); free != free_.end() && !free->second.empty()) {
        block = free->second.back();
        free->second.pop_back();
      }
    }
    if (block == nullptr) block = system_->raw_allocate(bytes);
    absl::MutexLock lock(&mutex_);
    sizes_[block] = bytes;
    return {block, block, &Free, c10::Device(c10::kCPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &Free; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  void Open() {
    absl::MutexLock lock(&mutex_);
    ++users_;
  }
  void Close() {
    absl::MutexLock lock(&mutex_);
    if (--users_ > 0) return;
    for (auto& [bytes, blocks] : free_) {
      for (void* block : blocks) system_->raw_deallocate(block);
    }
    free_.clear();
  }

 private:
  explicit TensorCache(c10::Allocator* system) : system_(system) {}

  static void Free(void* block) {
    TensorCache& cache = Get();
    {
      absl::MutexLock lock(&cache.mutex_);
      const auto it = cache.sizes_.find(block);
      if (it != cache.sizes_.end()) {
        const size_t bytes = it->second;
        cache.sizes_.erase(it);
        if (cache.users_ > 0) {
          cache.free_[bytes].push_back(block);
          return;
        }
      }
    }
    cache.system_->raw_deallocate(block);
  }

  c10::Allocator* const system_;
  absl::Mutex mutex_;
  int users_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unordered_map<size_t, std::vector<void*>> free_ ABSL_GUARDED_BY(mutex_);  // By size.
  std::unordered_map<void*, size_t> sizes_ ABSL_GUARDED_BY(mutex_);  // Of blocks in use.
};

}  // namespace

TensorCacheScope::TensorCacheScope() { TensorCache::Get().Open(); }
TensorCacheScope::~TensorCacheScope() { TensorCache::Get().Close(); }

}  // namespace dermis
