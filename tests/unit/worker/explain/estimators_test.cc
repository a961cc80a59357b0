// The axioms of Shapley values (efficiency, symmetry, null player, additivity), held against every
// estimator on random games; what each promises besides; what other methods keep of them; and
// whether the standard errors say the truth.
#include "common/estimators.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/shapley_kernel.h"
#include "tests/unit/worker/explain/games.h"
#include "worker/explain/estimators/coalitions.h"
#include "worker/explain/estimators/exact.h"
#include "worker/explain/estimators/owen.h"
#include "worker/explain/estimators/regression.h"
#include "worker/explain/estimators/single.h"
#include "worker/explain/estimators/symmetric.h"
#include "worker/explain/lime.h"
#include "worker/explain/shapley.h"

namespace dermis {
namespace {

struct Estimate {
  std::vector<double> values, errors;
};

Estimate ByEnumeration(const Game& game, uint32_t n, uint64_t) {
  std::vector<double> outputs;
  for (uint64_t row = 0; row < uint64_t{1} << n; ++row) {
    outputs.push_back(game(Bits(ExactMask(row, n))));
  }
  return {FitExact(outputs, n), std::vector<double>(n, 0.0)};
}

Estimate ByPermutations(const Game& game, uint32_t n, uint64_t seed) {
  std::vector<std::vector<uint32_t>> orders;
  std::vector<double> outputs = {game((1u << n) - 1), game(0)};
  for (uint32_t pair = 0; pair < 30; ++pair) {
    orders.push_back(ShapleyOrder(seed, pair, n));
    for (const Mask& mask : ShapleyPairMasks(orders.back())) outputs.push_back(game(Bits(mask)));
  }
  const ShapleyFit fit = FitShapley(orders, outputs);
  return {fit.values, fit.standard_errors};
}

Estimate ByKernel(const Game& game, uint32_t n, uint64_t seed) {
  const CoalitionDesign design = KernelDesign(seed, n, 300);
  const RegressionFit fit = FitKernel(design, OutputsOf(game, design.rows), 0);
  return {fit.values, fit.standard_errors};
}

Estimate ByLeverage(const Game& game, uint32_t n, uint64_t seed) {
  const CoalitionDesign design = LeverageDesign(seed, n, 150);
  const RegressionFit fit = FitLeverage(design, OutputsOf(game, design.rows), 0);
  return {fit.values, fit.standard_errors};
}

struct Estimator {
  const char* name;
  Estimate (*estimate)(const Game&, uint32_t, uint64_t);
};

class ShapleyAxioms : public testing::TestWithParam<Estimator> {
 protected:
  static constexpr uint32_t kPlayers = 10;
  // Rounding, or five standard errors.
  static double Slack(double error) { return 1e-11 + 5 * error; }
  static Estimate Of(const Game& game, uint64_t seed) {
    return GetParam().estimate(game, kPlayers, seed);
  }
};

INSTANTIATE_TEST_SUITE_P(Estimators, ShapleyAxioms,
                         testing::Values(Estimator{"exact", ByEnumeration},
                                         Estimator{"permutation", ByPermutations},
                                         Estimator{"kernel", ByKernel},
                                         Estimator{"leverage", ByLeverage}),
                         [](const auto& info) { return info.param.name; });

TEST_P(ShapleyAxioms, Efficiency_ValuesAddUpToWhatAllPlayersGain) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const Game game = RandomGame(seed);
    const auto values = Of(game, seed).values;
    EXPECT_NEAR(std::accumulate(values.begin(), values.end(), 0.0),
                game((1u << kPlayers) - 1) - game(0), 1e-12);
  }
}

TEST_P(ShapleyAxioms, Symmetry_InterchangeablePlayersGetEqualShares) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const Game game = [seed](uint32_t set) {  // Of players 2 and 7 only their number counts.
      const uint32_t both = (set >> 2 & 1) + (set >> 7 & 1);
      return Uniform(seed, 3, (set & ~(1u << 2 | 1u << 7)) | both << 20);
    };
    const Estimate estimate = Of(game, seed);
    EXPECT_NEAR(estimate.values[2], estimate.values[7],
                Slack(std::hypot(estimate.errors[2], estimate.errors[7])));
  }
}

