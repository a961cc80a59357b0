// Decision curve analysis (Vickers & Elkin 2006): is it better to act on the model than on all, or
// on nobody? Pure.
#ifndef DERMIS_COMMON_EVALUATION_DECISION_CURVE_H_
#define DERMIS_COMMON_EVALUATION_DECISION_CURVE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace dermis {

// At threshold probability t (who acts at t takes (1 - t) / t needless biopsies for one melanoma):
// net benefit = TP / n - FP / n * t / (1 - t), of those with probability >= t. Acting on nobody is
// 0.
struct NetBenefit {
  double threshold = 0, model = 0, treat_all = 0;
};
// At .01, .02, ... .99.
std::vector<NetBenefit> DecisionCurve(absl::Span<const double> probability,
                                      absl::Span<const uint32_t> label);

// The thresholds at which acting on the model is better than both others: the longest run of the
// curve. {0, 0} where there is none.
struct UsefulRange {
  double low = 0, high = 0;
};
UsefulRange UsefulRangeOf(absl::Span<const NetBenefit> curve);

}  // namespace dermis

#endif  // DERMIS_COMMON_EVALUATION_DECISION_CURVE_H_
