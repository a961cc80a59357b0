#include "worker/classical/forest.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/philox.h"

namespace dermis {
namespace {

absl::Status Bad(const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("forest: ", why));
}

// A whole number below `bound` from 64 bits: floor(bits * bound / 2^64).
uint64_t Below(uint64_t bits, uint64_t bound) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((Wide{bits} * bound) >> 64);
}

// Draws without replacement from 0..p-1, two a Philox block, by swaps that are taken back.
class FeatureDraws {
 public:
  explicit FeatureDraws(size_t p) : order_(p) { std::iota(order_.begin(), order_.end(), 0u); }
  void Start(uint64_t seed, uint32_t tree, uint32_t path) {
    while (!swaps_.empty()) {
      std::swap(order_[swaps_.size() - 1], order_[swaps_.back()]);
      swaps_.pop_back();
    }
    seed_ = seed, tree_ = tree, path_ = path;
  }
  bool empty() const { return swaps_.size() == order_.size(); }
  uint32_t Next() {
    const size_t k = swaps_.size();
    if (k % 2 == 0) {
      block_ =
          PhiloxBlock(seed_, Purpose::kForestFeatures, tree_, path_, static_cast<uint32_t>(k / 2));
    }
    const uint64_t bits = uint64_t{block_[k % 2 * 2]} << 32 | block_[k % 2 * 2 + 1];
    const size_t other = k + Below(bits, order_.size() - k);
    std::swap(order_[k], order_[other]);
    swaps_.push_back(static_cast<uint32_t>(other));
    return order_[k];
  }

 private:
  std::vector<uint32_t> order_, swaps_;
  uint64_t seed_ = 0;
  uint32_t tree_ = 0, path_ = 0;
  std::array<uint32_t, 4> block_{};
};

struct Split {
  bool found = false;
  double score = -1;  // sum_k left_k^2 / left + sum_k right_k^2 / right: the larger, the purer.
  uint32_t feature = 0;
  float threshold = 0;
};

class Grower {
 public:
  Grower(const PixelColumns& columns, absl::Span<const uint32_t> labels,
         const ForestOptions& options, uint64_t seed, uint32_t tree)
      : columns_(columns),
        labels_(labels),
        classes_(options.classes),
        max_depth_(options.max_depth),
        seed_(seed),
        tree_number_(tree),
        wanted_(options.features != 0
                    ? options.features
                    : std::max<uint64_t>(1, static_cast<uint64_t>(std::sqrt(
                                                static_cast<double>(columns.features()))))),
        draws_(columns.features()),
        counts_(256 * size_t{options.classes}, 0) {}

  Tree Grow() {
    const uint32_t n = static_cast<uint32_t>(columns_.rows());
    weights_.assign(n, 0);
    for (uint32_t place = 0; place < n; ++place) {
      const auto block = PhiloxBlock(seed_, Purpose::kForestRows, tree_number_, place, 0);
      ++weights_[Below(uint64_t{block[0]} << 32 | block[1], n)];
    }
    for (uint32_t row = 0; row < n; ++row) {
      if (weights_[row] > 0) rows_.push_back(row);
    }
    Node(0, rows_.size(), 0, 1);
    return std::move(tree_);
  }