TEST_P(ShapleyAxioms, NullPlayer_GetsNothing) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const Estimate estimate =
        Of([seed](uint32_t set) { return Uniform(seed, 2, set & ~(1u << 3)); }, seed);
    EXPECT_NEAR(estimate.values[3], 0, Slack(estimate.errors[3]));
  }
}

TEST_P(ShapleyAxioms, Additivity_ValuesOfASumAreSumsOfValues) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const Game f = RandomGame(seed), g = RandomGame(seed + 100);
    const auto of_f = Of(f, seed).values, of_g = Of(g, seed).values;
    const auto of_sum = Of([&](uint32_t set) { return f(set) + g(set); }, seed).values;
    for (uint32_t k = 0; k < kPlayers; ++k) EXPECT_NEAR(of_sum[k], of_f[k] + of_g[k], 1e-11);
  }
}

TEST_P(ShapleyAxioms, Values_AreTheExactOnes_WithinTheirError) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const auto exact = Exact(RandomGame(seed), kPlayers);
    const Estimate estimate = Of(RandomGame(seed), seed);
    for (uint32_t k = 0; k < kPlayers; ++k) {
      EXPECT_NEAR(estimate.values[k], exact[k], Slack(estimate.errors[k])) << k;
    }
  }
}

TEST_P(ShapleyAxioms, LinearGame_IsMetExactly) {
  const Estimate estimate = Of(
      [](uint32_t set) {
        double sum = 7;
        for (uint32_t k = 0; k < kPlayers; ++k) sum += (set >> k & 1) * (k - 3.25);
        return sum;
      },
      1);
  for (uint32_t k = 0; k < kPlayers; ++k) {
    EXPECT_NEAR(estimate.values[k], k - 3.25, 1e-10);
    EXPECT_NEAR(estimate.errors[k], 0, 1e-10);
  }
}

TEST_P(ShapleyAxioms, Intervals_CoverTheExactValues_In90To99PercentOf200Repeats) {
  if (std::string(GetParam().name) == "exact")
    return;  // Its error is 0: what LinearGame holds it to.
  for (const uint64_t number : {8, 9}) {
    // A few interactions and noise of all orders, as a network has them.
    const Game game = [number](uint32_t set) {
      double sum = 0;
      for (uint32_t k = 0; k < kPlayers; ++k) sum += (set >> k & 1) * Uniform(number, 4, k);
      return std::tanh(sum) + 0.2 * Uniform(number, 5, set);
    };
    const auto exact = Exact(game, kPlayers);
    std::vector<int> covered(kPlayers, 0);
    for (uint64_t seed = 1; seed <= 200; ++seed) {
      const Estimate estimate = Of(game, seed);
      for (uint32_t k = 0; k < kPlayers; ++k) {
        covered[k] += std::abs(estimate.values[k] - exact[k]) <= 1.96 * estimate.errors[k];
      }
    }
    SCOPED_TRACE(number);
    ExpectCoverage(covered, 200);
  }
}

TEST(Exact, IsTheDefinition_ForAnyNumberOfPlayers) {
  for (uint32_t n = 1; n <= 9; ++n) {
    const auto exact = Exact(RandomGame(n), n);
    const auto values = ByEnumeration(RandomGame(n), n, 0).values;
    for (uint32_t k = 0; k < n; ++k) EXPECT_NEAR(values[k], exact[k], 1e-13);
  }
}

TEST(Regression, WithAllCoalitions_IsExact_AndItsErrorIsNone) {
  for (uint32_t n = 1; n <= 9; ++n) {
    const Game game = RandomGame(n);
    const auto exact = Exact(game, n);
    const CoalitionDesign all = LeverageDesign(1, n, (1u << (n - 1)) - 1);
    EXPECT_EQ(all.rows.size(), 1u << n);
    const CoalitionDesign kernel = KernelDesign(1, n, (1u << n) - 2);
    EXPECT_EQ(kernel.rows.size(), 1u << n);
    for (const RegressionFit& fit : {FitLeverage(all, OutputsOf(game, all.rows), 0),
                                     FitKernel(kernel, OutputsOf(game, kernel.rows), 0)}) {
      EXPECT_EQ(fit.standard_errors, std::vector<double>(n, 0.0));
      EXPECT_EQ(fit.rows, 1u << n);
      for (uint32_t k = 0; k < n; ++k) EXPECT_NEAR(fit.values[k], exact[k], 1e-12) << n;
    }
  }
}

