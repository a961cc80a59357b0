#include "common/evaluation/thresholds.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>

namespace dermis {
namespace {

// A threshold and what it gives.
struct Candidate {
  double threshold;
  uint64_t true_positive, false_positive;
};

// By falling threshold, from "none" to "all".
std::vector<Candidate> Candidates(absl::Span<const double> probability,
                                  absl::Span<const uint32_t> label) {
  std::vector<size_t> order(label.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return probability[a] > probability[b]; });
  std::vector<Candidate> candidates = {{std::numeric_limits<double>::infinity(), 0, 0}};
  uint64_t true_positive = 0, false_positive = 0;
  for (size_t i = 0; i < order.size();) {
    const double here = probability[order[i]];
    for (; i < order.size() && probability[order[i]] == here; ++i) {
      ++(label[order[i]] == 1 ? true_positive : false_positive);
    }
    double threshold = 0;
    if (i < order.size()) {
      const double next = probability[order[i]];
      threshold = next + (here - next) / 2;
      if (!(threshold > next)) threshold = here;  // Neighbours among doubles.
    }
    candidates.push_back({threshold, true_positive, false_positive});
  }
  return candidates;
}

}  // namespace

double ChooseThreshold(ThresholdRule rule, absl::Span<const double> probability,
                       absl::Span<const uint32_t> label) {
  if (rule == ThresholdRule::kHalf) return 0.5;
  const std::vector<Candidate> candidates = Candidates(probability, label);
  const uint64_t positives = candidates.back().true_positive;
  const uint64_t negatives = candidates.back().false_positive;
  // Shares are compared as integers (in hundredths), or rounding would decide ties.
  const auto found = [&](uint64_t percent) {
    for (const Candidate& c : candidates) {
      if (100 * c.true_positive >= percent * positives) return c.threshold;
    }
    return 0.0;
  };
  const auto left_alone = [&](uint64_t percent) {
    double lowest = candidates.front().threshold;
    for (const Candidate& c : candidates) {
      if (100 * (negatives - c.false_positive) < percent * negatives) break;
      lowest = c.threshold;
    }
    return lowest;
  };
  switch (rule) {
    case ThresholdRule::kHalf:
      break;
    case ThresholdRule::kSensitivity90:
      return found(90);
    case ThresholdRule::kSensitivity95:
      return found(95);
    case ThresholdRule::kSpecificity90:
      return left_alone(90);
    case ThresholdRule::kSpecificity95:
      return left_alone(95);
    case ThresholdRule::kYouden:
    case ThresholdRule::kBestAccuracy: {
      const bool youden = rule == ThresholdRule::kYouden;
      const auto gain = [&](const Candidate& c) {
        const auto tp = static_cast<int64_t>(c.true_positive);
        const auto fp = static_cast<int64_t>(c.false_positive);
        return youden ? tp * static_cast<int64_t>(negatives) - fp * static_cast<int64_t>(positives)
                      : tp - fp;
      };
      const Candidate* best = &candidates.front();
      for (const Candidate& c : candidates) {
        const double distance = std::abs(c.threshold - 0.5);
        const double best_distance = std::abs(best->threshold - 0.5);
        // Thresholds fall: an equal distance further on is the lower one.
        if (gain(c) > gain(*best) || (gain(c) == gain(*best) && distance <= best_distance)) {
          best = &c;
        }
      }
      return best->threshold;
    }
  }
  return 0.5;
}

std::vector<OperatingPoint> OperatingPointsOf(const ScoredImages& validation,
                                              const ScoredImages& test) {
  const std::vector<uint32_t> once(std::max(validation.label.size(), test.label.size()), 1);
  std::vector<OperatingPoint> points;
  for (const ThresholdRule rule : kThresholdRules) {
    OperatingPoint point;
    point.rule = rule;
    point.threshold = ChooseThreshold(rule, validation.probability, validation.label);
    point.validation =
        WeightedOutcomes(validation.probability, validation.label, point.threshold)(once);
    point.test = WeightedOutcomes(test.probability, test.label, point.threshold)(once);
    point.accuracy.value = point.test.accuracy();
    point.sensitivity.value = point.test.sensitivity();
    point.specificity.value = point.test.specificity();
    point.precision.value = point.test.precision();
    point.negative_predictive_value.value = point.test.negative_predictive_value();
    points.push_back(point);
  }
  return points;
}

void AddIntervals(const ScoredImages& test, std::vector<OperatingPoint>& points,
                  BootstrapPass& pass) {
  for (OperatingPoint& point : points) {
    pass.Add({&point.accuracy.interval, &point.sensitivity.interval, &point.specificity.interval,
              &point.precision.interval, &point.negative_predictive_value.interval},
             [outcomes = WeightedOutcomes(test.probability, test.label, point.threshold)](
                 Counts counts, absl::Span<double> values) {
               const Outcomes of = outcomes(counts);
               values[0] = of.accuracy();
               values[1] = of.sensitivity();
               values[2] = of.specificity();
               values[3] = of.precision();
               values[4] = of.negative_predictive_value();
             });
  }
}

}  // namespace dermis
