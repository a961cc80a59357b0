#include "worker/explain/planted_cause.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace dermis {

absl::StatusOr<Enrichment> EnrichmentOf(absl::Span<const double> values,
                                        const Segmentation& segmentation,
                                        absl::Span<const uint8_t> region,
                                        absl::Span<const uint8_t> lesion) {
  const size_t pixels = segmentation.labels.size();
  if (values.size() != segmentation.count || region.size() != pixels || lesion.size() != pixels) {
    return absl::InvalidArgumentError(absl::StrCat(
        "enrichment: ", values.size(), " values for ", segmentation.count, " superpixels, masks of ",
        region.size(), " and ", lesion.size(), " for ", pixels, " pixels"));
  }
  std::vector<size_t> sizes(segmentation.count, 0);
  for (uint32_t label : segmentation.labels) ++sizes[label];
  double total = 0, inside = 0, rest = 0;
  size_t inside_area = 0, rest_area = 0;
  Enrichment result;
  for (size_t i = 0; i < pixels; ++i) {
    const uint32_t label = segmentation.labels[i];
    const double share = values[label] / static_cast<double>(sizes[label]);
    total += std::abs(share);
    if (region[i]) {
      ++inside_area;
      inside += std::abs(share);
      result.region += share;
    } else if (lesion[i]) {
      ++rest_area;
      rest += std::abs(share);
    }
  }
  if (inside_area == 0 || rest_area == 0) {
    return absl::InvalidArgumentError(
        "enrichment: the image has no planted region, or no lesion around it");
  }
  if (total == 0) return result;
  result.image = (inside / total) / (static_cast<double>(inside_area) / static_cast<double>(pixels));
  const double inside_mean = inside / static_cast<double>(inside_area);
  const double rest_mean = rest / static_cast<double>(rest_area);
  if (rest_mean > 0) {
    result.lesion = inside_mean / rest_mean;
  } else if (inside_mean > 0) {
    result.lesion = std::numeric_limits<double>::infinity();
  }
  return result;
}

double WilcoxonGreater(absl::Span<const double> differences) {
  std::vector<double> kept;
  for (double d : differences) {
    if (d != 0) kept.push_back(d);
  }
  const size_t n = kept.size();
  if (n == 0) return 1;
  std::sort(kept.begin(), kept.end(), [](double a, double b) {
    return std::abs(a) != std::abs(b) ? std::abs(a) < std::abs(b) : a < b;
  });
  // Twice the ranks, so that shared ranks are whole.
  std::vector<size_t> ranks(n);
  double ties = 0;
  for (size_t i = 0; i < n;) {
    size_t j = i;
    while (j < n && std::abs(kept[j]) == std::abs(kept[i])) ++j;
    for (size_t k = i; k < j; ++k) ranks[k] = i + 1 + j;
    const auto t = static_cast<double>(j - i);
    ties += t * t * t - t;
    i = j;
  }
  size_t positive = 0, all = 0;
  for (size_t i = 0; i < n; ++i) {
    all += ranks[i];
    if (kept[i] > 0) positive += ranks[i];
  }
  if (n <= 60) {
    // Probability of each sum when every sign is a fair coin.
    std::vector<double> probability(all + 1, 0.0);
    probability[0] = 1;
    for (size_t rank : ranks) {
      for (size_t s = all + 1; s-- > 0;) {
        probability[s] = 0.5 * probability[s] + (s >= rank ? 0.5 * probability[s - rank] : 0.0);
      }
    }
    double p = 0;
    for (size_t s = all + 1; s-- > positive;) p += probability[s];
    return std::min(p, 1.0);
  }
  const auto count = static_cast<double>(n);
  const double mean = count * (count + 1) / 4;
  const double variance = count * (count + 1) * (2 * count + 1) / 24 - ties / 48;
  const double z = (static_cast<double>(positive) / 2 - mean - 0.5) / std::sqrt(variance);
  return 0.5 * std::erfc(z / std::sqrt(2.0));
}

}  // namespace dermis
