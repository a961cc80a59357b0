#include "worker/explain/estimators/owen.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <queue>
#include <utility>

#include "common/status_macros.h"

namespace dermis {
namespace {

constexpr size_t kBatch = 10;

struct Rectangle {
  uint32_t top, bottom, left, right;  // Half open.
};

// Centres of mass, rounded down to pixels.
struct Center {
  uint32_t y = 0, x = 0;
};

std::vector<Center> CentersOf(const Segmentation& segmentation) {
  std::vector<uint64_t> y(segmentation.count), x(segmentation.count), pixels(segmentation.count);
  for (size_t i = 0; i < segmentation.labels.size(); ++i) {
    const uint32_t k = segmentation.labels[i];
    y[k] += i / static_cast<size_t>(segmentation.width);
    x[k] += i % static_cast<size_t>(segmentation.width);
    ++pixels[k];
  }
  std::vector<Center> centers(segmentation.count);
  for (uint32_t k = 0; k < segmentation.count; ++k) {
    const uint64_t n = std::max<uint64_t>(pixels[k], 1);
    centers[k] = {static_cast<uint32_t>(y[k] / n), static_cast<uint32_t>(x[k] / n)};
  }
  return centers;
}

class TreeBuilder {
 public:
  explicit TreeBuilder(const Segmentation& segmentation) : centers_(CentersOf(segmentation)) {
    tree_.leaves = segmentation.count;
    std::vector<uint32_t> all(segmentation.count);
    std::iota(all.begin(), all.end(), 0u);
    Build(std::move(all), {0, static_cast<uint32_t>(segmentation.height), 0,
                           static_cast<uint32_t>(segmentation.width)});
  }
  PartitionTree Take() && { return std::move(tree_); }

 private:
  // The node of these superpixels, ascending, whose centres are in the rectangle.
  uint32_t Build(std::vector<uint32_t> members, Rectangle at) {
    if (members.size() == 1) return members[0];
    while (true) {
      const uint32_t rows = at.bottom - at.top, columns = at.right - at.left;
      if (rows == 1 && columns == 1) {
        const auto middle = members.begin() + static_cast<std::ptrdiff_t>(members.size() / 2);
        return Join({members.begin(), middle}, at, {middle, members.end()}, at);
      }
      Rectangle first = at, second = at;
      const bool by_row = rows >= columns;
      if (by_row) {
        first.bottom = second.top = at.top + (rows + 1) / 2;
      } else {
        first.right = second.left = at.left + (columns + 1) / 2;
      }
      std::vector<uint32_t> before, after;
      for (uint32_t k : members) {
        const bool in_first = by_row ? centers_[k].y < first.bottom : centers_[k].x < first.right;
        (in_first ? before : after).push_back(k);
      }
      if (!before.empty() && !after.empty()) {
        return Join(std::move(before), first, std::move(after), second);
      }
      at = after.empty() ? first : second;
    }
  }

  uint32_t Join(std::vector<uint32_t> before, Rectangle first, std::vector<uint32_t> after,
                Rectangle second) {
    const uint32_t one = Build(std::move(before), first);
    const uint32_t other = Build(std::move(after), second);
    tree_.children.push_back({one, other});
    return tree_.leaves + static_cast<uint32_t>(tree_.children.size()) - 1;
  }

  const std::vector<Center> centers_;
  PartitionTree tree_;
};

// A group that is added to a context.
struct Gain {
  Mask context;
  double without = 0, with = 0;  // Outputs of the context, and with the group.
  uint32_t node = 0;
  double weight = 1;
  uint64_t found = 0;  // Its place among all.

  double priority() const { return std::abs(with - without) * weight; }
};

struct LessUrgent {
  bool operator()(const Gain& a, const Gain& b) const {
    return a.priority() != b.priority() ? a.priority() < b.priority() : a.found > b.found;
  }
};

}  // namespace

PartitionTree TreeOf(const Segmentation& segmentation) { return TreeBuilder(segmentation).Take(); }

absl::StatusOr<OwenFit> FitOwen(const PartitionTree& tree, uint64_t budget,
                                const MaskedOutputs& outputs) {
  const uint32_t leaves = tree.leaves;
  const auto nodes = static_cast<uint32_t>(leaves + tree.children.size());
  std::vector<std::vector<uint32_t>> members(nodes);
  for (uint32_t node = 0; node < nodes; ++node) {
    if (node < leaves) {
      members[node] = {node};
      continue;
    }
    for (uint32_t child : tree.children[node - leaves]) {
      members[node].insert(members[node].end(), members[child].begin(), members[child].end());
    }
  }
  OwenFit fit;
  const Mask nothing(leaves, 0);
  ASSIGN_OR_RETURN(const std::vector<double> ends, outputs({Mask(leaves, 1), nothing}));
  fit.full = ends[0];
  fit.hidden = ends[1];
  fit.evaluations = 2;

  std::vector<double> credit(nodes, 0.0);
  std::priority_queue<Gain, std::vector<Gain>, LessUrgent> queue;
  uint64_t found = 0;
  queue.push({nothing, fit.hidden, fit.full, nodes - 1, 1.0, found++});
  while (!queue.empty() && fit.evaluations + 2 <= budget) {
    std::vector<Gain> split;
    std::vector<Mask> masks;
    while (!queue.empty() && masks.size() < kBatch &&
           fit.evaluations + masks.size() + 2 <= budget) {
      Gain gain = queue.top();
      queue.pop();
      if (gain.node < leaves) {
        credit[gain.node] += (gain.with - gain.without) * gain.weight;
        continue;
      }
      for (uint32_t child : tree.children[gain.node - leaves]) {
        masks.push_back(gain.context);
        for (uint32_t k : members[child]) masks.back()[k] = 1;
      }
      split.push_back(std::move(gain));
    }
    if (masks.empty()) break;
    ASSIGN_OR_RETURN(const std::vector<double> values, outputs(masks));
    fit.evaluations += masks.size();
    for (size_t i = 0; i < split.size(); ++i) {
      const Gain& gain = split[i];
      const auto& [one, other] = tree.children[gain.node - leaves];
      const double with_one = values[2 * i], with_other = values[2 * i + 1];
      const double weight = gain.weight / 2;
      queue.push({gain.context, gain.without, with_one, one, weight, found++});
      queue.push({gain.context, gain.without, with_other, other, weight, found++});
      queue.push({masks[2 * i + 1], with_other, gain.with, one, weight, found++});
      queue.push({masks[2 * i], with_one, gain.with, other, weight, found++});
    }
  }
  fit.complete = true;
  for (; !queue.empty(); queue.pop()) {
    const Gain& gain = queue.top();
    credit[gain.node] += (gain.with - gain.without) * gain.weight;
    fit.complete = fit.complete && gain.node < leaves;
  }
  // From the root down: what a group holds goes to its halves by their number of superpixels.
  for (uint32_t node = nodes; node-- > leaves;) {
    for (uint32_t child : tree.children[node - leaves]) {
      credit[child] += credit[node] * static_cast<double>(members[child].size()) /
                       static_cast<double>(members[node].size());
    }
  }
  fit.values.assign(credit.begin(), credit.begin() + leaves);
  return fit;
}

}  // namespace dermis
