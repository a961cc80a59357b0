#include "worker/embedding/pca.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/worker/embedding/test_data.h"

namespace dermis {
namespace {

// Bytes with a falling spectrum: a few smooth patterns and some noise.
struct Pictures {
  Pictures(size_t n, size_t p, size_t patterns, double noise) : columns(p), bytes(n * p) {
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < p; ++j) {
        double value = 128 + noise * Drawn(1, i, j);
        for (size_t k = 0; k < patterns; ++k) {
          value += 40 * std::pow(0.8, static_cast<double>(k)) * Drawn(2, i, k) *
                   std::cos(0.01 * static_cast<double>((k + 1) * j));
        }
        bytes[i * p + j] = static_cast<uint8_t>(std::clamp(std::round(value), 0.0, 255.0));
      }
      rows.push_back(nullptr);
    }
    for (size_t i = 0; i < n; ++i) rows[i] = bytes.data() + i * p;
  }
  PixelRows<uint8_t> Rows() const { return {rows, columns}; }
  std::vector<double> Gram() const {
    const size_t n = rows.size();
    std::vector<double> gram(n * n);
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) {
        int64_t sum = 0;
        for (size_t k = 0; k < columns; ++k) sum += int64_t{rows[i][k]} * rows[j][k];
        gram[i * n + j] = static_cast<double>(sum);
      }
    }
    CentreGram(absl::MakeSpan(gram), n);
    return gram;
  }
  size_t columns;
  std::vector<uint8_t> bytes;
  std::vector<const uint8_t*> rows;
};

TEST(Pca, OfRankTwo_IsKnown) {
  // Rows: a_i (1, 2, 2) / 3 + b_i (2, 1, -2) / 3 with centred, uncorrelated a, b.
  const double a[] = {6, -6, 6, -6}, b[] = {3, 3, -3, -3};
  std::vector<float> values;
  for (int i = 0; i < 4; ++i) {
    values.push_back(static_cast<float>((a[i] + 2 * b[i]) / 3 + 10));
    values.push_back(static_cast<float>((2 * a[i] + b[i]) / 3 - 5));
    values.push_back(static_cast<float>((2 * a[i] - 2 * b[i]) / 3));
  }
  std::vector<const float*> rows;
  for (int i = 0; i < 4; ++i) rows.push_back(&values[3 * i]);
  std::vector<double> gram(16);
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) gram[4 * i + j] = a[i] * a[j] + b[i] * b[j];
  }
  const PixelRows<float> x = {rows, 3};
  const absl::StatusOr<Pca> pca = PcaOfGram(gram, 4, {.components = 3});
  ASSERT_TRUE(pca.ok()) << pca.status();
  const std::vector<double> squares = {144, 36, 0};
  for (int c = 0; c < 3; ++c) {
    EXPECT_NEAR(pca->eigenvalues[c], squares[c], 1e-10);
    EXPECT_NEAR(pca->explained_variance[c], squares[c] / 3, 1e-10);
    EXPECT_NEAR(pca->explained_variance_ratio[c], squares[c] / 180, 1e-12);
  }
  for (int i = 0; i < 4; ++i) {
    // Of equal size: which one is the largest is rounding's choice, so up to a sign.
    EXPECT_NEAR(pca->scores[3 * i] * a[i] * pca->scores[0] * a[0], 36 * 36, 1e-8);
    EXPECT_NEAR(pca->scores[3 * i + 1] * b[i] * pca->scores[1] * b[0], 9 * 9, 1e-8);
    EXPECT_EQ(pca->scores[3 * i + 2], 0);
  }
  const absl::StatusOr<PcaBasis> basis = BasisOf(x, *pca, 1);
  ASSERT_TRUE(basis.ok());
  EXPECT_NEAR(basis->mean[0], 10, 1e-6);
  const double first[] = {1, 2, 2}, second[] = {2, 1, -2};
  for (int j = 0; j < 3; ++j) {
    EXPECT_NEAR(std::abs(basis->components[j]), std::abs(first[j]) / 3, 1e-6);
    EXPECT_NEAR(std::abs(basis->components[3 + j]), std::abs(second[j]) / 3, 1e-6);
    EXPECT_EQ(basis->components[6 + j], 0);
  }
  const absl::StatusOr<std::vector<double>> again = Project(x, *basis, 1);
  ASSERT_TRUE(again.ok());
  for (size_t k = 0; k < again->size(); ++k) EXPECT_NEAR((*again)[k], pca->scores[k], 1e-5);
}

