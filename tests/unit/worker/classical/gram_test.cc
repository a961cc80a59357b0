#include "worker/classical/gram.h"

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/unit/worker/classical/pictures.h"
#include "worker/classical/dense.h"

namespace dermis {
namespace {

std::vector<ByteKernel> Kernels() {
  std::vector<ByteKernel> kernels = {ByteKernel::kFastest};
  for (ByteKernel kernel : {ByteKernel::kPortable, ByteKernel::kVnni, ByteKernel::kAmx}) {
    if (HasKernel(kernel)) kernels.push_back(kernel);
  }
  return kernels;
}

std::vector<int64_t> Naive(const std::vector<const uint8_t*>& rows, size_t p) {
  std::vector<int64_t> values;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j <= i; ++j) {
      int64_t sum = 0;
      for (size_t k = 0; k < p; ++k) sum += int64_t{rows[i][k]} * rows[j][k];
      values.push_back(sum);
    }
  }
  return values;
}

TEST(Gram, IsExact_ForAnySizesAndKernels) {
  for (size_t n : {1, 4, 7, 25, 110}) {
    for (size_t p : {1, 3, 63, 64, 65, 300, 4096, 4100}) {
      const Pictures pictures(n, p);
      const std::vector<int64_t> expected = Naive(pictures.rows, p);
      for (ByteKernel kernel : Kernels()) {
        EXPECT_EQ(GramRows(pictures.rows, p, 0, n, kernel), expected) << n << " x " << p;
      }
    }
  }
}

TEST(Gram, DoesNotOverflow_WhenAllPixelsAreExtreme) {
  const size_t p = 150528;
  std::vector<uint8_t> bright(p, 255), dark(p, 0), mixed(p, 255);
  for (size_t k = 0; k < p; k += 2) mixed[k] = 128;
  const std::vector<const uint8_t*> rows = {bright.data(), dark.data(), mixed.data(),
                                            bright.data()};
  for (ByteKernel kernel : Kernels()) {
    EXPECT_EQ(GramRows(rows, p, 0, rows.size(), kernel), Naive(rows, p));
  }
}

TEST(Gram, IsTheSame_HoweverItIsCutIntoBlocks) {
  const size_t n = 53, p = 500;
  const Pictures pictures(n, p);
  const std::vector<int64_t> whole = GramRows(pictures.rows, p, 0, n);
  for (size_t block : {1, 2, 5, 6, 13, 52}) {
    std::vector<int64_t> values;
    for (size_t begin = 0; begin < n; begin += block) {
      const auto part = GramRows(pictures.rows, p, begin, std::min(n, begin + block));
      values.insert(values.end(), part.begin(), part.end());
    }
    EXPECT_EQ(values, whole) << block;
  }
}

TEST(Gram, IsTheSame_ForAnyKernel_AcrossBlocksOfRowsAndOfBytes) {
  for (const auto& [n, p] : {std::pair<size_t, size_t>{2 * kBlockRows + 13, 1100},
                             {kBlockRows + 33, 200},
                             {37, kBlockDepth + 1030}}) {
    Pictures pictures(n, p);
    std::vector<uint8_t> bright(p, 255);
    pictures.rows[n / 2] = pictures.rows[n - 1] = bright.data();
    const std::vector<int64_t> expected = GramRows(pictures.rows, p, 0, n, ByteKernel::kPortable);
    EXPECT_EQ(expected.back(), static_cast<int64_t>(p) * 255 * 255);
    for (ByteKernel kernel : Kernels()) {
      EXPECT_EQ(GramRows(pictures.rows, p, 0, n, kernel), expected) << n << " x " << p;
      // Blocks whose diagonal lies anywhere.
      std::vector<int64_t> values;
      for (size_t begin = 0, end; begin < n; begin = end) {
        end = std::min(n, begin + 301);
        const auto part = GramRows(pictures.rows, p, begin, end, kernel);
        values.insert(values.end(), part.begin(), part.end());
      }
      EXPECT_EQ(values, expected) << n << " x " << p;
    }
  }
}

TEST(Gram, IsRefused_WhenItIsNoTriangle) {
  EXPECT_FALSE(Gram::FromValues(3, std::vector<int64_t>(5)).ok());
  EXPECT_TRUE(Gram::FromValues(3, std::vector<int64_t>(6)).ok());
}

TEST(Kernels, AreProductsOfCentredPixels_ForAnySubset) {
  const size_t n = 12, p = 90;
  const Pictures pictures(n, p);
  const Gram gram = *Gram::FromValues(n, GramRows(pictures.rows, p, 0, n));
  const std::vector<uint32_t> training = {7, 2, 9, 4, 11}, others = {0, 5, 2};
  std::vector<double> mean(p, 0.0);
  for (uint32_t i : training) {
    for (size_t k = 0; k < p; ++k) mean[k] += pictures.rows[i][k] / 255.0 / 5;
  }
  const auto product = [&](uint32_t i, uint32_t j) {
    double sum = 0;
    for (size_t k = 0; k < p; ++k) {
      sum += (pictures.rows[i][k] / 255.0 - mean[k]) * (pictures.rows[j][k] / 255.0 - mean[k]);
    }
    return sum;
  };
  const Kernel centred = CentredKernel(gram, training);
  const Kernel cross = CrossKernel(gram, training, others);
  for (size_t i = 0; i < 5; ++i) {
    double sum = 0;
    for (size_t j = 0; j < 5; ++j) {
      EXPECT_NEAR(centred.row(i)[j], product(training[i], training[j]), 1e-12);
      EXPECT_EQ(centred.row(i)[j], centred.row(j)[i]);
      sum += centred.row(i)[j];
    }
    EXPECT_NEAR(sum, 0, 1e-12);
    EXPECT_EQ(cross.row(2)[i], centred.row(1)[i]);  // Image 2 is in both.
    for (size_t k = 0; k < 3; ++k) {
      EXPECT_NEAR(cross.row(k)[i], product(others[k], training[i]), 1e-12);
    }
  }
}

TEST(Cholesky, SolvesSystems_OfAnySize) {
  for (size_t n : {1, 5, 96, 97, 250}) {
    std::vector<double> a(n * n), x(n);
    for (size_t i = 0; i < n; ++i) {
      x[i] = std::sin(static_cast<double>(i) + 1);
      for (size_t j = 0; j < n; ++j) {
        a[i * n + j] = std::exp(-.1 * std::abs(static_cast<double>(i) - static_cast<double>(j)));
      }
      a[i * n + i] += .5;
    }
    std::vector<double> b(n), other(n, .25), first(n), second(n);
    Multiply(a.data(), n, n, x.data(), b.data());
    const double* const in[2] = {other.data(), x.data()};
    double* const out[2] = {first.data(), second.data()};
    MultiplyTwo(a.data(), n, n, in, out);
    EXPECT_EQ(second, b) << "the same bits beside another vector";
    ASSERT_TRUE(Cholesky(a.data(), n, n, 0));
    SolveCholesky(a.data(), n, n, b.data());
    for (size_t i = 0; i < n; ++i) EXPECT_NEAR(b[i], x[i], 1e-11);
    SolveCholeskyTwo(a.data(), n, n, out);
    EXPECT_EQ(second, b) << "the same bits beside another vector";
    for (size_t i = 0; i < n; ++i) EXPECT_NEAR(first[i], .25, 1e-11);
  }
}

TEST(Cholesky, Fails_WhenTheMatrixIsNotPositive) {
  std::vector<double> a = {1, 0, 2, 1};
  EXPECT_FALSE(Cholesky(a.data(), 2, 2, 0));
}

}  // namespace
}  // namespace dermis
