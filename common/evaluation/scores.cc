#include "common/evaluation/scores.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"

#include "common/metrics.h"

namespace dermis {
namespace {

double Share(uint64_t part, uint64_t whole) {
  return whole == 0 ? std::numeric_limits<double>::quiet_NaN()
                    : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

absl::StatusOr<ScoredImages> MakeScoredImages(absl::Span<const float> logits,
                                              absl::Span<const uint32_t> label,
                                              absl::Span<const uint32_t> group) {
  if (logits.size() != 2 * label.size() || group.size() != label.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(logits.size(), " logits, ", label.size(), " labels and ", group.size(),
                     " lesion numbers do not belong together: two logits an image are judged"));
  }
  ScoredImages images;
  bool seen[2] = {false, false};
  for (size_t i = 0; i < label.size(); ++i) {
    const absl::Span<const float> row = logits.subspan(2 * i, 2);
    if (label[i] > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("image ", i, " has class ", label[i], ": two classes are judged"));
    }
    const double margin = static_cast<double>(row[1]) - static_cast<double>(row[0]);
    if (std::isnan(margin)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the model's score of image ", i, " is not a number: it cannot be judged"));
    }
    seen[label[i]] = true;
    images.margin.push_back(margin);
    // Softmax of an infinite logit would be NaN.
    images.probability.push_back(std::isinf(margin) ? (margin > 0 ? 1.0 : 0.0)
                                                    : Softmax(row).back());
  }
  if (!seen[0] || !seen[1]) {
    return absl::InvalidArgumentError(absl::StrCat(
        "all ", label.size(), " images are of one class: a model cannot be judged by them"));
  }
  images.label.assign(label.begin(), label.end());
  images.group.assign(group.begin(), group.end());
  return images;
}

void BootstrapPass::Add(std::vector<Interval*> into,
                        std::function<void(Counts, absl::Span<double>)> fill) {
  parts_.emplace_back(std::move(into), std::move(fill));
}

void BootstrapPass::Run(absl::Span<const uint32_t> group, uint32_t draws, uint64_t seed) {
  size_t statistics = 0;
  for (const auto& [into, fill] : parts_) statistics += into.size();
  const std::vector<Interval> intervals = BootstrapManyByGroup(
      group, draws, seed, statistics, [&](Counts counts, absl::Span<double> values) {
        size_t at = 0;
        for (const auto& [into, fill] : parts_) {
          fill(counts, values.subspan(at, into.size()));
          at += into.size();
        }
      });
  size_t at = 0;
  for (const auto& [into, fill] : parts_) {
    for (Interval* interval : into) *interval = intervals[at++];
  }
}

double Outcomes::accuracy() const { return Share(true_positive + true_negative, n()); }
double Outcomes::sensitivity() const { return Share(true_positive, positives()); }
double Outcomes::specificity() const { return Share(true_negative, negatives()); }
double Outcomes::precision() const { return Share(true_positive, true_positive + false_positive); }
double Outcomes::negative_predictive_value() const {
  return Share(true_negative, true_negative + false_negative);
}
double Outcomes::f1() const {
  return Share(2 * true_positive, 2 * true_positive + false_positive + false_negative);
}

WeightedOutcomes::WeightedOutcomes(absl::Span<const double> probability,
                                   absl::Span<const uint32_t> label, double threshold) {
  outcome_.reserve(label.size());
  for (size_t i = 0; i < label.size(); ++i) {
    outcome_.push_back(
        static_cast<uint8_t>(2 * (label[i] == 1 ? 1 : 0) + (probability[i] >= threshold ? 1 : 0)));
  }
}

Outcomes WeightedOutcomes::operator()(Counts counts) const {
  uint64_t of[4] = {0, 0, 0, 0};
  for (size_t i = 0; i < outcome_.size(); ++i) of[outcome_[i]] += counts[i];
  return {of[3], of[0], of[1], of[2]};
}

WeightedAveragePrecision::WeightedAveragePrecision(absl::Span<const double> score,
                                                   absl::Span<const uint32_t> label)
    : items_(RankItems(score, label)) {}

double WeightedAveragePrecision::operator()(Counts counts) const {
  uint64_t positives = 0, all = 0, tied = 0;
  double sum = 0;
  for (const RankedItem& item : items_) {
    all += counts[item.index];
    if (item.positive) tied += counts[item.index];
    if (!item.ends_tie || tied == 0) continue;
    positives += tied;
    sum += static_cast<double>(tied) * (static_cast<double>(positives) / static_cast<double>(all));
    tied = 0;
  }
  return positives == 0 ? std::numeric_limits<double>::quiet_NaN()
                        : sum / static_cast<double>(positives);
}

absl::Status CheckIndependent(absl::Span<const uint32_t> group, const char* what) {
  std::vector<uint32_t> sorted(group.begin(), group.end());
  std::sort(sorted.begin(), sorted.end());
  size_t lesions = 0, repeated = 0;
  for (size_t first = 0; first < sorted.size(); ++lesions) {
    size_t last = first;
    while (last < sorted.size() && sorted[last] == sorted[first]) ++last;
    if (last - first > 1) ++repeated;
    first = last;
  }
  if (repeated == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      what, " takes images as independent, but ", repeated, " of ", lesions,
      " lesions have more than one test image: use the interval by bootstrap over lesions"));
}

}  // namespace dermis
