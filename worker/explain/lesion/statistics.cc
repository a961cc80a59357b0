#include "worker/explain/lesion/statistics.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/bootstrap.h"
#include "common/philox.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

constexpr uint32_t kIntervalDraws = 2000;
// Draws that differ from the observed mean by rounding alone are as extreme as it.
constexpr double kSame = 1e-12;

constexpr v1::LesionHypothesis kHypotheses[] = {
    v1::LESION_HYPOTHESIS_BANDS_OVER_CORE, v1::LESION_HYPOTHESIS_INNER_BAND_OVER_CORE,
    v1::LESION_HYPOTHESIS_OUTER_BAND_OVER_CORE, v1::LESION_HYPOTHESIS_LESION_OVER_SURROUNDINGS};
constexpr v1::LesionNull kNulls[] = {v1::LESION_NULL_SHIFTED, v1::LESION_NULL_ROTATED,
                                     v1::LESION_NULL_EXCHANGED};

// A hypothesis' two sides, as zones.
std::pair<std::vector<int>, std::vector<int>> SidesOf(v1::LesionHypothesis hypothesis) {
  switch (hypothesis) {
    case v1::LESION_HYPOTHESIS_INNER_BAND_OVER_CORE:
      return {{kInnerBand}, {kCore}};
    case v1::LESION_HYPOTHESIS_OUTER_BAND_OVER_CORE:
      return {{kOuterBand}, {kCore}};
    case v1::LESION_HYPOTHESIS_LESION_OVER_SURROUNDINGS:
      return {{kCore, kInnerBand}, {kOuterBand, kSurroundings}};
    default:
      return {{kInnerBand, kOuterBand}, {kCore}};
  }
}

// Of one lesion: its statistic where the zones are, then under each placement of a null.
using Row = std::vector<double>;

// None where an image of the lesion has no statistic somewhere.
std::optional<Row> RowOf(absl::Span<const LesionImage* const> images,
                         v1::LesionHypothesis hypothesis, v1::LesionNull null) {
  Row row;
  for (const LesionImage* image : images) {
    size_t place = 0;
    for (const Placed& placed : image->placements) {
      if (placed.kind != v1::LESION_NULL_UNSPECIFIED && placed.kind != null) continue;
      const std::optional<double> statistic = Statistic(hypothesis, placed);
      if (!statistic) return std::nullopt;
      if (place == row.size()) row.push_back(0);
      row[place++] += *statistic / static_cast<double>(images.size());
    }
  }
  return row;
}

double MeanOf(absl::Span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Tests a hypothesis on some lesions. `number` keys the draws: each finding has its own.
v1::LesionFinding Find(const std::vector<std::vector<const LesionImage*>>& lesions,
                       v1::LesionHypothesis hypothesis, v1::LesionNull null,
                       std::optional<uint32_t> label, bool one_sided, uint32_t number,
                       const LesionPlan& plan) {
  v1::LesionFinding finding;
  finding.set_hypothesis(hypothesis);
  finding.set_null(null);
  if (label) finding.set_label(*label);
  std::vector<Row> rows;
  for (const auto& images : lesions) {
    if (label && images[0]->label != *label) continue;
    if (std::optional<Row> row = RowOf(images, hypothesis, null)) rows.push_back(*std::move(row));
  }
  finding.set_lesions(static_cast<uint32_t>(rows.size()));
  finding.set_p(1);
  if (rows.empty()) return finding;

  const double n = static_cast<double>(rows.size());
  const size_t placements = rows[0].size();
  double observed = 0, centre = 0;
  std::vector<double> effects;
  for (const Row& row : rows) {
    observed += row[0] / n;
    centre += MeanOf(row) / n;
    effects.push_back(row[0] - MeanOf(absl::MakeConstSpan(row).subspan(1)));
  }
  finding.set_statistic(observed);
  finding.set_effect(MeanOf(effects));

  std::vector<uint32_t> each(rows.size());
  std::iota(each.begin(), each.end(), 0u);
  const Interval interval = BootstrapByGroup(each, kIntervalDraws, plan.seed, [&](Counts counts) {
    double sum = 0;
    for (size_t i = 0; i < effects.size(); ++i) sum += counts[i] * effects[i];
    return sum / n;
  });
  finding.set_low(interval.low);
  finding.set_high(interval.high);

  uint64_t extreme = 0;
  for (uint32_t draw = 0; draw < plan.draws; ++draw) {
    double mean = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto block = PhiloxBlock(plan.seed, Purpose::kLesionNull, draw, i, number);
      const auto place =
          static_cast<size_t>(ToUnitDouble(block[0], block[1]) * static_cast<double>(placements));
      mean += rows[i][place] / n;
    }
    extreme += one_sided ? mean >= observed - kSame
                         : std::abs(mean - centre) >= std::abs(observed - centre) - kSame;
  }
  finding.set_p((1.0 + static_cast<double>(extreme)) / (1.0 + plan.draws));
  return finding;
}

// What the zones hold, over lesions; and how exact that is.
void Describe(const std::vector<std::vector<const LesionImage*>>& lesions,
              v1::LesionSummary& summary) {
  std::array<double, kZones> shares{}, areas{}, values{};
  double residual = 0;
  for (const auto& images : lesions) {
    const double weight = 1.0 / static_cast<double>(images.size() * lesions.size());
    for (const LesionImage* image : images) {
      const Placed& own = image->placements[0];
      double sum = 0;
      for (const double value : own.values) sum += std::abs(value);
      for (int z = 0; z < kZones; ++z) {
        if (sum > 0) shares[z] += weight * std::abs(own.values[z]) / sum;
        areas[z] += weight * own.areas[z];
        values[z] += weight * own.values[z];
      }
      residual = std::max(residual, std::abs(own.additivity_residual));
    }
  }
  summary.mutable_shares()->Assign(shares.begin(), shares.end());
  summary.mutable_areas()->Assign(areas.begin(), areas.end());
  summary.mutable_values()->Assign(values.begin(), values.end());
  summary.set_additivity_residual(residual);
}

