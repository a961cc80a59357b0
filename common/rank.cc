#include "common/rank.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace dermis {

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
