// Memory of large tensors, kept for the next one of the same size. A training step makes and drops
// the same maps again and again; the C library hands blocks of megabytes back to the system each
// time, and the system zeroes them anew: a tenth of a step of ResNet-18.
#ifndef DERMIS_WORKER_TRAINING_TENSOR_CACHE_H_
#define DERMIS_WORKER_TRAINING_TENSOR_CACHE_H_

namespace dermis {

// While one lives, LibTorch's CPU tensors of this process are made by the cache; when the last is
// gone, what it kept is freed. Contents of tensors are what they would be without it. Thread-safe.
class TensorCacheScope {
 public:
  TensorCacheScope();
  ~TensorCacheScope();
  TensorCacheScope(const TensorCacheScope&) = delete;
  TensorCacheScope& operator=(const TensorCacheScope&) = delete;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_TENSOR_CACHE_H_
