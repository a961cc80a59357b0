// Intervals by the bootstrap over groups (lesions, patients): images of one group are not
// independent, so whole groups are drawn. Pure; the same draws on any machine.
#ifndef DERMIS_COMMON_BOOTSTRAP_H_
#define DERMIS_COMMON_BOOTSTRAP_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"

#include "dermis/v1/image_set.pb.h"

namespace dermis {

struct Interval {
  double low = 0, high = 0;
};

// A number from 0 for each image, equal for images of one group; an image without a group is a
// group of its own.
std::vector<uint32_t> GroupsOf(const v1::ImageSetManifest& manifest,
                               absl::Span<const uint32_t> images);

// How often each item counts, in item order: 0, 1, 2, ...
using Counts = absl::Span<const uint32_t>;
// Two-sided 95 % percentile interval (Efron 1979; linear between order statistics) of a statistic
// over `draws` samples of as many groups as there are, with replacement. group[i]: of item i,
// numbered from 0. Draws for which the statistic is not finite (no positive image in the sample,
// say) do not count; NaN when none does.
Interval BootstrapByGroup(absl::Span<const uint32_t> group, uint32_t draws, uint64_t seed,
                          const std::function<double(Counts)>& statistic);

// The same for many statistics in one pass over the draws: `fill` writes the value of each into the
// span, which holds `statistics` of them. Each interval is what BootstrapByGroup gives for that
// statistic alone.
std::vector<Interval> BootstrapManyByGroup(
    absl::Span<const uint32_t> group, uint32_t draws, uint64_t seed, size_t statistics,
    const std::function<void(Counts, absl::Span<double>)>& fill);

// Items by falling score, equal ones in item order; NaN scores count as the lowest. label: 0 or 1.
struct RankedItem {
  uint32_t index;
  bool positive;
  bool ends_tie;  // The next item's score is lower.
};
std::vector<RankedItem> RankItems(absl::Span<const double> score, absl::Span<const uint32_t> label);

// Area under ROC (Mann-Whitney, ties half) of items that count more or less than once; NaN where a
// class has none. Made once for a set of scores, then cheap for each sample.
class WeightedArea {
 public:
  // label: 0 or 1; NaN scores count as the lowest.
  WeightedArea(absl::Span<const double> score, absl::Span<const uint32_t> label);
  double operator()(Counts counts) const;

 private:
  std::vector<RankedItem> items_;
};

}  // namespace dermis

#endif  // DERMIS_COMMON_BOOTSTRAP_H_
