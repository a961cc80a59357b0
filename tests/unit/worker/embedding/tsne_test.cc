#include "worker/embedding/tsne.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/worker/embedding/test_data.h"
#include "worker/embedding/quad_tree.h"
#include "worker/embedding/tsne_exact.h"

namespace dermis {
namespace {

Affinities Of(absl::Span<const double> points, size_t d, AffinityOptions options) {
  absl::StatusOr<Affinities> p = AffinitiesOf(DistanceRows::OfPoints(points, d), options);
  EXPECT_TRUE(p.ok()) << p.status();
  return *std::move(p);
}

double LargestDifference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0, scale = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    largest = std::max(largest, std::abs(a[k] - b[k]));
    scale = std::max(scale, std::abs(b[k]));
  }
  return largest / scale;
}

TEST(Affinities, EveryRow_HasThePerplexityAskedFor) {
  const size_t n = 200;
  const DistanceRows rows = DistanceRows::OfPoints(Clouds(n, 5, 3, 4), 5);
  for (double perplexity : {1.5, 5.0, 30.0, 150.0}) {
    for (size_t i = 0; i < n; ++i) {
      std::vector<double> row(n);
      rows.Row(i, row.data());
      EXPECT_GT(ConditionalRow(absl::MakeSpan(row), i, perplexity), 0);
      double entropy = 0, sum = 0;
      for (double p : row) {
        sum += p;
        if (p > 0) entropy -= p * std::log(p);
      }
      EXPECT_EQ(row[i], 0);
      EXPECT_NEAR(sum, 1, 1e-12);
      EXPECT_NEAR(std::exp(entropy), perplexity, 1e-7 * perplexity);
    }
  }
}

TEST(Affinities, PointsThatCoincide_ShareTheRow) {
  std::vector<double> row = {0, 0, 0, 0, 7, 9};
  ConditionalRow(absl::MakeSpan(row), 0, 2);
  for (size_t j = 1; j < 4; ++j) EXPECT_NEAR(row[j], 1.0 / 3, 1e-9);
  EXPECT_NEAR(row[4], 0, 1e-9);
}

TEST(Affinities, ElementsSumToOne_AndAreSymmetric) {
  for (size_t most_dense : {0, 1000}) {
    const size_t n = 530;  // Three tiles, the last one small.
    const Affinities p =
        Of(Clouds(n, 6, 4, 3), 6, {.perplexity = 20, .most_dense = most_dense});
    EXPECT_EQ(p.dense, most_dense > 0);
    double sum = 0;
    for (size_t i = 0; i < n; ++i) {
      EXPECT_EQ(p.At(i, i), 0);
      for (size_t j = 0; j < n; ++j) {
        sum += p.At(i, j);
        EXPECT_EQ(p.At(i, j), p.At(j, i));
      }
    }
    EXPECT_NEAR(sum, 1, 1e-6);
  }
}

TEST(Affinities, OfPointsAndOfTheirDistances_AreTheSame) {
  const size_t n = 70;
  const std::vector<double> points = Clouds(n, 4, 2, 3);
  const DistanceRows rows = DistanceRows::OfPoints(points, 4);
  std::vector<double> matrix(n * n);
  for (size_t i = 0; i < n; ++i) rows.Row(i, &matrix[i * n]);
  const auto from_matrix =
      AffinitiesOf(DistanceRows::OfMatrix(matrix, n, n), {.perplexity = 10});
  EXPECT_EQ(Of(points, 4, {.perplexity = 10}).tiles, from_matrix->tiles);
}

TEST(Affinities, Refuse_WhatHasNoPerplexity) {
  const std::vector<double> points = Clouds(10, 2, 2, 3);
  const DistanceRows rows = DistanceRows::OfPoints(points, 2);
  EXPECT_FALSE(AffinitiesOf(rows, {.perplexity = 9}).ok());
  EXPECT_FALSE(AffinitiesOf(rows, {.perplexity = 0.5}).ok());
  std::vector<double> bad(9, 1.0);
  bad[4] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(AffinitiesOf(DistanceRows::OfMatrix(bad, 3, 3), {.perplexity = 1.5}).ok());
}

