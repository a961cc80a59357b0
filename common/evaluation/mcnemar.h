// Whether two models err equally often on the same images (McNemar 1947). Takes images as
// independent. Pure.
#ifndef DERMIS_COMMON_EVALUATION_MCNEMAR_H_
#define DERMIS_COMMON_EVALUATION_MCNEMAR_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace dermis {

struct McNemarTest {
  uint64_t only_first = 0, only_second = 0;  // Images that only this one gets right.
  // Two-sided. Fewer than kExactBelow images on which they differ: the exact binomial test; else
  // mid-p (Fagerland, Lydersen & Laake 2013: the exact test is needlessly careful there), twice
  // P(X < k) + P(X = k) / 2 of the smaller count k.
  double p = 1;
  bool exact = true;
};
inline constexpr uint64_t kExactBelow = 25;

McNemarTest McNemarOf(uint64_t only_first, uint64_t only_second);

// Of predictions (0 or 1). FAILED_PRECONDITION: a group (lesion) has more than one image.
// INVALID_ARGUMENT: sizes that differ.
absl::StatusOr<McNemarTest> McNemar(absl::Span<const uint32_t> first,
                                    absl::Span<const uint32_t> second,
                                    absl::Span<const uint32_t> label,
                                    absl::Span<const uint32_t> group);

}  // namespace dermis

#endif  // DERMIS_COMMON_EVALUATION_MCNEMAR_H_
