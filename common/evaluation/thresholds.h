// Operating points: thresholds that are chosen on the validation images, and what they achieve on
// the test images, which took no part in the choice. Pure functions.
#ifndef DERMIS_COMMON_EVALUATION_THRESHOLDS_H_
#define DERMIS_COMMON_EVALUATION_THRESHOLDS_H_

#include <vector>

#include "common/evaluation/scores.h"

namespace dermis {

enum class ThresholdRule {
  kHalf,           // .5, not chosen.
  kYouden,         // The largest sensitivity + specificity - 1 (Youden 1950).
  kBestAccuracy,   // Depends on the share of positives among the validation images.
  kSensitivity90,  // The highest threshold at which at least 90 % of the positives are found.
  kSensitivity95,
  kSpecificity90,  // The lowest threshold at which at least 90 % of the negatives are left alone.
  kSpecificity95,
};
// All, in the order of tables.
inline constexpr ThresholdRule kThresholdRules[] = {
    ThresholdRule::kHalf,          ThresholdRule::kYouden,        ThresholdRule::kBestAccuracy,
    ThresholdRule::kSensitivity90, ThresholdRule::kSensitivity95, ThresholdRule::kSpecificity90,
    ThresholdRule::kSpecificity95};
// What Table 1 calls "chosen on validation". Youden's, because the best accuracy's threshold moves
// with the share of melanomas in a collection, which is its curators' choice.
inline constexpr ThresholdRule kTableOneRule = ThresholdRule::kYouden;

// Candidates lie half way between neighbouring distinct probabilities (a threshold on a score is
// as good as any between it and the next, and half way is what does not lean to either side), 0
// (all positive) and infinity (none). Ties of Youden's index and of accuracy go to the candidate
// that is nearest to .5, then to the lower one. Both classes are there.
double ChooseThreshold(ThresholdRule rule, absl::Span<const double> probability,
                       absl::Span<const uint32_t> label);

struct OperatingPoint {
  ThresholdRule rule = ThresholdRule::kHalf;
  double threshold = 0.5;
  Outcomes validation, test;
  // On test. Intervals hold the threshold fixed: they are about the test images, not about another
  // choice. A share of 0 or 1 has an interval without width: the bootstrap cannot see beyond its
  // sample.
  Estimate accuracy, sensitivity, specificity, precision, negative_predictive_value;
};

// One point for each rule, without intervals.
std::vector<OperatingPoint> OperatingPointsOf(const ScoredImages& validation,
                                              const ScoredImages& test);
// Adds the intervals of `points`, which must stay where they are.
void AddIntervals(const ScoredImages& test, std::vector<OperatingPoint>& points,
                  BootstrapPass& pass);

}  // namespace dermis

#endif  // DERMIS_COMMON_EVALUATION_THRESHOLDS_H_
