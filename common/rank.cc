#include "common/rank.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>

namespace dermis {
namespace {

// Ranks of values of which each counts so many times; the order is found once.
class CountedRanks {
 public:
  explicit CountedRanks(absl::Span<const double> values)
      : values_(values.begin(), values.end()), order_(values.size()), ranks_(values.size()) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::sort(order_.begin(), order_.end(), [&](size_t a, size_t b) {
      return values_[a] != values_[b] ? values_[a] < values_[b] : a < b;
    });
  }
  // Of a value that does not count: of no meaning.
  const std::vector<double>& operator()(Counts counts) {
    uint64_t before = 0;
    for (size_t first = 0; first < order_.size();) {
      size_t last = first;
      uint64_t tied = 0;
      for (; last < order_.size() && values_[order_[last]] == values_[order_[first]]; ++last) {
        tied += counts[order_[last]];
      }
      const double shared =
          static_cast<double>(before) + (static_cast<double>(tied) + 1) / 2;
      for (; first < last; ++first) ranks_[order_[first]] = shared;
      before += tied;
    }
    return ranks_;
  }

 private:
  std::vector<double> values_;
  std::vector<size_t> order_;
  std::vector<double> ranks_;
};

}  // namespace

std::vector<double> RanksOf(absl::Span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return values[a] != values[b] ? values[a] < values[b] : a < b;
  });
  std::vector<double> ranks(values.size());
  for (size_t first = 0; first < order.size();) {
    size_t last = first;
    while (last < order.size() && values[order[last]] == values[order[first]]) ++last;
    const double shared = (static_cast<double>(first + 1) + static_cast<double>(last)) / 2;
    for (; first < last; ++first) ranks[order[first]] = shared;
  }
  return ranks;
}

std::optional<double> Spearman(absl::Span<const double> a, absl::Span<const double> b) {
  if (a.size() != b.size() || a.size() < 2) return std::nullopt;
  const std::vector<double> x = RanksOf(a), y = RanksOf(b);
  const double mean = (static_cast<double>(a.size()) + 1) / 2;  // Of any ranks.
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  if (xx == 0 || yy == 0) return std::nullopt;
  return std::clamp(xy / std::sqrt(xx * yy), -1.0, 1.0);
}

RankCorrelation SpearmanByGroup(absl::Span<const double> a, absl::Span<const double> b,
                                absl::Span<const uint32_t> group, uint32_t draws, uint64_t seed) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  RankCorrelation result{Spearman(a, b), {kNone, kNone}};
  if (!result.rho || group.size() != a.size()) return result;
  CountedRanks of_a(a), of_b(b);
  result.interval = BootstrapByGroup(group, draws, seed, [&](Counts counts) {
    const std::vector<double>&x = of_a(counts), &y = of_b(counts);
    double all = 0, xy = 0, xx = 0, yy = 0;
    for (uint32_t count : counts) all += count;
    const double mean = (all + 1) / 2;
    for (size_t i = 0; i < x.size(); ++i) {
      xy += counts[i] * ((x[i] - mean) * (y[i] - mean));
      xx += counts[i] * ((x[i] - mean) * (x[i] - mean));
      yy += counts[i] * ((y[i] - mean) * (y[i] - mean));
    }
    return xx == 0 || yy == 0 ? kNone : std::clamp(xy / std::sqrt(xx * yy), -1.0, 1.0);
  });
  return result;
}

double QuantileOf(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const double place = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

double SignTest(uint32_t successes, uint32_t trials) {
  if (successes == 0) return 1;
  double sum = 0;
  for (uint32_t k = successes; k <= trials; ++k) {
    sum += std::exp(std::lgamma(trials + 1.0) - std::lgamma(k + 1.0) -
                    std::lgamma(trials - k + 1.0) - trials * std::log(2.0));
  }
  return std::min(sum, 1.0);
}

}  // namespace dermis
