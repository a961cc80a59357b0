#include "common/evaluation/decision_curve.h"

#include <algorithm>
#include <cstddef>

namespace dermis {

std::vector<NetBenefit> DecisionCurve(absl::Span<const double> probability,
                                      absl::Span<const uint32_t> label) {
  const double n = static_cast<double>(label.size());
  const double positives = static_cast<double>(std::count(label.begin(), label.end(), 1u));
  std::vector<NetBenefit> curve;
  for (int percent = 1; percent < 100; ++percent) {
    const double threshold = percent / 100.0;
    const double odds = percent / (100.0 - percent);
    double true_positive = 0, false_positive = 0;
    for (size_t i = 0; i < label.size(); ++i) {
      if (probability[i] >= threshold) (label[i] == 1 ? true_positive : false_positive) += 1;
    }
    curve.push_back({threshold, true_positive / n - false_positive / n * odds,
                     positives / n - (n - positives) / n * odds});
  }
  return curve;
}

UsefulRange UsefulRangeOf(absl::Span<const NetBenefit> curve) {
  size_t best = 0, best_length = 0, length = 0;
  for (size_t i = 0; i < curve.size(); ++i) {
    length = curve[i].model > std::max(0.0, curve[i].treat_all) ? length + 1 : 0;
    if (length > best_length) best_length = length, best = i;
  }
  if (best_length == 0) return {};
  return {curve[best + 1 - best_length].threshold, curve[best].threshold};
}

}  // namespace dermis
