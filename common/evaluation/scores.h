// What is judged: a two-class model's scores of labelled images. The positive class is the last.
#ifndef DERMIS_COMMON_EVALUATION_SCORES_H_
#define DERMIS_COMMON_EVALUATION_SCORES_H_

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/bootstrap.h"

namespace dermis {

struct ScoredImages {
  std::vector<double> margin;  // Logit of the positive class minus that of the other: log odds.
  std::vector<double> probability;  // Of the positive class, by Softmax.
  std::vector<uint32_t> label;      // 0 or 1.
  std::vector<uint32_t> group;      // Lesions, numbered from 0, as GroupsOf.
};

// `logits`: two for each image. INVALID_ARGUMENT: sizes that do not fit, a label beyond 1, a NaN
// logit (named by its row), an image set of one class only. An infinite logit is a certain answer.
absl::StatusOr<ScoredImages> MakeScoredImages(absl::Span<const float> logits,
                                              absl::Span<const uint32_t> label,
                                              absl::Span<const uint32_t> group);

// A number and its 95 % interval by bootstrap over lesions; NaN where it is not defined.
struct Estimate {
  double value = 0;
  Interval interval;
};

// Many intervals of one set of images, in one pass over the draws (there are dozens, and a draw
// costs as much as a statistic).
class BootstrapPass {
 public:
  // Run writes the intervals through `into`, which must stay where they are until then. `fill`
  // writes one value for each, of a sample that holds image i counts[i] times.
  void Add(std::vector<Interval*> into,
           std::function<void(Counts counts, absl::Span<double> values)> fill);
  // BootstrapManyByGroup of all that was added.
  void Run(absl::Span<const uint32_t> group, uint32_t draws, uint64_t seed);

 private:
  std::vector<std::pair<std::vector<Interval*>, std::function<void(Counts, absl::Span<double>)>>>
      parts_;
};

inline constexpr uint32_t kJudgeDraws = 2000;

// How often each of the four outcomes occurs.
struct Outcomes {
  uint64_t true_positive = 0, true_negative = 0, false_positive = 0, false_negative = 0;

  uint64_t n() const { return true_positive + true_negative + false_positive + false_negative; }
  uint64_t positives() const { return true_positive + false_negative; }
  uint64_t negatives() const { return true_negative + false_positive; }
  // Shares; NaN of nothing, so that a draw without a class does not count.
  double accuracy() const;
  double sensitivity() const;
  double specificity() const;
  double precision() const;                  // Of predicted positives.
  double negative_predictive_value() const;  // Of predicted negatives.
  double f1() const;                         // 2 TP / (2 TP + FP + FN).
};

// Predicted positive at probability >= threshold (NaN is never). Made once, then cheap for each
// sample.
class WeightedOutcomes {
 public:
  WeightedOutcomes(absl::Span<const double> probability, absl::Span<const uint32_t> label,
                   double threshold);
  Outcomes operator()(Counts counts) const;

 private:
  std::vector<uint8_t> outcome_;  // 2 label + predicted.
};

// Average precision, sum over falling thresholds of (R_n - R_n-1) P_n, as Evaluate has it, of items
// that count more or less than once; NaN without positives.
class WeightedAveragePrecision {
 public:
  WeightedAveragePrecision(absl::Span<const double> score, absl::Span<const uint32_t> label);
  double operator()(Counts counts) const;

 private:
  std::vector<RankedItem> items_;
};

// FAILED_PRECONDITION where a group has more than one image; `what` (a test that takes images as
// independent) is named, and what to use instead.
absl::Status CheckIndependent(absl::Span<const uint32_t> group, const char* what);

}  // namespace dermis

#endif  // DERMIS_COMMON_EVALUATION_SCORES_H_
