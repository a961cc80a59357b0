// Evaluation of scores on the test split, and early stopping: pure functions of what is stored.
#ifndef DERMIS_COMMON_METRICS_H_
#define DERMIS_COMMON_METRICS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// Probabilities of one row of logits (double, max subtracted, classes in order).
std::vector<double> Softmax(absl::Span<const float> logits);

struct CurvePoint { double x, y, threshold; };

// Two classes, positive = class 1, predicted positive at probability >= the threshold.
struct Evaluation {
  uint64_t n = 0, true_positive = 0, true_negative = 0, false_positive = 0, false_negative = 0;
  double accuracy = 0, sensitivity = 0, specificity = 0, precision = 0;
  double fpr_of_all = 0, fnr_of_all = 0;       // Fractions of all test images, as the seed counts.
  double fpr_of_class = 0, fnr_of_class = 0;   // Fractions of the class, as usual.
  double roc_area = 0;                         // Mann-Whitney, ties count half.
  double average_precision = 0;                // Sum (R_n - R_n-1) P_n.
  std::vector<CurvePoint> roc;                 // x = false positive rate, y = true positive rate.
  std::vector<CurvePoint> precision_recall;    // x = recall, y = precision.
};
// probability[i] of the positive class, label[i] in {0, 1}. Equal scores are one point.
Evaluation Evaluate(absl::Span<const double> probability, absl::Span<const uint32_t> label,
                    double threshold = 0.5);

// f of the explanation: margin, logit or probability of the last class.
double OutputOf(v1::OutputKind kind, absl::Span<const float> logits);

// True where `a` is better than `b` (NaN ranks last).
bool Better(v1::SelectionMetric metric, const v1::EpochMetrics& a, const v1::EpochMetrics& b);

// The epoch where training stops: the first e with e - best(e) >= patience among `epochs` (which hold
// epochs 1..k in order), or max_epochs when reached; nullopt: goes on. patience 0 = no early stopping.
// best(e): the best of epochs 1..e, ties to the lower one.
std::optional<uint32_t> StopEpoch(absl::Span<const v1::EpochMetrics> epochs, v1::SelectionMetric metric,
                                  uint32_t patience, uint32_t max_epochs);

}  // namespace dermis

#endif  // DERMIS_COMMON_METRICS_H_