TEST(Regression, GamesOfPairs_AreMetExactly) {
  // A coalition and its complement cancel what two players do together: the reason for pairing.
  const Game game = [](uint32_t set) {
    double sum = 0;
    for (uint32_t i = 0; i < 12; ++i) {
      for (uint32_t j = 0; j <= i; ++j) {
        if ((set >> i & 1) && (set >> j & 1)) sum += Uniform(6, 4, i * 12 + j);
      }
    }
    return sum;
  };
  const auto exact = Exact(game, 12);
  const CoalitionDesign design = LeverageDesign(2, 12, 40);
  const RegressionFit fit = FitLeverage(design, OutputsOf(game, design.rows), 0);
  for (size_t k = 0; k < 12; ++k) EXPECT_NEAR(fit.values[k], exact[k], 1e-10);
}

TEST(Regression, FewerCoalitionsThanPlayers_GiveFiniteValuesThatAddUp_AndNoError) {
  const Game game = RandomGame(3);
  const CoalitionDesign design = LeverageDesign(1, 20, 5);
  const auto outputs = OutputsOf(game, design.rows);
  const RegressionFit fit = FitLeverage(design, outputs, 0);
  EXPECT_TRUE(fit.standard_errors.empty());
  EXPECT_NEAR(std::accumulate(fit.values.begin(), fit.values.end(), 0.0), outputs[0] - outputs[1],
              1e-12);
  for (double value : fit.values) EXPECT_TRUE(std::isfinite(value));
}

TEST(Regression, WhatTheSizeOfAMaskDoes_IsNoNoise) {
  // 12 players: a linear game, bent by how many take part. Its values follow from symmetry and
  // efficiency.
  const Game game = [](uint32_t set) {
    double sum = 0;
    for (uint32_t k = 0; k < 12; ++k) sum += (set >> k & 1) * (k - 5.5);
    return sum + 100 * std::pow(std::popcount(set) / 12.0, 5);
  };
  const CoalitionDesign design = LeverageDesign(5, 12, 60);
  const auto outputs = OutputsOf(game, design.rows);
  const RegressionFit fit = FitLeverage(design, outputs, 0);
  const RegressionFit kernel =
      FitKernel(design, outputs, 0);  // The same masks without that knowledge.
  double error = 0, error_of_kernel = 0;
  for (uint32_t k = 0; k < 12; ++k) {
    error = std::max(error, std::abs(fit.values[k] - (k - 5.5 + 100 / 12.0)));
    error_of_kernel =
        std::max(error_of_kernel, std::abs(kernel.values[k] - (k - 5.5 + 100 / 12.0)));
  }
  EXPECT_LT(error, 1e-9);
  EXPECT_GT(error_of_kernel, 0.1);
}

TEST(Regression, StandardErrorsLeftOut_ChangeNoValue) {
  const CoalitionDesign design = LeverageDesign(9, 14, 64);
  const auto outputs = OutputsOf(RandomGame(5), design.rows);
  const RegressionFit with = FitLeverage(design, outputs, 0);
  const RegressionFit without = FitLeverage(design, outputs, 0, /*errors=*/false);
  EXPECT_EQ(with.values, without.values);
  EXPECT_FALSE(with.standard_errors.empty());
  EXPECT_TRUE(without.standard_errors.empty());
}

TEST(Regression, APrefix_IsWhatFewerDrawsGive) {
  const Game game = RandomGame(5);
  const CoalitionDesign longer = LeverageDesign(9, 14, 300), shorter = LeverageDesign(9, 14, 64);
  ASSERT_TRUE(std::equal(shorter.rows.begin(), shorter.rows.end(), longer.rows.begin()));
  auto outputs = OutputsOf(game, longer.rows);
  const RegressionFit whole = FitLeverage(shorter, OutputsOf(game, shorter.rows), 0);
  std::fill(outputs.begin() + 2 + 128, outputs.end(), 1e9);  // Beyond the prefix: ignored.
  const RegressionFit prefix = FitLeverage(longer, outputs, 64);
  EXPECT_EQ(whole.values, prefix.values);
  EXPECT_EQ(whole.standard_errors, prefix.standard_errors);
  EXPECT_EQ(prefix.rows, 130u);

  const CoalitionDesign kernel = KernelDesign(9, 14, 600);
  outputs = OutputsOf(game, kernel.rows);
  const RegressionFit part = FitKernel(kernel, outputs, 100);
  std::fill(outputs.begin() + static_cast<std::ptrdiff_t>(part.rows), outputs.end(), 1e9);
  EXPECT_EQ(FitKernel(kernel, outputs, 100).values, part.values);
  EXPECT_LT(part.rows, kernel.rows.size());
}

