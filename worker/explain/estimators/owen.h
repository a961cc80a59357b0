// Owen values over a tree of superpixels, refined where they matter: shap's PartitionExplainer
// (_partition.py, no fixed context).
#ifndef DERMIS_WORKER_EXPLAIN_ESTIMATORS_OWEN_H_
#define DERMIS_WORKER_EXPLAIN_ESTIMATORS_OWEN_H_

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "worker/explain/masks.h"
#include "worker/explain/superpixels.h"

namespace dermis {

// Nodes 0 .. leaves - 1 are superpixels, leaves + i is the group of children[i]; the last one is
// the root. A group comes after its children.
struct PartitionTree {
  uint32_t leaves = 0;
  std::vector<std::array<uint32_t, 2>> children;  // leaves - 1 of them.
};

// shap's tree of an image (maskers/_image.py), over superpixels: the longer side of a rectangle is
// halved (rows win ties; the first half is the larger, because shap rounds down but numbers pixels
// from the last), a superpixel being where its centre of mass is; superpixels whose centres share a
// pixel are parted by number. Superpixels of one pixel give shap's tree.
PartitionTree TreeOf(const Segmentation& segmentation);

// Outputs of masks, in order; asked for a batch at a time.
using MaskedOutputs =
    std::function<absl::StatusOr<std::vector<double>>(absl::Span<const Mask> masks)>;

struct OwenFit {
  std::vector<double> values;
  double full = 0, hidden = 0;
  uint64_t evaluations = 0;
  bool complete = false;  // Every group was resolved: the values are Owen's, without error.
};

// Each group's gain in a context is split between its halves with and without the other (weight 1/2
// each), the group of the largest |gain| x weight first, ten masks a batch as in shap; ties go to
// what was found first. What is not resolved at `budget` masked inputs is shared evenly among the
// group's superpixels.
absl::StatusOr<OwenFit> FitOwen(const PartitionTree& tree, uint64_t budget,
                                const MaskedOutputs& outputs);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_ESTIMATORS_OWEN_H_