 private:
  // Rows [begin, end) of rows_. `path`: 1 for the root, 2 path (+ 1) for its left (right) child.
  int32_t Node(size_t begin, size_t end, uint32_t depth, uint32_t path) {
    const auto node = static_cast<int32_t>(tree_.nodes());
    std::vector<uint64_t> totals(classes_, 0);
    uint64_t weight = 0;
    for (size_t k = begin; k < end; ++k) {
      totals[labels_[rows_[k]]] += weights_[rows_[k]];
      weight += weights_[rows_[k]];
    }
    tree_.feature.push_back(-1);
    tree_.threshold.push_back(0);
    tree_.left.push_back(-1);
    tree_.right.push_back(-1);
    tree_.weight.push_back(static_cast<uint32_t>(weight));
    for (uint64_t total : totals) {
      tree_.probability.push_back(static_cast<double>(total) / static_cast<double>(weight));
    }
    const bool pure = std::count(totals.begin(), totals.end(), uint64_t{0}) + 1 >= classes_;
    if (depth == max_depth_ || end - begin < 2 || pure) return node;
    const Split split = Best(begin, end, totals, weight, path);
    if (!split.found) return node;
    const uint8_t* const column = columns_.column(split.feature);
    const auto middle = std::stable_partition(
        rows_.begin() + static_cast<ptrdiff_t>(begin), rows_.begin() + static_cast<ptrdiff_t>(end),
        [&](uint32_t row) { return static_cast<float>(column[row]) <= split.threshold; });
    const auto cut = static_cast<size_t>(middle - rows_.begin());
    tree_.feature[node] = static_cast<int32_t>(split.feature);
    tree_.threshold[node] = split.threshold;
    const int32_t left = Node(begin, cut, depth + 1, 2 * path);
    const int32_t right = Node(cut, end, depth + 1, 2 * path + 1);
    tree_.left[node] = left;
    tree_.right[node] = right;
    return node;
  }

  Split Best(size_t begin, size_t end, const std::vector<uint64_t>& totals, uint64_t weight,
             uint32_t path) {
    Split best;
    draws_.Start(seed_, tree_number_, path);
    bool varied = false;
    for (uint64_t drawn = 0; !draws_.empty() && (drawn < wanted_ || !varied); ++drawn) {
      const uint32_t feature = draws_.Next();
      const uint8_t* const column = columns_.column(feature);
      uint32_t low = 255, high = 0;
      // A histogram of drawn rows by value and class; cleared as it is read.
      if (classes_ == 2) {
        for (size_t k = begin; k < end; ++k) {
          const uint32_t row = rows_[k], value = column[row];
          low = std::min(low, value);
          high = std::max(high, value);
          counts_[2 * value + labels_[row]] += weights_[row];
        }
      } else {
        for (size_t k = begin; k < end; ++k) {
          const uint32_t row = rows_[k], value = column[row];
          low = std::min(low, value);
          high = std::max(high, value);
          counts_[size_t{classes_} * value + labels_[row]] += weights_[row];
        }
      }
      varied = varied || low < high;
      if (low < high) {
        classes_ == 2 ? ScanTwo(feature, low, high, totals, weight, &best)
                      : Scan(feature, low, high, totals, weight, &best);
      }
      std::fill(counts_.begin() + size_t{classes_} * low,
                counts_.begin() + size_t{classes_} * (high + 1), 0u);
    }
    return best;
  }

  void Take(double score, uint32_t feature, uint32_t below, uint32_t above, Split* best) {
    if (best->found && !(score > best->score)) return;
    *best = {true, score, feature, static_cast<float>(below + above) / 2};
  }

  // Thresholds between neighbouring values, ascending.
  void Scan(uint32_t feature, uint32_t low, uint32_t high, const std::vector<uint64_t>& totals,
            uint64_t weight, Split* best) {
    std::vector<uint64_t> left(classes_, 0);
    uint64_t left_weight = 0;
    uint32_t last = low;
    for (uint32_t value = low; value <= high; ++value) {
      const uint32_t* const count = &counts_[size_t{classes_} * value];
      const uint64_t here = std::accumulate(count, count + classes_, uint64_t{0});
      if (here == 0) continue;
      if (left_weight > 0) {
        double squares_left = 0, squares_right = 0;
        for (uint32_t k = 0; k < classes_; ++k) {
          const auto l = static_cast<double>(left[k]), r = static_cast<double>(totals[k] - left[k]);
          squares_left += l * l;
          squares_right += r * r;
        }
        Take(squares_left / static_cast<double>(left_weight) +
                 squares_right / static_cast<double>(weight - left_weight),
             feature, last, value, best);
      }
      for (uint32_t k = 0; k < classes_; ++k) left[k] += count[k];
      left_weight += here;
      last = value;
    }
  }

