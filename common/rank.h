// Rank statistics. Pure, double, one thread.
#ifndef DERMIS_COMMON_RANK_H_
#define DERMIS_COMMON_RANK_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"

#include "common/bootstrap.h"

namespace dermis {

// From 1; equal values share the mean of their ranks. Values are not NaN.
std::vector<double> RanksOf(absl::Span<const double> values);

// Spearman's rank correlation: Pearson's of the ranks, as scipy.stats.spearmanr. nullopt: fewer
// than two values, sizes that differ, or one side does not vary.
std::optional<double> Spearman(absl::Span<const double> a, absl::Span<const double> b);

struct RankCorrelation {
  std::optional<double> rho;  // As Spearman.
  Interval interval;          // BootstrapByGroup: 95 %, NaN where no draw has a value.
};
// With an interval over groups (lesions): group[i] of item i, numbered from 0. In a draw an item that
// counts twice stands twice, its copies tied. Errors as Spearman's: rho is nullopt.
RankCorrelation SpearmanByGroup(absl::Span<const double> a, absl::Span<const double> b,
                                absl::Span<const uint32_t> group, uint32_t draws, uint64_t seed);

// numpy.quantile (linear between order statistics), q in 0..1. At least one value.
double QuantileOf(std::vector<double> values, double q);

// P(at least `successes` of `trials`) where each succeeds with probability 1/2: the one-sided sign
// test. Exact up to rounding; 1 without trials.
double SignTest(uint32_t successes, uint32_t trials);

}  // namespace dermis

#endif  // DERMIS_COMMON_RANK_H_
