// Choosing settings of the baselines by cross-validation: which images a fold trains on, and which
// cell of a grid is taken.
#ifndef DERMIS_WORKER_CLASSICAL_SELECTION_H_
#define DERMIS_WORKER_CLASSICAL_SELECTION_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/split.h"

namespace dermis {

// Fold k validates on split k's validation images and trains on its training images: together all
// that does not test. Stratified, groups (lesions) stay whole: MakeSplit's folds, the same as a
// sweep's. INVALID_ARGUMENT: fewer than two folds, or MakeSplit's reasons.
absl::StatusOr<std::vector<Split>> MakeFolds(const v1::ImageSetManifest& manifest,
                                             const v1::SplitSpec& spec, uint64_t seed,
                                             uint32_t folds);

struct Choice {
  size_t cell = 0;      // Its index.
  double accuracy = 0;  // Mean over the folds.
  bool edge = false;    // Some axis of two or more values has its least or greatest one here: the
                      // grid may have to be wider.
};

// accuracy[cell][fold], one row a cell. Means that differ by less than 1e-12 are ties, since they
// are sums of the same fractions. INVALID_ARGUMENT: no cell, rows of other lengths, not finite.

// strengths[cell] = C. Ties go to the smaller C: the stronger penalty.
absl::StatusOr<Choice> ChooseStrength(absl::Span<const double> strengths,
                                      absl::Span<const std::vector<double>> accuracy);

struct ForestCell {
  uint32_t trees = 0, depth = 0;
};
// Ties go to fewer trees, then to less depth.
absl::StatusOr<Choice> ChooseForest(absl::Span<const ForestCell> cells,
                                    absl::Span<const std::vector<double>> accuracy);

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_SELECTION_H_
