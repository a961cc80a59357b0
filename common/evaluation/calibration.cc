#include "common/evaluation/calibration.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace dermis {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr int kMostSteps = 100;

double Bounded(double margin) { return std::clamp(margin, -kLargestMargin, kLargestMargin); }

// log(1 + exp(x)).
double Softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

std::vector<double> Scaled(absl::Span<const double> margin, double temperature) {
  std::vector<double> scaled;
  scaled.reserve(margin.size());
  for (const double value : margin) scaled.push_back(Bounded(value) / temperature);
  return scaled;
}

std::vector<double> ProbabilitiesOf(absl::Span<const double> margin) {
  std::vector<double> probability;
  probability.reserve(margin.size());
  for (const double value : margin) probability.push_back(Sigmoid(value));
  return probability;
}

// The lowest and highest margin of each class among what counts.
struct Ranges {
  double low[2] = {std::numeric_limits<double>::infinity(),
                   std::numeric_limits<double>::infinity()};
  double high[2] = {-std::numeric_limits<double>::infinity(),
                    -std::numeric_limits<double>::infinity()};
  bool both() const { return low[0] <= high[0] && low[1] <= high[1]; }
  bool separate() const { return low[1] >= high[0] || high[1] <= low[0]; }
};
Ranges RangesOf(absl::Span<const double> margin, absl::Span<const uint32_t> label, Counts counts) {
  Ranges ranges;
  for (size_t i = 0; i < label.size(); ++i) {
    if (counts[i] == 0) continue;
    const int c = label[i] == 1 ? 1 : 0;
    ranges.low[c] = std::min(ranges.low[c], Bounded(margin[i]));
    ranges.high[c] = std::max(ranges.high[c], Bounded(margin[i]));
  }
  return ranges;
}

}  // namespace

double Sigmoid(double margin) {
  if (margin >= 0) return 1 / (1 + std::exp(-margin));
  const double e = std::exp(margin);
  return e / (1 + e);
}

double BrierScore(absl::Span<const double> probability, absl::Span<const uint32_t> label) {
  double sum = 0;
  for (size_t i = 0; i < label.size(); ++i) {
    const double off = probability[i] - (label[i] == 1 ? 1 : 0);
    sum += off * off;
  }
  return sum / static_cast<double>(label.size());
}

std::optional<Recalibration> Recalibrate(absl::Span<const double> margin,
                                         absl::Span<const uint32_t> label, Counts counts) {
  const Ranges ranges = RangesOf(margin, label, counts);
  if (!ranges.both() || ranges.separate()) return std::nullopt;
  const auto loss = [&](double a, double b) {
    double sum = 0;
    for (size_t i = 0; i < label.size(); ++i) {
      if (counts[i] == 0) continue;
      const double z = a + b * Bounded(margin[i]);
      sum += counts[i] * Softplus(label[i] == 1 ? -z : z);
    }
    return sum;
  };
  // From where curvature is largest: with certain margins there is none at a slope of 1.
  double a = 0, b = 0, here = loss(a, b);
  for (int step = 0; step < kMostSteps; ++step) {
    double ga = 0, gb = 0, haa = 0, hab = 0, hbb = 0;
    for (size_t i = 0; i < label.size(); ++i) {
      if (counts[i] == 0) continue;
      const double m = Bounded(margin[i]), p = Sigmoid(a + b * m);
      const double r = counts[i] * (p - (label[i] == 1 ? 1 : 0)), w = counts[i] * p * (1 - p);
      ga += r, gb += r * m;
      haa += w, hab += w * m, hbb += w * m * m;
    }
    // A curvature that rounds to nothing, far from the maximum: a little of the diagonal helps.
    double determinant = haa * hbb - hab * hab;
    if (!(determinant > 1e-12 * haa * hbb) || !(determinant > 0)) {
      haa += 1e-6, hbb += 1e-6;
      determinant = haa * hbb - hab * hab;
    }
    const double da = -(hbb * ga - hab * gb) / determinant;
    const double db = -(haa * gb - hab * ga) / determinant;
    double share = 1, next = loss(a + da, b + db);
    // Within rounding of the minimum no step lowers the loss: the full one is the better.
    while (next > here + 1e-12 * std::abs(here) && share > 1e-6) {
      share /= 2;
      next = loss(a + share * da, b + share * db);
    }
    a += share * da, b += share * db, here = next;
    if (std::abs(da) <= 1e-10 * (1 + std::abs(a)) && std::abs(db) <= 1e-10 * (1 + std::abs(b))) {
      return Recalibration{a, b};
    }
  }
  return std::nullopt;
}

std::optional<double> InterceptInTheLarge(absl::Span<const double> margin,
                                          absl::Span<const uint32_t> label, Counts counts) {
  if (!RangesOf(margin, label, counts).both()) return std::nullopt;
  // The gradient, sum of sigmoid(a + m) - y, rises with a; its zero is within this bracket.
  double low = -2 * kLargestMargin, high = 2 * kLargestMargin, a = 0;
  for (int step = 0; step < kMostSteps; ++step) {
    double gradient = 0, curvature = 0;
    for (size_t i = 0; i < label.size(); ++i) {
      if (counts[i] == 0) continue;
      const double p = Sigmoid(a + Bounded(margin[i]));
      gradient += counts[i] * (p - (label[i] == 1 ? 1 : 0));
      curvature += counts[i] * p * (1 - p);
    }
    (gradient > 0 ? high : low) = a;
    double next = a - gradient / curvature;
    if (!(next > low && next < high)) next = low + (high - low) / 2;
    const bool done = std::abs(next - a) <= 1e-12 * (1 + std::abs(a));
    a = next;
    if (done) break;
  }
  return a;
}