class TsneGradients : public testing::TestWithParam<bool> {};

// Of the cost that KlDivergence computes in double.
TEST_P(TsneGradients, IsTheDerivativeOfTheCost) {
  const size_t n = 290;
  const Affinities p =
      Of(Clouds(n, 5, 3, 4), 5, {.perplexity = 15, .most_dense = GetParam() ? 1000u : 0u});
  std::vector<double> y(2 * n);
  for (size_t k = 0; k < y.size(); ++k) y[k] = 5 * Drawn(9, k, 0);
  const std::vector<double> gradient = TsneGradient(p, y, 0, 1);
  std::vector<double> differences(2 * n);
  for (size_t k = 0; k < y.size(); ++k) {
    constexpr double kStep = 1e-5;
    std::vector<double> moved = y;
    moved[k] += kStep;
    const double above = KlDivergence(p, moved, 1);
    moved[k] -= 2 * kStep;
    differences[k] = (above - KlDivergence(p, moved, 1)) / (2 * kStep);
  }
  EXPECT_LT(LargestDifference(gradient, differences), 1e-5);
}
INSTANTIATE_TEST_SUITE_P(DenseAndSparse, TsneGradients, testing::Bool());

TEST(Kl, IsThatOfTheDefinition) {
  const size_t n = 270;
  const Affinities p = Of(Clouds(n, 5, 3, 4), 5, {.perplexity = 15});
  std::vector<double> y(2 * n);
  for (size_t k = 0; k < y.size(); ++k) y[k] = 3 * Drawn(9, k, 0);
  const auto weight = [&](size_t i, size_t j) {
    return 1 / (1 + std::pow(y[2 * i] - y[2 * j], 2) + std::pow(y[2 * i + 1] - y[2 * j + 1], 2));
  };
  double z = 0, kl = 0;
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) z += i == j ? 0 : weight(i, j);
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      if (p.At(i, j) > 0) kl += p.At(i, j) * std::log(p.At(i, j) / (weight(i, j) / z));
    }
  }
  EXPECT_NEAR(KlDivergence(p, y, 1), kl, 1e-10);
  EXPECT_NEAR(ExactNormaliser(y, 2), z, 1e-9 * z);
  EXPECT_NEAR(ExactForces(p, y, 1).normaliser, z, 1e-6 * z);
}

TEST(QuadTree, ComesCloseToAllPairs_AsThetaFalls) {
  const size_t n = 2000;
  std::vector<double> y(2 * n);
  for (size_t k = 0; k < y.size(); ++k) y[k] = 30 * std::pow(Drawn(4, k, 0), 3);
  const auto forces = [&](double theta) {
    const QuadTree tree(y);
    std::vector<double> out;
    for (size_t i = 0; i < n; ++i) {
      const QuadTree::Repulsion on = tree.On(i, theta);
      out.insert(out.end(), {on.x, on.y, on.weights});
    }
    return out;
  };
  std::vector<double> exact;
  for (size_t i = 0; i < n; ++i) {
    double x = 0, v = 0, z = 0;
    for (size_t j = 0; j < n; ++j) {
      const double dx = y[2 * i] - y[2 * j], dy = y[2 * i + 1] - y[2 * j + 1];
      const double w = 1 / (1 + dx * dx + dy * dy);
      x += w * w * dx;
      v += w * w * dy;
      z += i == j ? 0 : w;
    }
    exact.insert(exact.end(), {x, v, z});
  }
  EXPECT_LT(LargestDifference(forces(0), exact), 1e-12);
  const double fine = LargestDifference(forces(0.2), exact);
  const double coarse = LargestDifference(forces(0.5), exact);
  EXPECT_LT(fine, 1e-3);
  EXPECT_LT(coarse, 2e-2);
  EXPECT_LT(fine, coarse);
  EXPECT_GT(fine, 0);  // Cells stood for points.
}

