// The estimators on games whose answer is known.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/worker/explain/games.h"
#include "worker/explain/lime.h"
#include "worker/explain/masks.h"
#include "worker/explain/shapley.h"

namespace dermis {
namespace {

ShapleyFit Estimate(const Game& game, const std::vector<std::vector<uint32_t>>& orders) {
  const auto n = static_cast<uint32_t>(orders[0].size());
  std::vector<double> outputs = {game((1u << n) - 1), game(0)};
  for (const auto& order : orders) {
    for (const Mask& mask : ShapleyPairMasks(order)) outputs.push_back(game(Bits(mask)));
  }
  return FitShapley(orders, outputs);
}

std::vector<std::vector<uint32_t>> RandomOrders(uint64_t seed, uint32_t pairs, uint32_t n) {
  std::vector<std::vector<uint32_t>> orders;
  for (uint32_t p = 0; p < pairs; ++p) orders.push_back(ShapleyOrder(seed, p, n));
  return orders;
}

TEST(Shapley, Efficiency_HoldsToRounding_ForAnyGame) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const uint32_t n = 1 + seed % 9;
    const Game game = RandomGame(seed);
    const ShapleyFit fit = Estimate(game, RandomOrders(seed, 5, n));
    const double sum = std::accumulate(fit.values.begin(), fit.values.end(), 0.0);
    EXPECT_NEAR(sum, game((1u << n) - 1) - game(0), 1e-13);
    EXPECT_NEAR(fit.additivity_residual, 0, 1e-13);
  }
}

TEST(Shapley, NullPlayer_GetsExactlyNothing) {
  const Game game = [](uint32_t set) { return Uniform(4, 2, set & ~(1u << 3)); };
  const ShapleyFit fit = Estimate(game, RandomOrders(1, 8, 7));
  EXPECT_EQ(fit.values[3], 0);
  EXPECT_EQ(fit.standard_errors[3], 0);
  EXPECT_NE(fit.values[2], 0);
}

TEST(Shapley, AllOrders_GiveTheExactValues_AndEqualPlayersEqualShares) {
  std::vector<std::vector<uint32_t>> orders;
  std::vector<uint32_t> order = {0, 1, 2, 3, 4};
  do {
    orders.push_back(order);
  } while (std::next_permutation(order.begin(), order.end()));
  const Game random = RandomGame(11);
  const auto exact = Exact(random, 5);
  const ShapleyFit fit = Estimate(random, orders);
  for (size_t k = 0; k < 5; ++k) EXPECT_NEAR(fit.values[k], exact[k], 1e-12);

  // Players 1 and 3 are interchangeable: only their number counts.
  const Game symmetric = [](uint32_t set) {
    const uint32_t both = ((set >> 1) & 1) + ((set >> 3) & 1);
    return Uniform(5, 3, (set & 0b10101u) | both << 8);
  };
  const ShapleyFit even = Estimate(symmetric, orders);
  EXPECT_NEAR(even.values[1], even.values[3], 1e-13);
}

TEST(Shapley, AntitheticPair_IsExactForGamesOfPairs) {
  // An order and its reverse cancel what two players do together: the reason for pairing.
  const Game game = [](uint32_t set) {
    double sum = 0;
    for (uint32_t i = 0; i < 8; ++i) {
      for (uint32_t j = 0; j <= i; ++j) {
        if ((set >> i & 1) && (set >> j & 1)) sum += Uniform(6, 4, i * 8 + j);
      }
    }
    return sum;
  };
  const auto exact = Exact(game, 8);
  const ShapleyFit fit = Estimate(game, RandomOrders(2, 1, 8));
  for (size_t k = 0; k < 8; ++k) EXPECT_NEAR(fit.values[k], exact[k], 1e-12);
  EXPECT_TRUE(fit.standard_errors.empty());  // One pair says nothing about its spread.
}

TEST(Shapley, StandardErrors_CoverTheExactValues) {
  int within_two = 0, within_four = 0, all = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    const uint32_t n = 4 + seed % 5;
    const auto exact = Exact(RandomGame(seed), n);
    const ShapleyFit fit = Estimate(RandomGame(seed), RandomOrders(seed + 1000, 40, n));
    for (uint32_t k = 0; k < n; ++k) {
      const double error = std::abs(fit.values[k] - exact[k]);
      within_two += error <= 2 * fit.standard_errors[k];
      within_four += error <= 4 * fit.standard_errors[k];
      ++all;
    }
  }
  // Student's t with 39 degrees of freedom: .947 and .9997.
  EXPECT_GT(within_two, 0.90 * all);
  EXPECT_LT(within_two, 0.985 * all);
  EXPECT_GT(within_four, 0.99 * all);
}

