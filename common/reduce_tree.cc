#include "common/reduce_tree.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>

namespace dermis {
namespace {

void Require(bool ok, const char* what) {
  if (!ok) {
    std::fprintf(stderr, "reduce_tree: %s\n", what);
    std::abort();
  }
}

// One node of the recursion: sums [first, first + count) of floats [begin, end) into the data of
// its leftmost operand, which is what it returns. `next` walks over the nodes, which are in order.
template <typename Real>
Real* SumRange(const std::vector<TreeNode>& nodes, const std::vector<Real*>& data, uint32_t first,
               uint32_t count, uint64_t begin, uint64_t end, size_t* next) {
  const TreeNode& node = nodes[*next];
  if (node.first == first && node.count == count) return data[(*next)++];
  const uint32_t half = count / 2;
  Real* left = SumRange(nodes, data, first, half, begin, end, next);
  const Real* right = SumRange(nodes, data, first + half, half, begin, end, next);
  for (uint64_t i = begin; i < end; ++i) left[i] += right[i];
  return left;
}

template <typename Real>
void Sum(const std::vector<TreeNode>& nodes, const std::vector<Real*>& data, uint64_t n,
         uint32_t v) {
  Require(std::has_single_bit(v), "V must be a power of two");
  Require(!nodes.empty() && nodes.size() == data.size(), "one data pointer a node");
  uint32_t covered = 0;
  for (const TreeNode& node : nodes) {
    Require(
        node.first == covered && std::has_single_bit(node.count) && node.first % node.count == 0,
        "nodes must be aligned and cover [0, V) in order");
    covered += node.count;
  }
  Require(covered == v, "nodes must cover [0, V)");
  // In blocks that stay in the cache over all levels; the order at each element is the tree's.
  constexpr uint64_t kBlock = 4096;
  for (uint64_t begin = 0; begin < n; begin += kBlock) {
    size_t next = 0;
    SumRange(nodes, data, 0, v, begin, std::min(n, begin + kBlock), &next);
  }
}

}  // namespace

std::vector<ShardRange> AssignShards(uint32_t v, uint32_t w) {
  Require(w >= 1 && w <= v, "1 <= W <= V");
  std::vector<ShardRange> ranges(w);
  uint32_t first = 0;
  for (uint32_t i = 0; i < w; ++i) {
    ranges[i] = {first, v / w + (i < v % w ? 1 : 0)};
    first += ranges[i].count;
  }
  return ranges;
}

std::vector<TreeNode> AlignedCover(uint32_t first, uint32_t count, uint32_t v) {
  Require(std::has_single_bit(v) && first <= v && count <= v - first, "a range within [0, V)");
  std::vector<TreeNode> nodes;
  const uint32_t end = first + count;
  while (first < end) {
    uint32_t size = first == 0 ? v : first & -first;  // The largest that is aligned here ...
    while (size > end - first) size /= 2;             // ... and fits.
    nodes.push_back({first, size});
    first += size;
  }
  return nodes;
}

void SumNodes(const std::vector<TreeNode>& nodes, const std::vector<float*>& data, uint64_t n,
              uint32_t v) {
  Sum(nodes, data, n, v);
}

}  // namespace dermis