TEST(QuadTree, TakesPointsThatCoincide) {
  const std::vector<double> y(2 * 100, 3.0);
  const QuadTree tree(y);
  EXPECT_EQ(tree.On(5, 0.5).weights, 99);
  EXPECT_EQ(tree.On(5, 0.5).x, 0);
}

class TsneRuns : public testing::TestWithParam<bool> {
 protected:
  static constexpr size_t kPoints = 600, kClouds = 4, kDimensions = 6;
  const std::vector<double> points_ = Clouds(kPoints, kDimensions, kClouds, 6);
  const Affinities p_ =
      Of(points_, kDimensions, {.perplexity = 20, .most_dense = GetParam() ? 1000u : 0u});
};

TEST_P(TsneRuns, CloudsStayApart_AndTheCostFalls) {
  const absl::StatusOr<Tsne> tsne =
      RunTsne(p_, RandomStart(kPoints, 1), {.iterations = 250, .theta = 0.5});
  ASSERT_TRUE(tsne.ok()) << tsne.status();
  EXPECT_EQ(tsne->exact, GetParam());
  EXPECT_EQ(tsne->iterations, 500u);
  EXPECT_LT(tsne->kl, 0.7 * KlDivergence(p_, RandomStart(kPoints, 1), 1));
  EXPECT_EQ(tsne->kl, KlDivergence(p_, tsne->embedding, 1));
  // The nearest of each point is of its own cloud.
  const DistanceRows rows = DistanceRows::OfPoints(tsne->embedding, 2);
  for (size_t i = 0; i < kPoints; ++i) {
    std::vector<double> row(kPoints);
    rows.Row(i, row.data());
    row[i] = std::numeric_limits<double>::infinity();
    const auto nearest = static_cast<size_t>(std::min_element(row.begin(), row.end()) - row.begin());
    EXPECT_EQ(nearest % kClouds, i % kClouds);
  }
}

TEST_P(TsneRuns, BitsAreTheSame_ForAnyNumberOfThreads) {
  const std::vector<double> start = PcaStart(points_, kPoints);
  const TsneOptions once = {.exaggerated_iterations = 20, .iterations = 30};
  const absl::StatusOr<Tsne> one = RunTsne(p_, start, once);
  ASSERT_TRUE(one.ok());
  for (int threads : {2, 3}) {
    const Affinities again =
        Of(points_, kDimensions,
           {.perplexity = 20, .most_dense = GetParam() ? 1000u : 0u, .threads = threads});
    TsneOptions more = once;
    more.threads = threads;
    const absl::StatusOr<Tsne> other = RunTsne(again, start, more);
    ASSERT_TRUE(other.ok());
    EXPECT_EQ(one->embedding, other->embedding);
    EXPECT_EQ(one->kl, other->kl);
  }
}
INSTANTIATE_TEST_SUITE_P(DenseAndSparse, TsneRuns, testing::Bool());

TEST(Tsne, StartOfScores_HasTheStatedDeviation) {
  const std::vector<double> start = PcaStart({3.0, 1.0, 9.0, -3.0, 2.0, 9.0}, 2);
  EXPECT_EQ(start, (std::vector<double>{1e-4, -1e-4 / 6, -1e-4, 1e-4 / 6}));
  EXPECT_EQ(PcaStart({3.0, -3.0}, 2), (std::vector<double>{1e-4, 0, -1e-4, 0}));
  EXPECT_EQ(RandomStart(5, 1), RandomStart(5, 1));
  EXPECT_NE(RandomStart(5, 1), RandomStart(5, 2));
}

TEST(Tsne, Refuses_WhatItCannotDo) {
  const Affinities p = Of(Clouds(10, 2, 2, 3), 2, {.perplexity = 3});
  EXPECT_FALSE(RunTsne(p, RandomStart(9, 1), {}).ok());
  EXPECT_FALSE(RunTsne(p, RandomStart(10, 1), {.theta = 0.9}).ok());
  std::vector<double> start = RandomStart(10, 1);
  start[3] = std::numeric_limits<double>::infinity();
  EXPECT_FALSE(RunTsne(p, start, {}).ok());
}

}  // namespace
}  // namespace dermis
