#include "common/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <string>

#include "absl/container/flat_hash_map.h"

#include "common/philox.h"

#include "common/progress.h"

namespace dermis {
namespace {

double Quantile(const std::vector<double>& sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

std::vector<uint32_t> GroupsOf(const v1::ImageSetManifest& manifest,
                               absl::Span<const uint32_t> images) {
  absl::flat_hash_map<std::string, uint32_t> numbers;
  uint32_t next = 0;
  std::vector<uint32_t> groups;
  groups.reserve(images.size());
  for (uint32_t image : images) {
    const std::string& name = manifest.images(static_cast<int>(image)).group();
    if (name.empty()) {
      groups.push_back(next++);
      continue;
    }
    const auto [it, fresh] = numbers.try_emplace(name, next);
    if (fresh) ++next;
    groups.push_back(it->second);
  }
  return groups;
}

std::vector<Interval> BootstrapManyByGroup(
    absl::Span<const uint32_t> group, uint32_t draws, uint64_t seed, size_t statistics,
    const std::function<void(Counts, absl::Span<double>)>& fill) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  std::vector<Interval> intervals(statistics, Interval{kNone, kNone});
  if (group.empty() || statistics == 0) return intervals;
  const uint32_t groups = *std::max_element(group.begin(), group.end()) + 1;
  std::vector<uint32_t> of_group(groups), counts(group.size());
  std::vector<std::vector<double>> values(statistics);
  std::vector<double> drawn(statistics);
  for (uint32_t draw = 0; draw < draws; ++draw) {
    NoteProgress();
    std::fill(of_group.begin(), of_group.end(), 0u);
    for (uint32_t place = 0; place < groups; ++place) {
      const auto block = PhiloxBlock(seed, Purpose::kBootstrap, draw, place, 0);
      const double unit = ToUnitDouble(block[0], block[1]);
      ++of_group[std::min(groups - 1, static_cast<uint32_t>(unit * groups))];
    }
    for (size_t i = 0; i < counts.size(); ++i) counts[i] = of_group[group[i]];
    std::fill(drawn.begin(), drawn.end(), kNone);
    fill(counts, absl::MakeSpan(drawn));
    for (size_t s = 0; s < statistics; ++s) {
      if (std::isfinite(drawn[s])) values[s].push_back(drawn[s]);
    }
  }
  for (size_t s = 0; s < statistics; ++s) {
    if (values[s].empty()) continue;
    std::sort(values[s].begin(), values[s].end());
    intervals[s] = {Quantile(values[s], 0.025), Quantile(values[s], 0.975)};
  }
  return intervals;
}

Interval BootstrapByGroup(absl::Span<const uint32_t> group, uint32_t draws, uint64_t seed,
                          const std::function<double(Counts)>& statistic) {
  return BootstrapManyByGroup(
      group, draws, seed, 1,
      [&](Counts counts, absl::Span<double> values) { values[0] = statistic(counts); })[0];
}

std::vector<RankedItem> RankItems(absl::Span<const double> score, absl::Span<const uint32_t> label) {
  std::vector<RankedItem> items;
  const auto value = [&](size_t i) {
    return std::isnan(score[i]) ? -std::numeric_limits<double>::infinity() : score[i];
  };
  std::vector<uint32_t> order(score.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return value(a) > value(b); });
  for (size_t i = 0; i < order.size(); ++i) {
    items.push_back({order[i], label[order[i]] == 1,
                     i + 1 == order.size() || value(order[i]) != value(order[i + 1])});
  }
  return items;
}

WeightedArea::WeightedArea(absl::Span<const double> score, absl::Span<const uint32_t> label)
    : items_(RankItems(score, label)) {}

double WeightedArea::operator()(Counts counts) const {
  uint64_t above = 0, positives = 0, negatives = 0, tied_positives = 0, tied_negatives = 0;
  uint64_t twice_wins = 0;
  for (const RankedItem& item : items_) {
    (item.positive ? tied_positives : tied_negatives) += counts[item.index];
    if (!item.ends_tie) continue;
    twice_wins += tied_negatives * (2 * above + tied_positives);
    above += tied_positives;
    positives += tied_positives;
    negatives += tied_negatives;
    tied_positives = tied_negatives = 0;
  }
  return positives == 0 || negatives == 0
             ? std::numeric_limits<double>::quiet_NaN()
             : static_cast<double>(twice_wins) /
                   (2.0 * static_cast<double>(positives) * static_cast<double>(negatives));
}

}  // namespace dermis
