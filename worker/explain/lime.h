// LIME's local linear fit (Ribeiro 2016), as lime 0.2.0.1 computes it with all features kept.
#ifndef DERMIS_WORKER_EXPLAIN_LIME_H_
#define DERMIS_WORKER_EXPLAIN_LIME_H_

#include <vector>

#include "absl/types/span.h"
#include "worker/explain/masks.h"

namespace dermis {

// sqrt(exp(-d^2 / 0.25^2)), d = 1 - sqrt(ones / n): cosine distance to the mask that shows all (1 if none).
double LimeWeight(uint32_t ones, uint32_t superpixels);

struct LimeFit {
  std::vector<double> coefficients;
  // Delete-a-group jackknife: 20 groups of consecutive rows, row 0 in all. Empty with fewer than 40 random
  // rows or more than 1,024 superpixels.
  std::vector<double> standard_errors;
  double intercept = 0;
  double r_squared = 0;    // Weighted; 0 where the outputs do not vary and are not met exactly.
};

// Ridge regression, alpha = 1, weighted, the intercept unpenalised, in double. masks[r] has S entries,
// outputs[r] is finite; at least one row. Always solvable: the penalty makes it positive definite.
LimeFit FitLime(absl::Span<const Mask> masks, absl::Span<const double> outputs);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_LIME_H_
