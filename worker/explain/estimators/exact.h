// Shapley values from all coalitions (Shapley 1953): the judge of every other estimator.
#ifndef DERMIS_WORKER_EXPLAIN_ESTIMATORS_EXACT_H_
#define DERMIS_WORKER_EXPLAIN_ESTIMATORS_EXACT_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace dermis {

// outputs[r]: of ExactMask(r), 2^S of them, 1 <= S <= 16. phi_k = sum over coalitions z without k
// of |z|! (S - 1 - |z|)! / S! (f(z and k) - f(z)).
std::vector<double> FitExact(absl::Span<const double> outputs, uint32_t superpixels);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_ESTIMATORS_EXACT_H_
