#include "worker/explain/estimators/regression.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "common/estimators.h"
#include "common/shapley_kernel.h"
#include "worker/explain/estimators/normal_equations.h"

namespace dermis {
namespace {

constexpr size_t kGroups = 20;
constexpr size_t kMostForErrors = 1024;

// One or two rows of the regression as one equation, z . phi = target.
struct Equation {
  const Mask* mask = nullptr;
  double target = 0;
};

// f(z) - f(0); of a pair the half of f(z) - f(complement) plus that of f(1) - f(0).
Equation EquationOf(const CoalitionDesign& design, absl::Span<const double> outputs, uint32_t row,
                    bool paired) {
  const double target = paired ? (outputs[row] - outputs[row + 1] + outputs[0] - outputs[1]) / 2
                               : outputs[row] - outputs[1];
  return {&design.rows[row], target};
}

uint32_t SizeOf(const Mask& mask) {
  uint32_t ones = 0;
  for (uint8_t bit : mask) ones += bit;
  return ones;
}

std::vector<double> JackknifeErrors(const std::vector<std::vector<double>>& without) {
  std::vector<double> errors(without[0].size());
  for (size_t k = 0; k < errors.size(); ++k) {
    double center = 0, sum = 0;
    for (const auto& values : without) center += values[k];
    center /= kGroups;
    for (const auto& values : without) sum += (values[k] - center) * (values[k] - center);
    errors[k] = std::sqrt(sum * (kGroups - 1) / kGroups);
  }
  return errors;
}

// weigh(g, weights): one weight an equation, group g (kGroups: none) left out.
template <typename Weigh>
RegressionFit Fit(const std::vector<Equation>& equations, size_t superpixels, double delta,
                  bool adjusted, bool errors, const Weigh& weigh) {
  RegressionFit fit;
  std::vector<double> weights(equations.size());
  const auto solve = [&](size_t without) {
    weigh(without, weights);
    NormalEquations normal(superpixels, delta, adjusted);
    for (size_t e = 0; e < equations.size(); ++e) {
      normal.Add(*equations[e].mask, equations[e].target, weights[e]);
    }
    return normal.Solve();
  };
  Solution whole = solve(kGroups);
  fit.values = std::move(whole.x);
  double sum = 0;
  for (double value : fit.values) sum += value;
  fit.additivity_residual = delta - sum;
  if (!errors || !whole.full_rank || superpixels > kMostForErrors) return fit;
  std::vector<std::vector<double>> without;
  for (size_t g = 0; g < kGroups; ++g) {
    Solution rest = solve(g);
    if (!rest.full_rank) return fit;
    without.push_back(std::move(rest.x));
  }
  fit.standard_errors = JackknifeErrors(without);
  return fit;
}

// Which group draw d of n belongs to.
size_t GroupOf(size_t d, size_t n) { return d * kGroups / n; }

RegressionFit OfOneSuperpixel(absl::Span<const double> outputs) {
  return {{outputs[0] - outputs[1]}, {0.0}, 0, 2};
}

uint64_t UnitsUsed(const CoalitionDesign& design, uint64_t units) {
  return units == 0 ? design.units.size() : std::min<uint64_t>(units, design.units.size());
}

uint64_t RowsOfUnits(const CoalitionDesign& design, uint64_t units) {
  if (units == 0) return 2 + design.enumerated;
  const CoalitionDesign::Unit& last = design.units[units - 1];
  return last.row + (last.paired ? 2 : 1);
}

}  // namespace

RegressionFit FitLeverage(const CoalitionDesign& design, absl::Span<const double> outputs,
                          uint64_t units, bool errors) {
  const auto superpixels = static_cast<uint32_t>(design.rows[0].size());
  if (superpixels == 1) return OfOneSuperpixel(outputs);
  const size_t n = UnitsUsed(design, units);
  std::vector<Equation> equations;
  std::vector<uint32_t> strata;  // Smaller size of each pair.
  std::vector<double> drawn(superpixels / 2 + 1, 0.0);
  for (size_t u = 0; u < n; ++u) {
    equations.push_back(EquationOf(design, outputs, design.units[u].row, true));
    const uint32_t size = SizeOf(*equations.back().mask);
    strata.push_back(std::min(size, superpixels - size));
    ++drawn[strata.back()];
  }
  const std::vector<double> share = SizeWeights(superpixels);
  // Of the pairs of its size, that were not run: the part of its spread that counts.
  std::vector<double> open(drawn.size(), 0.0);
  for (uint32_t s = 1; s < drawn.size(); ++s) {
    open[s] = std::sqrt(std::max(0.0, 1 - drawn[s] / PairsOfSize(superpixels, s)));
  }
  const auto weigh = [&](size_t without, std::vector<double>& weights) {
    std::vector<double> left = drawn;
    if (without < kGroups) {
      for (size_t u = 0; u < n; ++u) left[strata[u]] -= GroupOf(u, n) == without ? 1 : 0;
    }
    for (size_t u = 0; u < n; ++u) {
      const uint32_t s = strata[u];
      const double weight = share[s - 1] / drawn[s];
      if (without == kGroups || left[s] == 0) {
        weights[u] = weight;  // A size that only this group has: it cannot be left out.
        continue;
      }
      const double rescaled = GroupOf(u, n) == without ? 0 : drawn[s] / left[s];
      weights[u] = weight * (1 + open[s] * (rescaled - 1));
    }
  };
  const bool complete =
      std::all_of(open.begin() + 1, open.end(), [](double share) { return share == 0; });
  RegressionFit fit = Fit(equations, superpixels, outputs[0] - outputs[1], /*adjusted=*/true,
                          errors && !complete && n >= LeastPairsForErrors(superpixels), weigh);
  if (errors && complete) fit.standard_errors.assign(superpixels, 0.0);
  fit.rows = RowsOfUnits(design, n);
  return fit;
}

RegressionFit FitKernel(const CoalitionDesign& design, absl::Span<const double> outputs,
                        uint64_t units) {
  const auto superpixels = static_cast<uint32_t>(design.rows[0].size());
  if (superpixels == 1) return OfOneSuperpixel(outputs);
  const size_t n = UnitsUsed(design, units);
  // Up to where the next unit was drawn first.
  const size_t draws = static_cast<size_t>(
      std::find(design.draws.begin(), design.draws.end(), static_cast<uint32_t>(n)) -
      design.draws.begin());
  const std::vector<double> share = SizeWeights(superpixels);
  std::vector<Equation> equations;
  std::vector<double> enumerated;  // Weights of the first equations.
  double left = 1;                 // Of the kernel's weight, for the draws.
  for (uint32_t row = 2; row < 2 + design.enumerated;) {
    const uint32_t size = SizeOf(design.rows[row]);
    const bool paired = HasComplement(superpixels, size);
    equations.push_back(EquationOf(design, outputs, row, paired));
    enumerated.push_back(share[size - 1] / Binomial(superpixels, size));
    row += paired ? 2 : 1;
  }
  for (uint32_t size = 1; size <= design.enumerated_sizes; ++size) left -= share[size - 1];
  for (size_t u = 0; u < n; ++u) {
    equations.push_back(EquationOf(design, outputs, design.units[u].row, design.units[u].paired));
  }
  const auto rows_of = [&](size_t u) { return design.units[u].paired ? 2.0 : 1.0; };
  const auto weigh = [&](size_t without, std::vector<double>& weights) {
    std::copy(enumerated.begin(), enumerated.end(), weights.begin());
    double* const drawn = weights.data() + enumerated.size();
    std::fill(drawn, drawn + n, 0.0);
    double sum = 0;
    for (size_t d = 0; d < draws; ++d) {
      if (without < kGroups && GroupOf(d, draws) == without) continue;
      drawn[design.draws[d]] += rows_of(design.draws[d]);
      sum += rows_of(design.draws[d]);
    }
    for (size_t u = 0; u < n; ++u) drawn[u] *= left / sum;
  };
  const bool complete = design.enumerated_sizes == share.size();
  RegressionFit fit = Fit(equations, superpixels, outputs[0] - outputs[1], /*adjusted=*/false,
                          !complete && n >= LeastPairsForErrors(superpixels), weigh);
  if (complete) fit.standard_errors.assign(superpixels, 0.0);
  fit.rows = RowsOfUnits(design, n);
  return fit;
}

}  // namespace dermis
