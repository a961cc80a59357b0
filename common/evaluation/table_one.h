// The seed paper's Table 1 for a model, with the usual measures beside its own. Malignant (the last
// class) is positive.
#ifndef DERMIS_COMMON_EVALUATION_TABLE_ONE_H_
#define DERMIS_COMMON_EVALUATION_TABLE_ONE_H_

#include "common/evaluation/scores.h"
#include "common/metrics.h"

namespace dermis {

struct TableOneRow {
  double threshold = 0.5;
  Evaluation evaluation;  // As Evaluate counts at this threshold.
  // The seed counts false positives and false negatives as fractions of all test images; a
  // reviewer expects fractions of the class. "Precision" is TP / (TP + FP) in the usual sense; the
  // seed may have meant average precision (it does not say): both.
  Estimate accuracy, fpr_of_all, fnr_of_all, fpr_of_class, fnr_of_class;
  Estimate precision, average_precision, recall, specificity, f1, area;
};

// Without intervals. Precision and F1 of nothing are NaN.
TableOneRow TableOneRowOf(const ScoredImages& test, double threshold);
// Adds the row's intervals; the row must stay where it is.
void AddIntervals(const ScoredImages& test, TableOneRow& row, BootstrapPass& pass);

}  // namespace dermis

#endif  // DERMIS_COMMON_EVALUATION_TABLE_ONE_H_