TEST(Lime, LinearOutputs_AreMetButForThePenalty) {
  std::vector<Mask> masks;
  std::vector<double> outputs;
  for (uint32_t r = 0; r < 4000; ++r) {
    masks.push_back(LimeMask(3, r, 10));
    double y = 100;
    for (uint32_t k = 0; k < 10; ++k) y += masks.back()[k] * (k - 4.5);
    outputs.push_back(y);
  }
  const LimeFit fit = FitLime(masks, outputs);
  for (uint32_t k = 0; k < 10; ++k) {
    EXPECT_NEAR(fit.coefficients[k], k - 4.5, 0.05) << k;
    EXPECT_LT(std::abs(fit.coefficients[k]), std::abs(k - 4.5));  // The penalty shrinks.
  }
  EXPECT_GT(fit.r_squared, 0.999);
}

TEST(Lime, Weights_FollowCosineDistance) {
  EXPECT_DOUBLE_EQ(LimeWeight(10, 10), 1);
  EXPECT_DOUBLE_EQ(LimeWeight(0, 10), std::exp(-8.0));
  const double distance = 1 - std::sqrt(0.25);
  EXPECT_DOUBLE_EQ(LimeWeight(5, 20), std::exp(-distance * distance / 0.0625 / 2));
}

TEST(Lime, ConstantOutputs_GiveZeroAndAFiniteScore) {
  std::vector<Mask> masks;
  for (uint32_t r = 0; r < 100; ++r) masks.push_back(LimeMask(1, r, 6));
  const LimeFit fit = FitLime(masks, std::vector<double>(100, 2.5));
  for (double c : fit.coefficients) EXPECT_EQ(c, 0);
  EXPECT_EQ(fit.intercept, 2.5);
  EXPECT_EQ(fit.r_squared, 1);
}

TEST(Lime, StandardErrors_AreTheSpreadOverSeeds) {
  const auto once = [](uint64_t seed) {
    std::vector<Mask> masks;
    std::vector<double> outputs;
    for (uint32_t r = 0; r < 600; ++r) {
      masks.push_back(LimeMask(seed, r, 8));
      outputs.push_back(Uniform(77, 5, Bits(masks.back())));
    }
    return FitLime(masks, outputs);
  };
  double reported = 0, sum = 0, squares = 0;
  constexpr int kSeeds = 60;
  for (int seed = 0; seed < kSeeds; ++seed) {
    const LimeFit fit = once(static_cast<uint64_t>(seed) + 1);
    ASSERT_EQ(fit.standard_errors.size(), 8u);
    reported += fit.standard_errors[2] / kSeeds;
    sum += fit.coefficients[2];
    squares += fit.coefficients[2] * fit.coefficients[2];
  }
  const double spread = std::sqrt((squares - sum * sum / kSeeds) / (kSeeds - 1));
  EXPECT_GT(reported, 0.7 * spread);
  EXPECT_LT(reported, 1.4 * spread);
}

TEST(Lime, Intervals_CoverTheValuesOfAllMasks_In90To99PercentOf200Repeats) {
  constexpr uint32_t kPlayers = 10, kRows = 500, kMany = 200'000;
  const Game game = [](uint32_t set) {  // A few interactions and noise of all orders.
    double sum = 0;
    for (uint32_t k = 0; k < kPlayers; ++k) sum += (set >> k & 1) * Uniform(8, 4, k);
    return std::tanh(sum) + 0.2 * Uniform(8, 5, set);
  };
  const auto fit = [&](uint64_t seed, uint32_t rows, double alpha) {
    std::vector<Mask> masks;
    for (uint32_t r = 0; r < rows; ++r) masks.push_back(LimeMask(seed, r, kPlayers));
    LimeOptions options;
    options.alpha = alpha;
    return FitLime(masks, OutputsOf(game, masks), options);
  };
  // With masks almost without end, and as much of a penalty a mask.
  const std::vector<double> truth = fit(777, kMany, 1.0 * kMany / kRows).coefficients;
  std::vector<int> covered(kPlayers, 0);
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const LimeFit one = fit(seed, kRows, 1);
    ASSERT_EQ(one.standard_errors.size(), kPlayers);
    for (uint32_t k = 0; k < kPlayers; ++k) {
      covered[k] += std::abs(one.coefficients[k] - truth[k]) <= 1.96 * one.standard_errors[k];
    }
  }
  ExpectCoverage(covered, 200);
}

// Three players count for much, two of them together as well; the others hardly at all.
double OfThreePlayers(const Mask& mask, double others) {
  double y = 3 * mask[1] - 2 * mask[4] + 1.5 * mask[6] + 1.2 * mask[1] * mask[4];
  for (size_t k = 0; k < mask.size(); ++k)
    y += others * std::sin(3.0 * static_cast<double>(k)) * mask[k];
  return y;
}

