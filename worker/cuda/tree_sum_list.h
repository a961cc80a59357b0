// From nodes of common/reduce_tree.h to the list that the functor TreeSum works off.
#ifndef DERMIS_WORKER_CUDA_TREE_SUM_LIST_H_
#define DERMIS_WORKER_CUDA_TREE_SUM_LIST_H_

#include <vector>

#include "absl/status/statusor.h"

#include "common/reduce_tree.h"
#include "worker/cuda/functors.h"

namespace dermis {

// `nodes` ascending and side by side, data[k] belongs to nodes[k]. Where they make up one whole
// aligned subtree, the sum has the bits of TreeSumInto; what is left of several subtrees (the
// shards of a rank whose run is not one) is added from the right, which is in order but not the
// tree's. INVALID_ARGUMENT: none, too many, or not side by side.
absl::StatusOr<TreeSum> MakeTreeSum(const std::vector<TreeNode>& nodes,
                                    const std::vector<const float*>& data, float* out);

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_TREE_SUM_LIST_H_
