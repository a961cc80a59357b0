// Random forests on pixels as scikit-learn's RandomForestClassifier grows them: each tree on rows
// drawn with replacement, each split the best (Gini) of some features drawn anew, leaves that give
// probabilities, the forest their mean.
#ifndef DERMIS_WORKER_CLASSICAL_FOREST_H_
#define DERMIS_WORKER_CLASSICAL_FOREST_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "worker/classical/pixel_columns.h"

namespace dermis {

inline constexpr uint32_t kDeepestTree = 30;

// Flat: node 0 is the root, children come after their parent. x[feature] <= threshold goes left. A
// threshold lies halfway between two values that training images have, so it is a multiple of .5 in
// 0..255; inputs that are not whole (masked images) are compared as they are.
struct Tree {
  std::vector<int32_t> feature;  // -1: a leaf.
  std::vector<float> threshold;
  std::vector<int32_t> left, right;  // -1 in a leaf.
  std::vector<uint32_t> weight;      // Drawn rows that came here.
  std::vector<double> probability;   // nodes x classes, of every node: what a leaf here would say.
  size_t nodes() const { return feature.size(); }
};

struct ForestOptions {
  uint32_t classes = 2;
  uint32_t max_depth = 5;  // 1..kDeepestTree; scikit-learn's None is kDeepestTree.
  uint32_t features = 0;   // Drawn a split; 0: floor(sqrt(p)), at least 1.
};

// Tree number `tree` of the forest of this seed: a function of its arguments, so anyone may grow
// any tree. Draws are keyed by the path to the node, so a tree of less depth is this one cut
// (CutTree), and a forest of fewer trees is the first ones of this: a grid costs its largest cell.
// Ties between splits go to the feature that was drawn first, then to the lower threshold. As in
// scikit-learn, features of one value count as drawn, but drawing goes on until one has two.
// columns, labels: the training images; labels below options.classes. INVALID_ARGUMENT otherwise.
absl::StatusOr<Tree> GrowTree(const PixelColumns& columns, absl::Span<const uint32_t> labels,
                              const ForestOptions& options, uint64_t seed, uint32_t tree);

// The same tree grown with max_depth = `depth` (no deeper than it is): equal bits.
Tree CutTree(const Tree& tree, uint32_t classes, uint32_t depth);

struct Forest {
  uint32_t size = 0;  // Pixels a side; size * size * 3 features.
  uint32_t classes = 2;
  std::vector<double> mean_color;  // Three, 0..255: of the training images.
  std::vector<Tree> trees;
};

// Mean of the trees' leaves, in their order, in double: `classes` values. The same pixels have the
// same probabilities as bytes and as floats.
std::vector<double> Probabilities(const Forest& forest, const uint8_t* image);
std::vector<double> Probabilities(const Forest& forest, const float* image);

// By how much each feature's splits lower the Gini impurity, weighted by the rows that come to
// them, a tree's sum being 1; mean over the trees that split at all, its sum 1 again:
// scikit-learn's feature_importances_. All 0 where no tree splits.
std::vector<double> ImpurityImportance(const Forest& forest);

// INVALID_ARGUMENT: sizes that do not fit, features, children, thresholds or probabilities that
// cannot be; for a tree from outside.
absl::Status CheckTree(const Tree& tree, uint64_t features, uint32_t classes);

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_FOREST_H_
