// LIME's local linear fit (Ribeiro 2016), as lime 0.2.0.1 computes it.
#ifndef DERMIS_WORKER_EXPLAIN_LIME_H_
#define DERMIS_WORKER_EXPLAIN_LIME_H_

#include <vector>

#include "absl/types/span.h"
#include "dermis/v1/spec.pb.h"
#include "worker/explain/masks.h"

namespace dermis {

// The package's defaults.
struct LimeOptions {
  uint32_t num_features = 0;   // Superpixels that are kept; 0, or not fewer than there are: all.
  v1::FeatureSelection selection = v1::FEATURE_SELECTION_AUTO;
  double kernel_width = 0.25;  // > 0
  double alpha = 1.0;          // Ridge penalty, > 0.
  bool selection_errors = false;  // Standard errors also where superpixels are dropped.
};

// sqrt(exp(-d^2 / width^2)), d = 1 - sqrt(ones / n): cosine distance to the mask that shows all (1 if none).
double LimeWeight(uint32_t ones, uint32_t superpixels, double width = 0.25);

struct LimeFit {
  std::vector<double> coefficients;  // 0 for superpixels that were not kept.
  // Delete-a-group jackknife: 20 groups of consecutive rows, row 0 in all. Empty with fewer than 40
  // random rows, more than 1,024 superpixels, or where some were not kept (what picking them adds
  // is not known). With selection_errors there are some where picking them adds nothing: each of
  // the 20 fits picks anew, and all pick the same. Of those that were not kept it is 0, as their
  // values are.
  std::vector<double> standard_errors;
  double intercept = 0;
  double r_squared = 0;    // Weighted; 0 where the outputs do not vary and are not met exactly.
};

// Ridge regression, weighted, the intercept unpenalised, in double, on the superpixels that are kept. masks[r] has S entries,
// outputs[r] is finite; at least one row. Always solvable: the penalty makes it positive definite.
LimeFit FitLime(absl::Span<const Mask> masks, absl::Span<const double> outputs,
                const LimeOptions& options = {});

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_LIME_H_
