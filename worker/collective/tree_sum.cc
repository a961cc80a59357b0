#include "worker/collective/tree_sum.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace dermis {
namespace {

// Several operands of 8 KiB each fit into 32 KiB.
constexpr uint64_t kBlock = 2048;

void Add(const float* a, const float* b, uint64_t n, float* out) {
// `out` is `a` itself or disjoint from both: no iteration reads what another writes.
#pragma GCC ivdep
  for (uint64_t i = 0; i < n; ++i) out[i] = a[i] + b[i];
}

class Summer {
 public:
  Summer(const std::vector<TreeNode>& nodes, const std::vector<const float*>& data, uint32_t leaves)
      : nodes_(nodes), data_(data) {
    size_t depth = 0;
    while ((uint32_t{1} << depth) < leaves) ++depth;
    right_.resize(depth * kBlock);
  }

  // Sum of nodes [begin, end), which cover `range`, of n elements at `offset`. Returns where it lies: in
  // `out` if there was anything to add, else where the only node is. The left operand is made in `out`, so the
  // first thing that is written there is a sum of what may lie there.
  const float* Sum(size_t begin, size_t end, TreeNode range, uint64_t offset, uint64_t n, float* out,
                   size_t depth) {
    if (end - begin == 1) return data_[begin] + offset;
    const uint32_t half = range.count / 2;
    const uint32_t middle = range.first + half;
    size_t split = begin;
    while (split < end && nodes_[split].first < middle) ++split;
    const float* left = Sum(begin, split, {range.first, half}, offset, n, out, depth + 1);
    const float* right =
        Sum(split, end, {middle, half}, offset, n, right_.data() + depth * kBlock, depth + 1);
    Add(left, right, n, out);
    return out;
  }

 private:
  const std::vector<TreeNode>& nodes_;
  const std::vector<const float*>& data_;
  std::vector<float> right_;   // A block for the right operand at each depth.
};

}  // namespace

void TreeSumInto(const std::vector<TreeNode>& nodes, const std::vector<const float*>& data, TreeNode range,
                 uint64_t n, float* out) {
  Summer summer(nodes, data, range.count);
  for (uint64_t offset = 0; offset < n; offset += kBlock) {
    const uint64_t length = std::min(kBlock, n - offset);
    const float* sum = summer.Sum(0, nodes.size(), range, offset, length, out + offset, 0);
    if (sum != out + offset) std::memcpy(out + offset, sum, length * sizeof(float));
  }
}

}  // namespace dermis