std::vector<ReliabilityPoint> ReliabilityCurve(absl::Span<const double> probability,
                                               absl::Span<const uint32_t> label) {
  std::vector<double> sorted(probability.begin(), probability.end());
  std::sort(sorted.begin(), sorted.end());
  if (sorted.empty()) return {};
  std::vector<ReliabilityPoint> bins(kCalibrationBins);
  for (size_t i = 0; i < label.size(); ++i) {
    // p lies above the quantile at place b (n - 1) / 15 exactly when it lies above the order
    // statistic at or below that place: whole numbers, no rounding.
    size_t bin = 0;
    for (size_t b = 1; b < kCalibrationBins; ++b) {
      if (probability[i] > sorted[b * (sorted.size() - 1) / kCalibrationBins]) bin = b;
    }
    bins[bin].mean_probability += probability[i];
    bins[bin].share_positive += label[i] == 1 ? 1 : 0;
    ++bins[bin].n;
  }
  std::vector<ReliabilityPoint> curve;
  for (ReliabilityPoint& point : bins) {
    if (point.n == 0) continue;
    point.mean_probability /= static_cast<double>(point.n);
    point.share_positive /= static_cast<double>(point.n);
    curve.push_back(point);
  }
  return curve;
}

double ExpectedCalibrationError(absl::Span<const ReliabilityPoint> curve) {
  double sum = 0, n = 0;
  for (const ReliabilityPoint& point : curve) {
    sum += static_cast<double>(point.n) * std::abs(point.share_positive - point.mean_probability);
    n += static_cast<double>(point.n);
  }
  return sum / n;
}

Temperature FitTemperature(absl::Span<const double> margin, absl::Span<const uint32_t> label) {
  constexpr double kLowest = 0.01, kHighest = 100;  // Of 1 / temperature, too.
  struct Slope {
    double first = 0, second = 0;
  };
  const auto slope = [&](double beta) {
    Slope of;
    for (size_t i = 0; i < label.size(); ++i) {
      const double m = Bounded(margin[i]), p = Sigmoid(beta * m);
      of.first += (p - (label[i] == 1 ? 1 : 0)) * m;
      of.second += p * (1 - p) * m * m;
    }
    return of;
  };
  if (slope(kLowest).first >= 0) return {1 / kLowest, true};
  if (slope(kHighest).first <= 0) return {1 / kHighest, true};
  double low = kLowest, high = kHighest, beta = 1;
  for (int step = 0; step < kMostSteps; ++step) {
    const Slope here = slope(beta);
    (here.first > 0 ? high : low) = beta;
    double next = beta - here.first / here.second;
    if (!(next > low && next < high)) next = low + (high - low) / 2;
    const bool done = std::abs(next - beta) <= 1e-13 * beta;
    beta = next;
    if (done) break;
  }
  return {1 / beta, false};
}

double LogLoss(absl::Span<const double> margin, absl::Span<const uint32_t> label) {
  double sum = 0;
  for (size_t i = 0; i < label.size(); ++i) {
    const double m = Bounded(margin[i]);
    sum += Softplus(label[i] == 1 ? -m : m);
  }
  return sum / static_cast<double>(label.size());
}

Calibration CalibrationOf(const ScoredImages& images, double temperature) {
  const std::vector<double> margin = Scaled(images.margin, temperature);
  const std::vector<double> probability = ProbabilitiesOf(margin);
  const std::vector<uint32_t> once(margin.size(), 1);
  Calibration calibration;
  calibration.brier.value = BrierScore(probability, images.label);
  const auto fit = Recalibrate(margin, images.label, once);
  calibration.intercept.value = fit ? fit->intercept : kNone;
  calibration.slope.value = fit ? fit->slope : kNone;
  calibration.in_the_large.value = InterceptInTheLarge(margin, images.label, once).value_or(kNone);
  calibration.curve = ReliabilityCurve(probability, images.label);
  calibration.error = ExpectedCalibrationError(calibration.curve);
  calibration.log_loss = LogLoss(margin, images.label);
  return calibration;
}

void AddIntervals(const ScoredImages& images, double temperature, Calibration& calibration,
                  BootstrapPass& pass) {
  const std::vector<double> margin = Scaled(images.margin, temperature);
  std::vector<double> squares;  // Of each image's probability from its label.
  for (size_t i = 0; i < margin.size(); ++i) {
    const double off = Sigmoid(margin[i]) - (images.label[i] == 1 ? 1 : 0);
    squares.push_back(off * off);
  }
  pass.Add({&calibration.brier.interval, &calibration.intercept.interval,
            &calibration.slope.interval, &calibration.in_the_large.interval},
           [margin, squares, label = images.label](Counts counts, absl::Span<double> values) {
             double sum = 0, n = 0;
             for (size_t i = 0; i < squares.size(); ++i) {
               sum += counts[i] * squares[i];
               n += counts[i];
             }
             values[0] = sum / n;
             const auto fit = Recalibrate(margin, label, counts);
             values[1] = fit ? fit->intercept : kNone;
             values[2] = fit ? fit->slope : kNone;
             values[3] = InterceptInTheLarge(margin, label, counts).value_or(kNone);
           });
}

}  // namespace dermis