TEST(LeverageDesign, DrawsPairsOfComplements_NoneTwice_AllSizesAlike) {
  for (uint32_t n : {9u, 10u, 50u}) {
    const uint64_t pairs = n == 50 ? 2000 : (1u << (n - 1)) - 1 - 40;
    const CoalitionDesign design = LeverageDesign(3, n, pairs);
    ASSERT_EQ(design.rows.size(), 2 + 2 * pairs);
    std::set<Mask> seen;
    std::vector<double> sizes(n, 0.0);
    for (const CoalitionDesign::Unit& unit : design.units) {
      const Mask& mask = design.rows[unit.row];
      for (uint32_t k = 0; k < n; ++k) EXPECT_NE(mask[k], design.rows[unit.row + 1][k]);
      EXPECT_TRUE(seen.insert(mask).second);
      EXPECT_TRUE(seen.insert(design.rows[unit.row + 1]).second);
      const auto size = std::accumulate(mask.begin(), mask.end(), 0u);
      ASSERT_TRUE(size > 0 && size < n);
      ++sizes[std::min(size, n - size)];
    }
    if (n != 50) continue;
    EXPECT_EQ(sizes[1], 50);  // There are no more of them.
    for (uint32_t s = 3; s < 25; ++s) EXPECT_NEAR(sizes[s], sizes[2], 0.1 * sizes[2]) << s;
    EXPECT_NEAR(sizes[25], sizes[2] / 2, 0.1 * sizes[2]);
  }
}

TEST(LeverageDesign, EachPlayer_IsInHalfOfTheCoalitionsOfASize) {
  std::vector<int> shown(30, 0);
  int all = 0;
  const CoalitionDesign design = LeverageDesign(4, 30, 4000);
  for (const CoalitionDesign::Unit& unit : design.units) {
    const Mask& mask = design.rows[unit.row];
    if (std::accumulate(mask.begin(), mask.end(), 0) != 10) continue;
    ++all;
    for (uint32_t k = 0; k < 30; ++k) shown[k] += mask[k];
  }
  ASSERT_GT(all, 200);
  for (int count : shown) EXPECT_NEAR(count, all / 3.0, 5 * std::sqrt(all * 2 / 9.0));
}

TEST(KernelDesign, SeedsDiffer_AndRowsFillTheBudget) {
  EXPECT_EQ(KernelDesign(1, 40, 2128).rows.size(), 2130u);
  EXPECT_EQ(KernelDesign(1, 40, 2128).rows, KernelDesign(1, 40, 2128).rows);
  EXPECT_NE(KernelDesign(1, 40, 2128).rows, KernelDesign(2, 40, 2128).rows);
  EXPECT_EQ(KernelDesign(1, 1, 0).rows.size(), 2u);
}

// Two rows of four superpixels, cut by halves of the longer side: ((0 1)(4 5))((2 3)(6 7)).
Segmentation Cells() {
  Segmentation cells{20, 40, 8, {}};
  for (uint32_t y = 0; y < 20; ++y) {
    for (uint32_t x = 0; x < 40; ++x) cells.labels.push_back(y / 10 * 4 + x / 10);
  }
  return cells;
}

absl::StatusOr<OwenFit> Owen(const Game& game, const Segmentation& cells, uint64_t budget) {
  return FitOwen(TreeOf(cells), budget,
                 [&](absl::Span<const Mask> masks) -> absl::StatusOr<std::vector<double>> {
                   return OutputsOf(game, {masks.begin(), masks.end()});
                 });
}

