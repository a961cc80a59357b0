// Whether probabilities mean what they say. Pure, double, sums in image order.
#ifndef DERMIS_COMMON_EVALUATION_CALIBRATION_H_
#define DERMIS_COMMON_EVALUATION_CALIBRATION_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"

#include "common/evaluation/scores.h"

namespace dermis {

// Margins beyond are taken as this: a probability is then 1 to the last bit of a double, and its
// log loss stays finite.
inline constexpr double kLargestMargin = 36;

// Probability of log odds, without overflow.
double Sigmoid(double margin);

// Mean squared difference of probability and label (Brier 1950), as sklearn.brier_score_loss.
double BrierScore(absl::Span<const double> probability, absl::Span<const uint32_t> label);

// Logistic recalibration (Cox 1958): logit P(positive) = intercept + slope * margin, by maximum
// likelihood (Newton with halved steps). 0 and 1 where probabilities are right; a slope below 1:
// too extreme (over-fitted). nullopt where no finite maximum exists: the margins separate the
// classes, or do not vary.
struct Recalibration {
  double intercept = 0, slope = 1;
};
std::optional<Recalibration> Recalibrate(absl::Span<const double> margin,
                                         absl::Span<const uint32_t> label, Counts counts);
// Calibration in the large: the intercept where the slope is held at 1 (Van Calster et al. 2019).
// Above 0: too few positives are foreseen. nullopt without both classes.
std::optional<double> InterceptInTheLarge(absl::Span<const double> margin,
                                          absl::Span<const uint32_t> label, Counts counts);

inline constexpr int kCalibrationBins = 15;
// Images of one bin of equal mass.
struct ReliabilityPoint {
  double mean_probability = 0, share_positive = 0;
  uint64_t n = 0;
};
// Bins by quantiles of the probability, as sklearn.calibration_curve(strategy="quantile"): edge b
// is the b/15 quantile (linear between order statistics), a probability at an edge belongs below
// it, so equal probabilities are never torn apart. Empty bins are left out.
std::vector<ReliabilityPoint> ReliabilityCurve(absl::Span<const double> probability,
                                               absl::Span<const uint32_t> label);
// Expected calibration error (Naeini et al. 2015) on these bins: sum n_b / n |share - mean|. No
// interval: resampling only ever adds to it.
double ExpectedCalibrationError(absl::Span<const ReliabilityPoint> curve);

// Temperature scaling (Guo et al. 2017): margins are divided by the temperature with the smallest
// mean log loss. Never changes an order. The loss is convex in 1 / temperature: Newton, kept within
// a bracket by halving it. Between .01 and 100; at_bound where the minimum lies beyond (margins
// that separate the classes, or say nothing).
struct Temperature {
  double value = 1;
  bool at_bound = false;
};
Temperature FitTemperature(absl::Span<const double> margin, absl::Span<const uint32_t> label);

// Mean log loss (natural) of margins.
double LogLoss(absl::Span<const double> margin, absl::Span<const uint32_t> label);

struct Calibration {
  Estimate brier, intercept, slope, in_the_large;  // NaN: not defined.
  double error = 0;                                // ExpectedCalibrationError.
  double log_loss = 0;
  std::vector<ReliabilityPoint> curve;
};

// Without intervals. Margins divided by `temperature`.
Calibration CalibrationOf(const ScoredImages& images, double temperature);
// Adds the intervals; `calibration` must stay where it is. The temperature is held fixed.
void AddIntervals(const ScoredImages& images, double temperature, Calibration& calibration,
                  BootstrapPass& pass);

}  // namespace dermis

#endif  // DERMIS_COMMON_EVALUATION_CALIBRATION_H_
