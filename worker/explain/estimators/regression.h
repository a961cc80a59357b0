// Shapley values as the solution of the Shapley kernel's least-squares problem (Charnes et al.
// 1988; Lundberg & Lee 2017):
//
//   minimise sum_z w(z) (f(z) - f(0) - sum_k z_k phi_k)^2   subject to   sum_k phi_k = f(1) - f(0)
//
// over the coalitions that were drawn. A coalition and its complement enter together: their half
// sum does not depend on phi, so all that is even in the mask (every interaction of two superpixels
// among it) cancels exactly.
#ifndef DERMIS_WORKER_EXPLAIN_ESTIMATORS_REGRESSION_H_
#define DERMIS_WORKER_EXPLAIN_ESTIMATORS_REGRESSION_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "worker/explain/estimators/coalitions.h"

namespace dermis {

struct RegressionFit {
  std::vector<double> values;
  // Delete-a-group jackknife, 20 groups of consecutive draws. Leverage: a size of which a share p
  // was run has its part scaled by sqrt(1 - p), so it is 0 where all coalitions were run. Empty:
  // fewer than LeastPairsForErrors units, a system that is singular, or more than 1,024
  // superpixels.
  std::vector<double> standard_errors;
  double additivity_residual = 0;  // f(1) - f(0) - sum(values): rounding only.
  uint64_t rows = 0;               // Of the design, that were used: a prefix.
};

// From the first `units` units of the design (0 or more than there are: all). outputs[r]: of
// design.rows[r], at least the rows used. A system that is singular (SolvePositive's rank rule) has
// its solution of minimal norm about equal shares.

// Each size's draws share the kernel's weight of that size, and the equations are adjusted for what
// the size of a mask does (normal_equations.h): ten to thirty times less squared error than the
// regression alone. errors: whether standard errors are wanted; they cost twenty times what the
// values do.
RegressionFit FitLeverage(const CoalitionDesign& design, absl::Span<const double> outputs,
                          uint64_t units, bool errors = true);

// Weights as in shap's _kernel.py: enumerated coalitions have the kernel's, the draws share what is
// left; a coalition that was drawn twice weighs twice.
RegressionFit FitKernel(const CoalitionDesign& design, absl::Span<const double> outputs,
                        uint64_t units);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_ESTIMATORS_REGRESSION_H_