// The mean contribution over all orders in which no group is entered before another is left.
std::vector<double> OwenByOrders(const Game& game, const PartitionTree& tree) {
  std::vector<double> values(tree.leaves, 0.0);
  const auto groups = static_cast<uint32_t>(tree.children.size());
  for (uint32_t flips = 0; flips < (1u << groups); ++flips) {
    std::vector<uint32_t> stack = {tree.leaves + groups - 1};
    uint32_t set = 0;
    while (!stack.empty()) {
      const uint32_t node = stack.back();
      stack.pop_back();
      if (node < tree.leaves) {
        values[node] += (game(set | 1u << node) - game(set)) / (1u << groups);
        set |= 1u << node;
        continue;
      }
      const auto& children = tree.children[node - tree.leaves];
      const uint32_t flip = flips >> (node - tree.leaves) & 1;
      stack.push_back(children[flip]);
      stack.push_back(children[1 - flip]);
    }
  }
  return values;
}

TEST(Owen, Complete_IsTheMeanOverAllOrdersThatKeepGroupsTogether) {
  const auto fit = Owen(RandomGame(2), Cells(), 100000);
  ASSERT_TRUE(fit.ok()) << fit.status();
  EXPECT_TRUE(fit->complete);
  const auto expected = OwenByOrders(RandomGame(2), TreeOf(Cells()));
  for (size_t k = 0; k < 8; ++k) EXPECT_NEAR(fit->values[k], expected[k], 1e-12);
}

TEST(Owen, KeepsTheBudget_AndAddsUp_HoweverSmallItIs) {
  const Game game = RandomGame(7);
  const auto complete = Owen(game, Cells(), 100000);
  for (uint64_t budget : {2u, 3u, 4u, 7u, 20u, 41u}) {
    const auto fit = Owen(game, Cells(), budget);
    ASSERT_TRUE(fit.ok());
    EXPECT_LE(fit->evaluations, budget);
    EXPECT_GT(fit->evaluations + 2, std::min(budget, complete->evaluations));
    EXPECT_FALSE(fit->complete);
    EXPECT_NEAR(std::accumulate(fit->values.begin(), fit->values.end(), 0.0), game(255) - game(0),
                1e-12);
  }
}

TEST(Owen, Axioms_NullPlayerAndAdditivity_HoldWhereItIsComplete) {
  const Game f = RandomGame(3), g = [](uint32_t set) { return Uniform(4, 1, set & ~4u); };
  const auto of_f = Owen(f, Cells(), 100000), of_g = Owen(g, Cells(), 100000);
  const auto of_sum = Owen([&](uint32_t set) { return f(set) + g(set); }, Cells(), 100000);
  EXPECT_NEAR(of_g->values[2], 0, 1e-13);
  for (size_t k = 0; k < 8; ++k) {
    EXPECT_NEAR(of_sum->values[k], of_f->values[k] + of_g->values[k], 1e-12);
  }
}

// Whom only their number tells apart, where a group of the tree holds both and nobody else; and two
// groups that do the same.
TEST(Owen, Axioms_SymmetryWithinAGroup_AndOfGroups) {
  bool across = false;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const auto numbers_alone = [seed](uint32_t a, uint32_t b) -> Game {
      return [=](uint32_t set) {
        const uint32_t both = (set >> a & 1) + (set >> b & 1);
        return Uniform(seed, 3, (set & ~(1u << a | 1u << b)) | both << 20);
      };
    };
    for (const auto& [a, b] : {std::pair(0u, 1u), {4u, 5u}, {2u, 3u}, {6u, 7u}}) {
      const auto values = Owen(numbers_alone(a, b), Cells(), 100000)->values;
      EXPECT_NEAR(values[a], values[b], 1e-12);
    }
    // Players of two groups, whose companions differ: no such promise.
    const auto apart = Owen(numbers_alone(0, 2), Cells(), 100000)->values;
    across = across || std::abs(apart[0] - apart[2]) > 1e-3;
    // The groups (0 1) and (4 5) exchanged, player by player, change nothing.
    const Game groups = [seed](uint32_t set) {
      const uint32_t first = set & 3, second = set >> 4 & 3;
      return Uniform(
          seed, 4, (set & ~0x33u) | std::min(first, second) << 20 | std::max(first, second) << 24);
    };
    const auto values = Owen(groups, Cells(), 100000)->values;
    EXPECT_NEAR(values[0], values[4], 1e-12);
    EXPECT_NEAR(values[1], values[5], 1e-12);
  }
  EXPECT_TRUE(across) << "else these were Shapley values";
}

