#include "worker/cuda/tree_sum_list.h"

#include "absl/strings/str_cat.h"

namespace dermis {

absl::StatusOr<TreeSum> MakeTreeSum(const std::vector<TreeNode>& nodes,
                                    const std::vector<const float*>& data, float* out) {
  if (nodes.empty() || nodes.size() > kMaxOperands || nodes.size() != data.size()) {
    return absl::InvalidArgumentError(absl::StrCat("a tree sum of ", nodes.size(), " nodes and ",
                                                   data.size(), " operands: 1 to ", kMaxOperands,
                                                   " of each are possible"));
  }
  TreeSum sum;
  sum.count = static_cast<uint32_t>(nodes.size());
  sum.out = out;
  std::vector<TreeNode> waiting;
  for (uint32_t k = 0; k < sum.count; ++k) {
    sum.data[k] = data[k];
    sum.merges[k] = 0;
    if (k > 0 && nodes[k - 1].first + nodes[k - 1].count != nodes[k].first) {
      return absl::InvalidArgumentError(absl::StrCat("node ", k, " of a tree sum begins at ",
                                                     nodes[k].first, ", the one before ends at ",
                                                     nodes[k - 1].first + nodes[k - 1].count));
    }
    TreeNode top = nodes[k];
    // Siblings: of one size, and the left one begins where a node of twice the size may begin.
    while (!waiting.empty() && waiting.back().count == top.count &&
           waiting.back().first % (2 * top.count) == 0) {
      top = {waiting.back().first, 2 * top.count};
      waiting.pop_back();
      ++sum.merges[k];
    }
    if (waiting.size() + 1 > TreeSum::kDepth) {
      return absl::InvalidArgumentError(
          absl::StrCat("a tree sum of ", nodes.size(), " nodes is too deep"));
    }
    waiting.push_back(top);
  }
  sum.merges[sum.count - 1] += static_cast<uint8_t>(waiting.size() - 1);
  return sum;
}

}  // namespace dermis
