// SumNodes of common/reduce_tree.h with a destination of its own and in blocks that stay in the first-level
// cache: the same additions, operand by operand, hence the same bits.
#ifndef DERMIS_WORKER_COLLECTIVE_TREE_SUM_H_
#define DERMIS_WORKER_COLLECTIVE_TREE_SUM_H_

#include <cstdint>
#include <vector>

#include "common/reduce_tree.h"

namespace dermis {

// out[i] = the tree sum of data[k][i], for i < n. `nodes` (ascending, data[k] belongs to nodes[k]) together
// cover exactly [range.first, range.first + range.count), a whole aligned subtree.
// Reads data only; `out` may be data[0].
void TreeSumInto(const std::vector<TreeNode>& nodes, const std::vector<const float*>& data, TreeNode range,
                 uint64_t n, float* out);

}  // namespace dermis

#endif  // DERMIS_WORKER_COLLECTIVE_TREE_SUM_H_