TEST(PartitionTree, HalvesTheLongerSide_AndPartsEqualCentresByNumber) {
  const PartitionTree tree = TreeOf(Cells());
  ASSERT_EQ(tree.children.size(), 7u);
  EXPECT_EQ(tree.children[0], (std::array<uint32_t, 2>{0, 1}));
  EXPECT_EQ(tree.children[1], (std::array<uint32_t, 2>{4, 5}));
  EXPECT_EQ(tree.children[2], (std::array<uint32_t, 2>{8, 9}));
  // A ring and what is in it.
  Segmentation ring{5, 5, 2, std::vector<uint32_t>(25, 0)};
  ring.labels[12] = 1;
  EXPECT_EQ(TreeOf(ring).children, (std::vector<std::array<uint32_t, 2>>{{0, 1}}));
  EXPECT_TRUE(TreeOf({3, 3, 1, std::vector<uint32_t>(9, 0)}).children.empty());
}

TEST(Occlusion, IsWhatTheOutputLoses) {
  const Game game = RandomGame(1);
  std::vector<Mask> masks;
  for (uint32_t row = 0; row <= 6; ++row) masks.push_back(OcclusionMask(row, 6));
  const auto values = FitOcclusion(OutputsOf(game, masks));
  ASSERT_EQ(values.size(), 6u);
  for (uint32_t k = 0; k < 6; ++k) EXPECT_EQ(values[k], game(63) - game(63 & ~(1u << k)));
}

TEST(Rise, IsTheMeanOutputOfMasksThatShowASuperpixel) {
  const Game game = RandomGame(6);
  for (double p : {0.5, 0.3}) {
    std::vector<double> expected(6, 0.0);
    for (uint32_t set = 0; set < 64; ++set) {
      double likely = 1;
      for (uint32_t k = 0; k < 6; ++k) likely *= (set >> k & 1) ? p : 1 - p;
      for (uint32_t k = 0; k < 6; ++k) expected[k] += (set >> k & 1) * likely * game(set) / p;
    }
    std::vector<int> covered(6, 0);
    for (uint64_t seed = 1; seed <= 200; ++seed) {
      std::vector<Mask> masks;
      for (uint32_t row = 1; row <= 400; ++row) masks.push_back(RiseMask(seed, row, 6, p));
      const RiseFit fit = FitRise(masks, OutputsOf(game, masks), p);
      for (uint32_t k = 0; k < 6; ++k) {
        EXPECT_NEAR(fit.values[k], expected[k], 6 * fit.standard_errors[k]);
        covered[k] += std::abs(fit.values[k] - expected[k]) <= 1.96 * fit.standard_errors[k];
      }
    }
    SCOPED_TRACE(p);
    ExpectCoverage(covered, 200);
  }
}

// What LIME, occlusion and RISE keep of the axioms. `masks`: of LIME and RISE.
using Values = std::vector<double> (*)(const Game& game, const std::vector<Mask>& masks);

std::vector<double> LimeOf(const Game& game, const std::vector<Mask>& masks) {
  return FitLime(masks, OutputsOf(game, masks)).coefficients;
}

std::vector<double> LimeOfEqualMasks(const Game& game, const std::vector<Mask>& masks) {
  LimeOptions options;
  options.kernel_width = 1e9;
  return FitLime(masks, OutputsOf(game, masks), options).coefficients;
}

std::vector<double> OcclusionOf(const Game& game, const std::vector<Mask>& masks) {
  const auto n = static_cast<uint32_t>(masks[0].size());
  std::vector<Mask> rows;
  for (uint32_t row = 0; row <= n; ++row) rows.push_back(OcclusionMask(row, n));
  return FitOcclusion(OutputsOf(game, rows));
}

std::vector<double> RiseOf(const Game& game, const std::vector<Mask>& masks) {
  return FitRise(masks, OutputsOf(game, masks), 0.5).values;
}

enum class NullPlayerGets { kNothing, kMeanOutput, kNoPromise };

struct OtherMethod {
  const char* name;
  Values values;
  NullPlayerGets null_player;
};

class AxiomsOfOtherMethods : public testing::TestWithParam<OtherMethod> {
 protected:
  static constexpr uint32_t kPlayers = 8;
  static std::vector<Mask> AllMasks() {
    std::vector<Mask> masks;
    for (uint64_t row = 0; row < 1u << kPlayers; ++row) masks.push_back(ExactMask(row, kPlayers));
    return masks;
  }
  static std::vector<double> Of(const Game& game, const std::vector<Mask>& masks) {
    return GetParam().values(game, masks);
  }
};

