// The two methods that look at one superpixel at a time.
#ifndef DERMIS_WORKER_EXPLAIN_ESTIMATORS_SINGLE_H_
#define DERMIS_WORKER_EXPLAIN_ESTIMATORS_SINGLE_H_

#include <vector>

#include "absl/types/span.h"

#include "worker/explain/masks.h"

namespace dermis {

// Row 0 shows everything, row 1 + k hides superpixel k alone.
Mask OcclusionMask(uint32_t row, uint32_t superpixels);
// What the output loses: f(all) - f(all but k).
std::vector<double> FitOcclusion(absl::Span<const double> outputs);

struct RiseFit {
  std::vector<double> values;
  std::vector<double> standard_errors;  // Masks are independent. Empty with fewer than two.
};

// RISE (Petsiuk et al. 2018, eq. 6) over superpixels: value k = sum_r f(mask r) mask r[k] / (rows
// p). Its masks are the paper's coarse cells, here superpixels; they are neither smoothed nor
// shifted.
RiseFit FitRise(absl::Span<const Mask> masks, absl::Span<const double> outputs, double probability);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_ESTIMATORS_SINGLE_H_
