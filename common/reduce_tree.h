// The fixed binary tree over V logical shards that every cross-shard sum follows (docs/determinism.md): node
// [a, b) = node [a, m) + node [m, b), m the middle. A worker that hosts shards [first, first + count) may
// pre-sum only whole aligned subtrees; the rest travels as separate nodes.
#ifndef DERMIS_COMMON_REDUCE_TREE_H_
#define DERMIS_COMMON_REDUCE_TREE_H_

#include <cstdint>
#include <vector>

namespace dermis {

struct TreeNode {
  uint32_t first;
  uint32_t count;   // A power of two; first is a multiple of it.
  friend bool operator==(const TreeNode&, const TreeNode&) = default;
};

struct ShardRange { uint32_t first, count; };

// Contiguous runs of V shards over W <= V workers: the first V % W get one more.
std::vector<ShardRange> AssignShards(uint32_t v, uint32_t w);

// The maximal aligned subtrees that cover [first, first + count), ascending.
std::vector<TreeNode> AlignedCover(uint32_t first, uint32_t count, uint32_t v);

// Adds up nodes that together cover [0, v) in tree order: out[i] = sum. `nodes` ascending by first;
// data[k] has n floats. Overwrites data of the left operands. Result is left in data[0].
void SumNodes(const std::vector<TreeNode>& nodes, const std::vector<float*>& data, uint64_t n,
              uint32_t v);

}  // namespace dermis

#endif  // DERMIS_COMMON_REDUCE_TREE_H_