// LIME's weights favour masks that show much, so what one superpixel does is partly put down to
// those that are shown with it; without them a superpixel that does nothing gets nothing.
INSTANTIATE_TEST_SUITE_P(
    Methods, AxiomsOfOtherMethods,
    testing::Values(OtherMethod{"lime", LimeOf, NullPlayerGets::kNoPromise},
                    OtherMethod{"lime_of_equal_masks", LimeOfEqualMasks, NullPlayerGets::kNothing},
                    OtherMethod{"occlusion", OcclusionOf, NullPlayerGets::kNothing},
                    OtherMethod{"rise", RiseOf, NullPlayerGets::kMeanOutput}),
    [](const auto& info) { return info.param.name; });

TEST_P(AxiomsOfOtherMethods, Additivity_OfTheSameMasks_HoldsToRounding) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    std::vector<Mask> masks;
    for (uint32_t row = 0; row < 100; ++row) masks.push_back(LimeMask(seed, row, kPlayers));
    const Game f = RandomGame(seed), g = RandomGame(seed + 100);
    const auto of_f = Of(f, masks), of_g = Of(g, masks);
    const auto of_sum = Of([&](uint32_t set) { return f(set) + g(set); }, masks);
    ASSERT_EQ(of_sum.size(), kPlayers);
    for (uint32_t k = 0; k < kPlayers; ++k) EXPECT_NEAR(of_sum[k], of_f[k] + of_g[k], 1e-11);
  }
}

// Over all masks: a sample need not treat two players alike.
TEST_P(AxiomsOfOtherMethods, Symmetry_InterchangeablePlayersGetTheSame) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const Game game = [seed](uint32_t set) {  // Of players 2 and 7 only their number counts.
      const uint32_t both = (set >> 2 & 1) + (set >> 7 & 1);
      return Uniform(seed, 3, (set & ~(1u << 2 | 1u << 7)) | both << 20);
    };
    const auto values = Of(game, AllMasks());
    EXPECT_NEAR(values[2], values[7], 1e-11);
    EXPECT_GT(std::abs(values[2] - values[1]), 1e-6) << "else nothing is told apart";
  }
}

TEST_P(AxiomsOfOtherMethods, NullPlayer_GetsNothing_AndFromRiseTheMeanOutput) {
  double largest = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const Game game = [seed](uint32_t set) { return Uniform(seed, 2, set & ~(1u << 3)); };
    const std::vector<double> outputs = OutputsOf(game, AllMasks());
    const double mean =
        std::accumulate(outputs.begin(), outputs.end(), 0.0) / static_cast<double>(outputs.size());
    const double expected = GetParam().null_player == NullPlayerGets::kMeanOutput ? mean : 0;
    largest = std::max(largest, std::abs(Of(game, AllMasks())[3] - expected));
  }
  if (GetParam().null_player == NullPlayerGets::kNoPromise) {
    EXPECT_GT(largest, 1e-3) << "it could be promised";
  } else {
    EXPECT_LT(largest, 1e-11);
  }
}

TEST_P(AxiomsOfOtherMethods, Efficiency_IsNotPromised) {
  const Game game = RandomGame(1);
  const auto values = Of(game, AllMasks());
  EXPECT_GT(std::abs(std::accumulate(values.begin(), values.end(), 0.0) -
                     (game((1u << kPlayers) - 1) - game(0))),
            0.01);
}

TEST(SolvePositive, SingularSystem_HasItsSolutionOfMinimalNorm) {
  SymmetricMatrix a(3);  // Columns 0 and 1 are equal, column 2 is empty.
  a.at(0, 0) = a.at(1, 0) = a.at(1, 1) = 2;
  const Solution solution = SolvePositive(a, {3, 3, 0});
  EXPECT_FALSE(solution.full_rank);
  EXPECT_NEAR(solution.x[0], 0.75, 1e-12);
  EXPECT_NEAR(solution.x[1], 0.75, 1e-12);
  EXPECT_NEAR(solution.x[2], 0, 1e-12);
}

}  // namespace
}  // namespace dermis
