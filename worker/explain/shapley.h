// Shapley values by antithetic permutations: superpixels are shown one by one in an order, then in its reverse;
// what each adds to the output is averaged.
#ifndef DERMIS_WORKER_EXPLAIN_SHAPLEY_H_
#define DERMIS_WORKER_EXPLAIN_SHAPLEY_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace dermis {

struct ShapleyFit {
  std::vector<double> values;
  // Of the mean over pairs: a pair is one sample, because its halves are dependent. Empty with one pair.
  std::vector<double> standard_errors;
  double additivity_residual = 0;    // f(x) - f(hidden) - sum(values): rounding only.
};

// orders[p]: pair p's permutation of 0 .. S - 1. outputs: f(x), f(hidden), then 2 (S - 1) values a pair in the
// order of ShapleyPairMasks. At least one pair, S >= 1.
ShapleyFit FitShapley(absl::Span<const std::vector<uint32_t>> orders,
                      absl::Span<const double> outputs);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_SHAPLEY_H_
