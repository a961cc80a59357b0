#include "common/evaluation/table_one.h"

#include <vector>

namespace dermis {
namespace {

// What the counts give, in the order of ByThreshold.
void Fill(const Outcomes& of, absl::Span<double> values) {
  const double n = static_cast<double>(of.n());
  values[0] = of.accuracy();
  values[1] = static_cast<double>(of.false_positive) / n;
  values[2] = static_cast<double>(of.false_negative) / n;
  values[3] = 1 - of.specificity();
  values[4] = 1 - of.sensitivity();
  values[5] = of.precision();
  values[6] = of.sensitivity();
  values[7] = of.specificity();
  values[8] = of.f1();
}

std::vector<Estimate*> ByThreshold(TableOneRow& row) {
  return {&row.accuracy,     &row.fpr_of_all,   &row.fnr_of_all,
          &row.fpr_of_class, &row.fnr_of_class, &row.precision,
          &row.recall,       &row.specificity,  &row.f1};
}

}  // namespace

TableOneRow TableOneRowOf(const ScoredImages& test, double threshold) {
  TableOneRow row;
  row.threshold = threshold;
  row.evaluation = Evaluate(test.probability, test.label, threshold);
  const Evaluation& e = row.evaluation;
  const std::vector<Estimate*> estimates = ByThreshold(row);
  std::vector<double> values(estimates.size());
  Fill({e.true_positive, e.true_negative, e.false_positive, e.false_negative},
       absl::MakeSpan(values));
  for (size_t i = 0; i < values.size(); ++i) estimates[i]->value = values[i];
  row.average_precision.value = e.average_precision;
  row.area.value = e.roc_area;
  return row;
}

void AddIntervals(const ScoredImages& test, TableOneRow& row, BootstrapPass& pass) {
  std::vector<Interval*> into;
  for (Estimate* estimate : ByThreshold(row)) into.push_back(&estimate->interval);
  pass.Add(into, [outcomes = WeightedOutcomes(test.probability, test.label, row.threshold)](
                     Counts counts, absl::Span<double> values) { Fill(outcomes(counts), values); });
  pass.Add({&row.average_precision.interval, &row.area.interval},
           [precision = WeightedAveragePrecision(test.probability, test.label),
            area = WeightedArea(test.probability, test.label)](Counts counts,
                                                               absl::Span<double> values) {
             values[0] = precision(counts);
             values[1] = area(counts);
           });
}

}  // namespace dermis
