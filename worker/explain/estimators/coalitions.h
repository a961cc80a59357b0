// Which coalitions KernelSHAP and leverage-score sampling run: functions of seed, number of
// superpixels and budget alone, so masks are never sent. Both are sequences: what fewer draws give
// is a prefix of what more give.
#ifndef DERMIS_WORKER_EXPLAIN_ESTIMATORS_COALITIONS_H_
#define DERMIS_WORKER_EXPLAIN_ESTIMATORS_COALITIONS_H_

#include <cstdint>
#include <vector>

#include "worker/explain/masks.h"

namespace dermis {

struct CoalitionDesign {
  // Row 0 shows everything, row 1 nothing; then `enumerated` rows that hold complete sizes; then
  // the units.
  std::vector<Mask> rows;
  uint64_t enumerated = 0;
  uint32_t enumerated_sizes = 0;  // Sizes 1 .. so many and their complements.
  // What was drawn first: a coalition and, one row later, its complement (KernelSHAP has no
  // complement of the middle size of an even number of superpixels).
  struct Unit {
    uint32_t row = 0;
    bool paired = true;
  };
  std::vector<Unit> units;
  // The unit of each draw, in order: a unit is drawn again only by KernelSHAP.
  std::vector<uint32_t> draws;
};

// KernelSHAP (Lundberg & Lee 2017) as shap's _kernel.py draws: sizes by the kernel's weight, those
// of small size enumerated where n pays for it, a coalition's complement after it. n: rows besides
// the two ends. At most 4 draws a row that is left, so there may be fewer rows.
CoalitionDesign KernelDesign(uint64_t seed, uint32_t superpixels, uint64_t n);

// Leverage-score sampling (Musco & Witter 2024, arXiv 2410.01917): a coalition's leverage in the
// Shapley regression depends on its size alone such that all sizes are equally likely. Pairs of
// complements, none drawn twice. `pairs` <= 2^(S - 1) - 1.
CoalitionDesign LeverageDesign(uint64_t seed, uint32_t superpixels, uint64_t pairs);

// Row r of the estimator exact hides the superpixels whose bits r has: row 0 shows all, the last
// row nothing.
Mask ExactMask(uint64_t row, uint32_t superpixels);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_ESTIMATORS_COALITIONS_H_