TEST(Pca, LargestEntryOfEachScore_IsPositive) {
  const Pictures pictures(60, 40, 6, 5);
  const absl::StatusOr<Pca> pca = PcaOfGram(pictures.Gram(), 60, {.components = 8});
  ASSERT_TRUE(pca.ok());
  for (size_t c = 0; c < 8; ++c) {
    double largest = 0;
    for (size_t i = 0; i < 60; ++i) {
      if (std::abs(pca->scores[i * 8 + c]) > std::abs(largest)) largest = pca->scores[i * 8 + c];
    }
    EXPECT_GT(largest, 0);
  }
}

// Blocks of Lanczos are checked against the whole matrix's eigenvectors.
TEST(Pca, BlocksFindWhatTheWholeMatrixHas) {
  const size_t n = 400, k = 12;
  const Pictures pictures(n, 700, 30, 8);
  const std::vector<double> gram = pictures.Gram();
  const absl::StatusOr<Pca> pca = PcaOfGram(gram, n, {.components = k});
  ASSERT_TRUE(pca.ok());
  EXPECT_LE(pca->largest_residual, 1e-8);
  EXPECT_GT(pca->largest_residual, 0);  // It was Lanczos.
  Matrix whole(n, n);
  whole.values = gram;
  const EigenPairs pairs = SymmetricEigen(whole);
  for (size_t c = 0; c < k; ++c) {
    EXPECT_NEAR(pca->eigenvalues[c], pairs.values[c], 1e-11 * pairs.values[0]);
    double cosine = 0;
    for (size_t i = 0; i < n; ++i) {
      cosine += pca->scores[i * k + c] * pairs.vectors.row(c)[i] / std::sqrt(pairs.values[c]);
    }
    EXPECT_NEAR(std::abs(cosine), 1, 1e-9) << c;
  }
}

TEST(Pca, OfLowRank_HasZerosBeyondIt_HoweverManyAreAsked) {
  const size_t n = 300, k = 20;
  std::vector<double> gram(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      for (size_t r = 0; r < 3; ++r) gram[i * n + j] += Drawn(1, i, r) * Drawn(1, j, r);
    }
  }
  CentreGram(absl::MakeSpan(gram), n);
  const absl::StatusOr<Pca> pca = PcaOfGram(gram, n, {.components = k});
  ASSERT_TRUE(pca.ok());
  double sum = 0;
  for (size_t c = 0; c < k; ++c) {
    sum += pca->explained_variance_ratio[c];
    if (c < 3) {
      EXPECT_GT(pca->eigenvalues[c], 1);
    } else {
      EXPECT_EQ(pca->eigenvalues[c], 0);
      for (size_t i = 0; i < n; ++i) EXPECT_EQ(pca->scores[i * k + c], 0);
    }
  }
  EXPECT_NEAR(sum, 1, 1e-12);
}

TEST(Pca, OfEqualRows_IsZero) {
  const std::vector<double> gram(25, 0.0);
  const absl::StatusOr<Pca> pca = PcaOfGram(gram, 5, {.components = 2});
  ASSERT_TRUE(pca.ok());
  EXPECT_EQ(pca->scores, std::vector<double>(10, 0.0));
  const std::vector<uint8_t> row(7, 9);
  const std::vector<const uint8_t*> rows(5, row.data());
  const auto randomised =
      RandomisedPca(PixelRows<uint8_t>{rows, 7}, {.pca = {.components = 2}});
  ASSERT_TRUE(randomised.ok());
  EXPECT_EQ(randomised->pca.scores, std::vector<double>(10, 0.0));
}