LimeFit LimeOfThree(uint64_t seed, uint32_t rows, double others, bool errors,
                    v1::FeatureSelection selection, double alpha = 1) {
  std::vector<Mask> masks;
  std::vector<double> outputs;
  for (uint32_t r = 0; r < rows; ++r) {
    masks.push_back(LimeMask(seed, r, 10));
    outputs.push_back(OfThreePlayers(masks.back(), others));
  }
  LimeOptions options;
  options.num_features = 3;
  options.selection = selection;
  options.selection_errors = errors;
  options.alpha = alpha;
  return FitLime(masks, outputs, options);
}

TEST(Lime, WhereSuperpixelsAreDropped_ErrorsAreThereOnlyIfAskedFor_AndNothingElseChanges) {
  for (const auto selection :
       {v1::FEATURE_SELECTION_FORWARD_SELECTION, v1::FEATURE_SELECTION_HIGHEST_WEIGHTS}) {
    const LimeFit without = LimeOfThree(1, 300, .02, false, selection),
                  with = LimeOfThree(1, 300, .02, true, selection);
    EXPECT_TRUE(without.standard_errors.empty());
    ASSERT_EQ(with.standard_errors.size(), 10u);
    EXPECT_EQ(with.coefficients, without.coefficients);
    EXPECT_EQ(with.r_squared, without.r_squared);
    for (size_t k = 0; k < 10; ++k) {
      EXPECT_EQ(with.standard_errors[k] > 0, k == 1 || k == 4 || k == 6) << k;
    }
  }
}

TEST(Lime, WhereThePicksDependOnTheMasks_NoErrorIsInvented) {
  // Three places, and the third goes to whichever of many that are alike.
  int available = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::vector<Mask> masks;
    std::vector<double> outputs;
    for (uint32_t r = 0; r < 200; ++r) {
      masks.push_back(LimeMask(seed, r, 10));
      double y = masks.back()[0] * masks.back()[1];
      for (size_t k = 2; k < 10; ++k)
        y += masks.back()[k] + .8 * masks.back()[k] * masks.back()[(k + 1) % 10];
      outputs.push_back(y);
    }
    LimeOptions options;
    options.num_features = 3;
    options.selection_errors = true;
    available += FitLime(masks, outputs, options).standard_errors.empty() ? 0 : 1;
  }
  EXPECT_LE(available, 2);
}

TEST(Lime, SelectedIntervals_CoverTheValuesOfAllMasks_In90To99PercentOf200Repeats) {
  // What the same picks give with masks almost without end, and as much of a penalty a mask.
  constexpr uint32_t kRows = 500, kMany = 200'000;
  const std::vector<double> truth =
      LimeOfThree(77, kMany, .02, false, v1::FEATURE_SELECTION_AUTO, 1.0 * kMany / kRows)
          .coefficients;
  std::vector<int> covered(3, 0);
  int judged = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const LimeFit fit = LimeOfThree(seed, kRows, .02, true, v1::FEATURE_SELECTION_AUTO);
    if (fit.standard_errors.empty()) continue;
    ++judged;
    for (size_t i = 0; i < 3; ++i) {
      const size_t k = std::vector<size_t>{1, 4, 6}[i];
      covered[i] += std::abs(fit.coefficients[k] - truth[k]) <= 1.96 * fit.standard_errors[k];
    }
  }
  EXPECT_GE(judged, 190) << "the picks are clear";
  ExpectCoverage(covered, judged);
}

TEST(Masks, FirstLimeRow_ShowsAll_OthersAreFairCoins) {
  EXPECT_EQ(LimeMask(9, 0, 50), Mask(50, 1));
  int ones = 0;
  for (uint32_t r = 1; r <= 1000; ++r) {
    const Mask mask = LimeMask(9, r, 50);
    ones += std::accumulate(mask.begin(), mask.end(), 0);
  }
  EXPECT_NEAR(ones, 25000, 4 * std::sqrt(50000 / 4.0));
  EXPECT_NE(LimeMask(9, 1, 50), LimeMask(9, 2, 50));
  EXPECT_NE(LimeMask(9, 1, 50), LimeMask(10, 1, 50));
}

TEST(Masks, ShapleyRows_ArePrefixesOfTheOrderAndOfItsReverse) {
  const auto masks = ShapleyPairMasks({2, 0, 3, 1});
  EXPECT_EQ(masks, (std::vector<Mask>{{0, 0, 1, 0}, {1, 0, 1, 0}, {1, 0, 1, 1},
                                      {0, 1, 0, 0}, {0, 1, 0, 1}, {1, 1, 0, 1}}));
  EXPECT_TRUE(ShapleyPairMasks({0}).empty());
}

}  // namespace
}  // namespace dermis
