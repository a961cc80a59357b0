#include "common/evaluation/delong.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "absl/strings/str_cat.h"

#include "common/evaluation/scores.h"
#include "common/rank.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

// What each image of a class adds to the area: the share of the other class that it is on the right
// side of. Their mean is the area.
struct Components {
  std::vector<double> positive, negative;
};

Components ComponentsOf(absl::Span<const double> score, absl::Span<const uint32_t> label) {
  std::vector<double> all, of[2];
  for (size_t i = 0; i < label.size(); ++i) {
    const double value = std::isnan(score[i]) ? -std::numeric_limits<double>::infinity() : score[i];
    all.push_back(value);
    of[label[i] == 1].push_back(value);
  }
  const std::vector<double> rank = RanksOf(all), rank_of[2] = {RanksOf(of[0]), RanksOf(of[1])};
  const double negatives = static_cast<double>(of[0].size());
  const double positives = static_cast<double>(of[1].size());
  Components components;
  size_t at[2] = {0, 0};
  for (size_t i = 0; i < label.size(); ++i) {
    const int c = label[i] == 1;
    const double beaten = rank[i] - rank_of[c][at[c]++];
    if (c == 1) {
      components.positive.push_back(beaten / negatives);
    } else {
      components.negative.push_back(1 - beaten / positives);
    }
  }
  return components;
}

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

// Of the mean of `a` and the mean of `b`.
double CovarianceOfMeans(const std::vector<double>& a, const std::vector<double>& b) {
  const double mean_a = Mean(a), mean_b = Mean(b);
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - mean_a) * (b[i] - mean_b);
  const double n = static_cast<double>(a.size());
  return sum / (n - 1) / n;
}

double Covariance(const Components& a, const Components& b) {
  return CovarianceOfMeans(a.positive, b.positive) + CovarianceOfMeans(a.negative, b.negative);
}

DeLongArea AreaOf(const Components& components) {
  DeLongArea of;
  of.area = Mean(components.positive);
  of.variance = Covariance(components, components);
  const double half = 1.959963984540054 * std::sqrt(of.variance);
  of.interval = {std::max(0.0, of.area - half), std::min(1.0, of.area + half)};
  return of;
}

absl::Status Check(absl::Span<const double> score, absl::Span<const uint32_t> label,
                   absl::Span<const uint32_t> group) {
  const auto positives = std::count(label.begin(), label.end(), 1u);
  const auto negatives = static_cast<std::ptrdiff_t>(label.size()) - positives;
  if (score.size() != label.size() || group.size() != label.size()) {
    return absl::InvalidArgumentError("scores, labels and lesions differ in number");
  }
  if (positives < 2 || negatives < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("DeLong's variance needs two images of each class; there are ", positives,
                     " positive and ", negatives, " negative"));
  }
  return CheckIndependent(group, "DeLong's test");
}

}  // namespace

absl::StatusOr<DeLongArea> DeLong(absl::Span<const double> score, absl::Span<const uint32_t> label,
                                  absl::Span<const uint32_t> group) {
  RETURN_IF_ERROR(Check(score, label, group));
  return AreaOf(ComponentsOf(score, label));
}

absl::StatusOr<DeLongTest> PairedDeLong(absl::Span<const double> first,
                                        absl::Span<const double> second,
                                        absl::Span<const uint32_t> label,
                                        absl::Span<const uint32_t> group) {
  RETURN_IF_ERROR(Check(first, label, group));
  RETURN_IF_ERROR(Check(second, label, group));
  const Components a = ComponentsOf(first, label), b = ComponentsOf(second, label);
  DeLongTest test;
  test.first = AreaOf(a);
  test.second = AreaOf(b);
  test.covariance = Covariance(a, b);
  test.difference = test.first.area - test.second.area;
  // As the variance of the differences, which cannot round to below 0.
  Components difference = a;
  for (size_t i = 0; i < b.positive.size(); ++i) difference.positive[i] -= b.positive[i];
  for (size_t i = 0; i < b.negative.size(); ++i) difference.negative[i] -= b.negative[i];
  const double variance = Covariance(difference, difference);
  if (variance > 0) {
    test.z = test.difference / std::sqrt(variance);
    test.p = std::erfc(std::abs(test.z) / std::sqrt(2.0));
  } else if (test.difference != 0) {
    // Every image adds the same difference: nothing varies, and yet they differ.
    test.z = std::copysign(std::numeric_limits<double>::infinity(), test.difference);
    test.p = 0;
  }
  return test;
}

}  // namespace dermis
