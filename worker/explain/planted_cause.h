// Does an attribution point at a region that is known to cause the label? And is that so over many images?
#ifndef DERMIS_WORKER_EXPLAIN_PLANTED_CAUSE_H_
#define DERMIS_WORKER_EXPLAIN_PLANTED_CAUSE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/explain/superpixels.h"

namespace dermis {

struct Enrichment {
  double image = 0;    // Share of |phi| in the region over the region's share of the image.
  double lesion = 0;   // Mean |phi| a pixel in the region over that in the rest of the lesion.
  double region = 0;   // Sum of phi in the region, signed: > 0 towards the positive class.
};

// values: one a superpixel, spread evenly over its pixels. region, lesion: height x width, nonzero = inside;
// the rest of the lesion is lesion without region. Ratios are 0 where nothing is attributed at all; where
// only the rest of the lesion has nothing, `lesion` is infinite.
// INVALID_ARGUMENT: sizes that differ, an empty region or rest of the lesion.
absl::StatusOr<Enrichment> EnrichmentOf(absl::Span<const double> values,
                                        const Segmentation& segmentation,
                                        absl::Span<const uint8_t> region,
                                        absl::Span<const uint8_t> lesion);

// One-sided Wilcoxon signed-rank test of "differences are greater than 0": the p-value. Zeros are left out,
// equal sizes share their mean rank. Exact up to 60 differences (over the ranks as they are, ties included),
// beyond that the normal approximation with continuity and ties corrected. No differences: 1.
double WilcoxonGreater(absl::Span<const double> differences);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_PLANTED_CAUSE_H_
