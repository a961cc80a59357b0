// The statistics of the lesion test: pure, in double.
#ifndef DERMIS_WORKER_EXPLAIN_LESION_STATISTICS_H_
#define DERMIS_WORKER_EXPLAIN_LESION_STATISTICS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "dermis/v1/task.pb.h"
#include "worker/pictures/lesion_zones.h"

namespace dermis {

// f on every subset of the zones: index's bit z is set where zone z is shown.
using SubsetOutputs = std::array<double, 1 << kZones>;

// Shapley's values by their definition: sum over subsets S without z of
// |S|! (3 - |S|)! / 4! (f(S + z) - f(S)).
std::array<double, kZones> ZoneValues(const SubsetOutputs& f);

// Zones laid somewhere on an image.
struct Placed {
  v1::LesionNull kind = v1::LESION_NULL_UNSPECIFIED;  // Unspecified: where they are.
  std::array<double, kZones> areas{};                 // Fractions of the image.
  std::array<double, kZones> values{};
  double additivity_residual = 0;
};
Placed PlacedOf(v1::LesionNull kind, absl::Span<const double> areas, const SubsetOutputs& f);

// (a - b) / (a + b), -1 .. 1, where a and b are the sums of |value| of the hypothesis' two sides,
// each over its area. None: a side has no area, or both are without value.
std::optional<double> Statistic(v1::LesionHypothesis hypothesis, const Placed& placed);

struct LesionImage {
  uint32_t group = 0;  // Images of one lesion; numbered from 0.
  uint32_t label = 0;
  std::vector<Placed>
      placements;  // Where the zones are, then the nulls; as many of each kind for each image.
};

struct LesionPlan {
  v1::LesionHypothesis primary = v1::LESION_HYPOTHESIS_BANDS_OVER_CORE;
  v1::LesionNull null = v1::LESION_NULL_SHIFTED;
  uint32_t draws = 9999;
  uint64_t seed = 1;
  uint32_t classes = 2;
};

// The primary hypothesis; then all others (every hypothesis against every null, and the primary
// within each class), Holm-adjusted.
//
// The lesion is the unit: each has one statistic where its zones are and one for each null
// placement, means over its images. If the model does not care where the zones lie, the one is as
// good as the others: so the test draws, for each lesion, one of them at random, and compares the
// mean over lesions with the observed one. p = (1 + as extreme draws) / (1 + draws). Pixels are
// never permuted: they are not independent of each other.
absl::StatusOr<v1::LesionSummary> TestLesions(absl::Span<const LesionImage> images,
                                              const LesionPlan& plan);

// Holm's step-down adjustment, in the order of `p`.
std::vector<double> HolmAdjusted(absl::Span<const double> p);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_LESION_STATISTICS_H_