// Each image has its zones first and as many placements of each kind as the others.
absl::Status CheckPlacements(absl::Span<const LesionImage> images) {
  for (const LesionImage& image : images) {
    bool fits =
        image.placements.size() == images[0].placements.size() && image.placements.size() > 1;
    for (size_t p = 0; p < image.placements.size() && fits; ++p) {
      fits = image.placements[p].kind == images[0].placements[p].kind &&
             (p == 0) == (image.placements[p].kind == v1::LESION_NULL_UNSPECIFIED);
    }
    if (!fits) return absl::InvalidArgumentError("lesion test: images differ in their placements");
  }
  for (const v1::LesionNull null : kNulls) {
    if (std::none_of(images[0].placements.begin(), images[0].placements.end(),
                     [&](const Placed& placed) { return placed.kind == null; })) {
      return absl::InvalidArgumentError(
          absl::StrCat("lesion test: no placement is ", v1::LesionNull_Name(null)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::array<double, kZones> ZoneValues(const SubsetOutputs& f) {
  static constexpr double kFactorial[] = {1, 1, 2, 6, 24};
  std::array<double, kZones> values{};
  for (unsigned subset = 0; subset < f.size(); ++subset) {
    const int size = std::popcount(subset);
    for (int z = 0; z < kZones; ++z) {
      if (subset >> z & 1) continue;
      values[z] += kFactorial[size] * kFactorial[kZones - 1 - size] / kFactorial[kZones] *
                   (f[subset | 1u << z] - f[subset]);
    }
  }
  return values;
}

Placed PlacedOf(v1::LesionNull kind, absl::Span<const double> areas, const SubsetOutputs& f) {
  Placed placed;
  placed.kind = kind;
  std::copy(areas.begin(), areas.end(), placed.areas.begin());
  placed.values = ZoneValues(f);
  placed.additivity_residual =
      f.back() - f.front() - std::accumulate(placed.values.begin(), placed.values.end(), 0.0);
  return placed;
}

std::optional<double> Statistic(v1::LesionHypothesis hypothesis, const Placed& placed) {
  const auto density = [&](const std::vector<int>& zones) -> std::optional<double> {
    double value = 0, area = 0;
    for (const int z : zones) {
      value += std::abs(placed.values[z]);
      area += placed.areas[z];
    }
    if (area <= 0) return std::nullopt;
    return value / area;
  };
  const auto [first, second] = SidesOf(hypothesis);
  const std::optional<double> a = density(first), b = density(second);
  if (!a || !b || *a + *b <= 0) return std::nullopt;
  return (*a - *b) / (*a + *b);
}

std::vector<double> HolmAdjusted(absl::Span<const double> p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.size());
  double most = 0;
  for (size_t k = 0; k < order.size(); ++k) {
    most = std::max(most, std::min(1.0, static_cast<double>(p.size() - k) * p[order[k]]));
    adjusted[order[k]] = most;
  }
  return adjusted;
}

absl::StatusOr<v1::LesionSummary> TestLesions(absl::Span<const LesionImage> images,
                                              const LesionPlan& plan) {
  if (images.empty()) return absl::InvalidArgumentError("lesion test: no images");
  RETURN_IF_ERROR(CheckPlacements(images));
  std::vector<std::vector<const LesionImage*>> lesions;
  for (const LesionImage& image : images) {
    if (image.group >= lesions.size()) lesions.resize(image.group + 1);
    lesions[image.group].push_back(&image);
  }
  std::erase_if(lesions, [](const auto& of_lesion) { return of_lesion.empty(); });

  v1::LesionSummary summary;
  summary.set_images(static_cast<uint32_t>(images.size()));
  summary.set_lesions(static_cast<uint32_t>(lesions.size()));
  uint32_t number = 0;
  *summary.add_findings() =
      Find(lesions, plan.primary, plan.null, std::nullopt, true, number++, plan);
  summary.mutable_findings(0)->set_adjusted_p(summary.findings(0).p());

  std::vector<double> others;
  const auto add = [&](v1::LesionHypothesis hypothesis, v1::LesionNull null,
                       std::optional<uint32_t> label) {
    *summary.add_findings() = Find(lesions, hypothesis, null, label, false, number++, plan);
    others.push_back(summary.findings(summary.findings_size() - 1).p());
  };
  for (uint32_t label = 0; label < plan.classes; ++label) add(plan.primary, plan.null, label);
  for (const v1::LesionHypothesis hypothesis : kHypotheses) {
    for (const v1::LesionNull null : kNulls) {
      if (hypothesis != plan.primary || null != plan.null) add(hypothesis, null, std::nullopt);
    }
  }
  const std::vector<double> adjusted = HolmAdjusted(others);
  for (size_t i = 0; i < adjusted.size(); ++i) {
    summary.mutable_findings(static_cast<int>(i) + 1)->set_adjusted_p(adjusted[i]);
  }
  Describe(lesions, summary);
  return summary;
}

}  // namespace dermis