TEST(Pca, RandomisedAgreesWithGram) {
  const size_t n = 300, k = 10;
  const Pictures pictures(n, 1000, 20, 3);
  const absl::StatusOr<Pca> exact = PcaOfGram(pictures.Gram(), n, {.components = k});
  ASSERT_TRUE(exact.ok());
  const auto drawn = RandomisedPca(pictures.Rows(), {.pca = {.components = k}});
  ASSERT_TRUE(drawn.ok()) << drawn.status();
  const absl::StatusOr<PcaBasis> basis = BasisOf(pictures.Rows(), *exact, 1);
  ASSERT_TRUE(basis.ok());
  for (size_t c = 0; c < k; ++c) {
    EXPECT_NEAR(drawn->pca.eigenvalues[c] / exact->eigenvalues[c], 1, 1e-6);
    EXPECT_NEAR(drawn->pca.explained_variance_ratio[c], exact->explained_variance_ratio[c], 1e-6);
    const double scale = std::sqrt(exact->eigenvalues[c]);
    for (size_t i = 0; i < n; ++i) {
      EXPECT_NEAR(drawn->pca.scores[i * k + c], exact->scores[i * k + c], 1e-4 * scale);
    }
    for (size_t j = 0; j < 1000; ++j) {
      EXPECT_NEAR(drawn->basis.components[c * 1000 + j], basis->components[c * 1000 + j], 1e-4);
    }
  }
  const absl::StatusOr<std::vector<double>> again = Project(pictures.Rows(), *basis, 1);
  ASSERT_TRUE(again.ok());
  for (size_t i = 0; i < again->size(); ++i) {
    EXPECT_NEAR((*again)[i], exact->scores[i], 1e-5 * std::sqrt(exact->eigenvalues[0]));
  }
}

TEST(Pca, BitsAreTheSame_ForAnyNumberOfThreads) {
  const size_t n = 330, k = 10;
  const Pictures pictures(n, 900, 20, 8);
  const std::vector<double> gram = pictures.Gram();
  const auto once = PcaOfGram(gram, n, {.components = k});
  const auto drawn = RandomisedPca(pictures.Rows(), {.pca = {.components = k}});
  const auto basis = BasisOf(pictures.Rows(), *once, 1);
  for (int threads : {2, 3}) {
    const auto more = PcaOfGram(gram, n, {.components = k, .threads = threads});
    EXPECT_EQ(once->scores, more->scores);
    const auto again =
        RandomisedPca(pictures.Rows(), {.pca = {.components = k, .threads = threads}});
    EXPECT_EQ(drawn->pca.scores, again->pca.scores);
    EXPECT_EQ(drawn->basis.components, again->basis.components);
    EXPECT_EQ(basis->components, BasisOf(pictures.Rows(), *more, threads)->components);
  }
}

TEST(Pca, Refuses_WhatItCannotDo) {
  EXPECT_FALSE(PcaOfGram({1.0, 2.0, 3.0}, 2, {.components = 1}).ok());
  EXPECT_FALSE(PcaOfGram({1.0, 0.0, 0.0, 1.0}, 2, {.components = 3}).ok());
  EXPECT_FALSE(PcaOfGram({1.0, 0.0, 0.0, 1.0}, 2, {.components = 0}).ok());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(PcaOfGram({1.0, nan, nan, 1.0}, 2, {.components = 1}).ok());
  const Pictures pictures(5, 3, 1, 1);
  EXPECT_FALSE(RandomisedPca(pictures.Rows(), {.pca = {.components = 4}}).ok());
}

}  // namespace
}  // namespace dermis