  // The same numbers for two classes: the common case, without inner loops.
  void ScanTwo(uint32_t feature, uint32_t low, uint32_t high, const std::vector<uint64_t>& totals,
               uint64_t weight, Split* best) {
    const auto total0 = static_cast<double>(totals[0]), total1 = static_cast<double>(totals[1]);
    const auto all = static_cast<double>(weight);
    double left0 = 0, left1 = 0;
    uint32_t last = low;
    for (uint32_t value = low; value <= high; ++value) {
      const uint32_t count0 = counts_[2 * value], count1 = counts_[2 * value + 1];
      if ((count0 | count1) == 0) continue;
      const double left = left0 + left1;
      if (left > 0) {
        const double right0 = total0 - left0, right1 = total1 - left1;
        Take((left0 * left0 + left1 * left1) / left +
                 (right0 * right0 + right1 * right1) / (all - left),
             feature, last, value, best);
      }
      left0 += count0;
      left1 += count1;
      last = value;
    }
  }

  const PixelColumns& columns_;
  const absl::Span<const uint32_t> labels_;
  const uint32_t classes_, max_depth_;
  const uint64_t seed_;
  const uint32_t tree_number_;
  const uint64_t wanted_;
  FeatureDraws draws_;
  std::vector<uint32_t> counts_, weights_, rows_;
  Tree tree_;
};

void Copy(const Tree& tree, uint32_t classes, int32_t node, uint32_t depth, Tree* out) {
  const auto at = static_cast<size_t>(node), to = out->nodes();
  const bool inner = tree.feature[at] >= 0 && depth > 0;
  out->feature.push_back(inner ? tree.feature[at] : -1);
  out->threshold.push_back(inner ? tree.threshold[at] : 0);
  out->left.push_back(-1);
  out->right.push_back(-1);
  out->weight.push_back(tree.weight[at]);
  for (uint32_t k = 0; k < classes; ++k) {
    out->probability.push_back(tree.probability[at * classes + k]);
  }
  if (!inner) return;
  out->left[to] = static_cast<int32_t>(out->nodes());
  Copy(tree, classes, tree.left[at], depth - 1, out);
  out->right[to] = static_cast<int32_t>(out->nodes());
  Copy(tree, classes, tree.right[at], depth - 1, out);
}

template <typename Pixel>
std::vector<double> Mean(const Forest& forest, const Pixel* image) {
  std::vector<double> sum(forest.classes, 0.0);
  for (const Tree& tree : forest.trees) {
    size_t node = 0;
    while (tree.feature[node] >= 0) {
      const bool left = static_cast<float>(image[tree.feature[node]]) <= tree.threshold[node];
      node = static_cast<size_t>(left ? tree.left[node] : tree.right[node]);
    }
    for (uint32_t k = 0; k < forest.classes; ++k) {
      sum[k] += tree.probability[node * forest.classes + k];
    }
  }
  for (double& value : sum) value /= static_cast<double>(forest.trees.size());
  return sum;
}

// Weight times Gini impurity.
double Impurity(const Tree& tree, uint32_t classes, size_t node) {
  double squares = 0;
  for (uint32_t k = 0; k < classes; ++k) {
    const double share = tree.probability[node * classes + k];
    squares += share * share;
  }
  return tree.weight[node] * (1 - squares);
}

}  // namespace

absl::StatusOr<Tree> GrowTree(const PixelColumns& columns, absl::Span<const uint32_t> labels,
                              const ForestOptions& options, uint64_t seed, uint32_t tree) {
  if (columns.rows() != labels.size() || labels.empty() || columns.features() == 0 ||
      columns.rows() > std::numeric_limits<uint32_t>::max() ||
      columns.features() > std::numeric_limits<int32_t>::max()) {
    return Bad(absl::StrCat(columns.rows(), " images of ", columns.features(), " features for ",
                            labels.size(), " labels"));
  }
  if (options.classes < 2) return Bad("two classes are needed at least");
  for (uint32_t label : labels) {
    if (label >= options.classes) {
      return Bad(absl::StrCat("label ", label, " of ", options.classes, " classes"));
    }
  }
  if (options.max_depth < 1 || options.max_depth > kDeepestTree) {
    return Bad(absl::StrCat("depth ", options.max_depth, "; 1 to ", kDeepestTree, " is possible"));
  }
  return Grower(columns, labels, options, seed, tree).Grow();
}

