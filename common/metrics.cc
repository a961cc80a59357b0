#include "common/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace dermis {

std::vector<double> Softmax(absl::Span<const float> logits) {
  std::vector<double> p(logits.size());
  if (logits.empty()) return p;
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (size_t c = 0; c < p.size(); ++c) {
    p[c] = std::exp(static_cast<double>(logits[c]) - most);
    sum += p[c];
  }
  for (double& v : p) v /= sum;
  return p;
}

namespace {

// A share of nothing is 0, not NaN: it goes into tables and protos.
double Ratio(double part, double whole) { return whole == 0 ? 0 : part / whole; }

}  // namespace

Evaluation Evaluate(absl::Span<const double> probability, absl::Span<const uint32_t> label,
                    double threshold) {
  Evaluation e;
  e.n = std::min(probability.size(), label.size());
  for (size_t i = 0; i < e.n; ++i) {
    const bool predicted = probability[i] >= threshold;
    const bool positive = label[i] == 1;
    if (predicted && positive) ++e.true_positive;
    if (predicted && !positive) ++e.false_positive;
    if (!predicted && positive) ++e.false_negative;
    if (!predicted && !positive) ++e.true_negative;
  }
  const double n = static_cast<double>(e.n);
  const double tp = static_cast<double>(e.true_positive), tn = static_cast<double>(e.true_negative);
  const double fp = static_cast<double>(e.false_positive),
               fn = static_cast<double>(e.false_negative);
  e.accuracy = Ratio(tp + tn, n);
  e.sensitivity = Ratio(tp, tp + fn);
  e.specificity = Ratio(tn, tn + fp);
  e.precision = Ratio(tp, tp + fp);
  e.fpr_of_all = Ratio(fp, n);
  e.fnr_of_all = Ratio(fn, n);
  e.fpr_of_class = Ratio(fp, tn + fp);
  e.fnr_of_class = Ratio(fn, tp + fn);

  std::vector<size_t> order(e.n);
  std::iota(order.begin(), order.end(), size_t{0});
  // NaN is no score: it counts as the lowest, or sorting would be undefined.
  auto score = [&](size_t i) {
    return std::isnan(probability[i]) ? -std::numeric_limits<double>::infinity() : probability[i];
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return score(a) > score(b); });
  const double positives = tp + fn, negatives = tn + fp;
  e.roc.push_back({0, 0, std::numeric_limits<double>::infinity()});
  e.precision_recall.push_back({0, 1, std::numeric_limits<double>::infinity()});
  double above_positive = 0, above_negative = 0, twice_wins = 0;
  for (size_t i = 0; i < e.n;) {
    double here_positive = 0, here_negative = 0;
    const double tie = score(order[i]);
    for (; i < e.n && score(order[i]) == tie; ++i) {
      (label[order[i]] == 1 ? here_positive : here_negative) += 1;
    }
    // Negatives here lose against all positives above and half against the equal ones (in halves, exact).
    twice_wins += here_negative * (2 * above_positive + here_positive);
    above_positive += here_positive;
    above_negative += here_negative;
    const double precision = above_positive / (above_positive + above_negative);
    const double recall = Ratio(above_positive, positives);
    e.average_precision += Ratio(here_positive, positives) * precision;
    e.roc.push_back({Ratio(above_negative, negatives), recall, tie});
    e.precision_recall.push_back({recall, precision, tie});
  }
  e.roc_area = Ratio(twice_wins, 2 * positives * negatives);
  return e;
}

double OutputOf(v1::OutputKind kind, absl::Span<const float> logits) {
  if (logits.empty()) return 0;
  const double last = logits.back();
  if (kind == v1::OUTPUT_KIND_LOGIT) return last;
  if (kind == v1::OUTPUT_KIND_PROBABILITY) return Softmax(logits).back();
  if (logits.size() == 1) return last;
  double others = 0;
  for (size_t c = 0; c + 1 < logits.size(); ++c) others += logits[c];
  return last - others / static_cast<double>(logits.size() - 1);
}

bool Better(v1::SelectionMetric metric, const v1::EpochMetrics& a, const v1::EpochMetrics& b) {
  const bool accuracy = metric == v1::SELECTION_METRIC_VALIDATION_ACCURACY;
  // Lower is better from here on.
  const double x = accuracy ? -a.validation_accuracy() : a.validation_loss();
  const double y = accuracy ? -b.validation_accuracy() : b.validation_loss();
  if (std::isnan(x)) return false;
  return std::isnan(y) || x < y;
}

std::optional<uint32_t> StopEpoch(absl::Span<const v1::EpochMetrics> epochs,
                                  v1::SelectionMetric metric, uint32_t patience,
                                  uint32_t max_epochs) {
  uint64_t best = 1;
  for (uint64_t e = 1; e <= epochs.size(); ++e) {
    if (Better(metric, epochs[e - 1], epochs[best - 1])) best = e;
    if (e >= max_epochs || (patience > 0 && e - best >= patience)) return static_cast<uint32_t>(e);
  }
  return std::nullopt;
}

}  // namespace dermis
