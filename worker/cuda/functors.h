// Kernels as functors, written once: a loop calls them on the CPU (ParallelFor here), a launch on
// the GPU (parallel_for.cuh). Plain structs, passed by value; functor(i) makes element i and
// touches no other. Those that exist are listed in functor_list.h.
#ifndef DERMIS_WORKER_CUDA_FUNCTORS_H_
#define DERMIS_WORKER_CUDA_FUNCTORS_H_

#include <cstdint>

#include "common/host_device.h"

namespace dermis {

// As many operands as a study may have logical shards. The struct travels as a kernel's argument:
// 32 KiB at most.
inline constexpr uint32_t kMaxOperands = 1024;

// out[i] = the sum of data[k][i] over k < count in the order of common/reduce_tree.h, bit for bit
// what TreeSumInto gives. The tree is a list for a stack: push operand k, then merges[k] times
// replace the two topmost partial sums by left + right. Made by MakeTreeSum (tree_sum_list.h).
// `out` may be one of data.
struct TreeSum {
  static constexpr const char* kName = "a tree sum";
  static constexpr uint32_t kDepth =
      11;  // Partial sums that wait at once: one a level of 1024 leaves.

  const float* data[kMaxOperands];
  uint8_t merges[kMaxOperands];
  uint32_t count;
  float* out;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    float waiting[kDepth];
    uint32_t height = 0;
    float top = data[0][i];
    for (uint32_t k = 1; k < count; ++k) {
      waiting[height++] = top;
      top = data[k][i];
      // The later operand is the right one: its sum is on top.
      for (uint32_t m = 0; m < merges[k]; ++m) top = waiting[--height] + top;
    }
    out[i] = top;
  }
};

// out[i] = value.
struct Fill {
  static constexpr const char* kName = "a fill";

  float* out;
  float value;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const { out[i] = value; }
};

// functor(0) ... functor(n - 1), on this thread.
template <typename Functor>
void ParallelFor(const Functor& functor, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) functor(i);
}

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_FUNCTORS_H_