Tree CutTree(const Tree& tree, uint32_t classes, uint32_t depth) {
  Tree out;
  Copy(tree, classes, 0, depth, &out);
  return out;
}

std::vector<double> Probabilities(const Forest& forest, const uint8_t* image) {
  return Mean(forest, image);
}
std::vector<double> Probabilities(const Forest& forest, const float* image) {
  return Mean(forest, image);
}

std::vector<double> ImpurityImportance(const Forest& forest) {
  std::vector<double> total(size_t{forest.size} * forest.size * 3, 0.0), one(total.size());
  double trees = 0;
  for (const Tree& tree : forest.trees) {
    if (tree.nodes() < 2) continue;
    std::fill(one.begin(), one.end(), 0.0);
    double sum = 0;
    for (size_t node = 0; node < tree.nodes(); ++node) {
      if (tree.feature[node] < 0) continue;
      const double gain = Impurity(tree, forest.classes, node) -
                          Impurity(tree, forest.classes, static_cast<size_t>(tree.left[node])) -
                          Impurity(tree, forest.classes, static_cast<size_t>(tree.right[node]));
      one[static_cast<size_t>(tree.feature[node])] += gain;
      sum += gain;
    }
    trees += 1;
    if (!(sum > 0)) continue;
    for (size_t k = 0; k < one.size(); ++k) total[k] += one[k] / sum;
  }
  if (trees == 0) return total;
  double sum = 0;
  for (double value : total) sum += value / trees;
  for (double& value : total) value = sum > 0 ? value / trees / sum : 0.0;
  return total;
}

absl::Status CheckTree(const Tree& tree, uint64_t features, uint32_t classes) {
  const size_t nodes = tree.nodes();
  if (nodes == 0 || nodes > std::numeric_limits<int32_t>::max() || tree.threshold.size() != nodes ||
      tree.left.size() != nodes || tree.right.size() != nodes || tree.weight.size() != nodes ||
      tree.probability.size() != nodes * classes) {
    return Bad("a tree's arrays are empty or differ in length");
  }
  std::vector<uint8_t> parents(nodes, 0);
  for (size_t node = 0; node < nodes; ++node) {
    double sum = 0;
    for (uint32_t k = 0; k < classes; ++k) {
      const double share = tree.probability[node * classes + k];
      if (!(share >= 0 && share <= 1)) return Bad("a probability is not in 0..1");
      sum += share;
    }
    if (std::abs(sum - 1) > 1e-9) return Bad("a node's probabilities do not sum to 1");
    if (tree.feature[node] < 0) {
      if (tree.feature[node] != -1 || tree.left[node] != -1 || tree.right[node] != -1) {
        return Bad("a leaf has a feature or children");
      }
      continue;
    }
    if (static_cast<uint64_t>(tree.feature[node]) >= features) {
      return Bad(absl::StrCat("feature ", tree.feature[node], " of ", features));
    }
    if (!(tree.threshold[node] >= 0 && tree.threshold[node] <= 255)) {
      return Bad("a threshold is not in 0..255");
    }
    for (int32_t child : {tree.left[node], tree.right[node]}) {
      // Later nodes only: no walk goes round in circles.
      if (child <= static_cast<int64_t>(node) || static_cast<size_t>(child) >= nodes ||
          ++parents[static_cast<size_t>(child)] > 1) {
        return Bad(absl::StrCat("node ", node, " has the child ", child, " of ", nodes, " nodes"));
      }
    }
  }
  for (size_t node = 1; node < nodes; ++node) {
    if (parents[node] != 1) return Bad(absl::StrCat("node ", node, " is nobody's child"));
  }
  return absl::OkStatus();
}

}  // namespace dermis
