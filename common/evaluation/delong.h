// Areas under ROC without a bootstrap: DeLong, DeLong & Clarke-Pearson (1988), by midranks (Sun &
// Xu 2014). Takes images as independent. Pure, double.
#ifndef DERMIS_COMMON_EVALUATION_DELONG_H_
#define DERMIS_COMMON_EVALUATION_DELONG_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/bootstrap.h"

namespace dermis {

struct DeLongArea {
  double area = 0, variance = 0;
  Interval interval;  // area +- 1.96 standard errors, within 0..1.
};
// FAILED_PRECONDITION: a group (lesion) has more than one image. INVALID_ARGUMENT: fewer than two
// images of a class, or sizes that differ.
absl::StatusOr<DeLongArea> DeLong(absl::Span<const double> score, absl::Span<const uint32_t> label,
                                  absl::Span<const uint32_t> group);

// Paired: two models on the same images.
struct DeLongTest {
  DeLongArea first, second;
  double covariance = 0;
  double difference = 0;  // first - second.
  double z = 0, p = 1;    // Two-sided, standard normal. Scores that order images alike: 0 and 1.
};
absl::StatusOr<DeLongTest> PairedDeLong(absl::Span<const double> first,
                                        absl::Span<const double> second,
                                        absl::Span<const uint32_t> label,
                                        absl::Span<const uint32_t> group);

}  // namespace dermis

#endif  // DERMIS_COMMON_EVALUATION_DELONG_H_
