#include "worker/embedding/dense.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/worker/embedding/test_data.h"

namespace dermis {
namespace {

TEST(SymmetricEigen, IsThatOfTheSecondDifference_InClosedForm) {
  constexpr size_t kSize = 37;
  Matrix a(kSize, kSize);
  for (size_t i = 0; i < kSize; ++i) {
    a.row(i)[i] = 2;
    if (i > 0) a.row(i)[i - 1] = a.row(i - 1)[i] = -1;
  }
  const EigenPairs pairs = SymmetricEigen(a);
  for (size_t e = 0; e < kSize; ++e) {
    const double angle = M_PI * static_cast<double>(kSize - e) / (2.0 * (kSize + 1));
    EXPECT_NEAR(pairs.values[e], 4 * std::sin(angle) * std::sin(angle), 1e-13) << e;
  }
}

TEST(SymmetricEigen, VectorsAreOrthonormalAndSolve_OfAFullMatrixWithEqualValues) {
  constexpr size_t kSize = 61;
  Matrix a(kSize, kSize);
  // Twenty values of 3 and others: a projection, so eigenvalues coincide.
  Matrix basis(20, kSize);
  for (size_t i = 0; i < 20; ++i) {
    for (size_t j = 0; j < kSize; ++j) basis.row(i)[j] = Drawn(3, i, j);
  }
  ASSERT_EQ(Orthonormalise(basis.values.data(), 20, kSize, 1, 1e-10), 20u);
  for (size_t i = 0; i < kSize; ++i) {
    for (size_t j = 0; j < kSize; ++j) {
      for (size_t k = 0; k < 20; ++k) a.row(i)[j] += 3 * basis.row(k)[i] * basis.row(k)[j];
    }
  }
  const EigenPairs pairs = SymmetricEigen(a);
  for (size_t e = 0; e < kSize; ++e) {
    EXPECT_NEAR(pairs.values[e], e < 20 ? 3 : 0, 1e-12);
    for (size_t f = 0; f < kSize; ++f) {
      double dot = 0;
      for (size_t j = 0; j < kSize; ++j) dot += pairs.vectors.row(e)[j] * pairs.vectors.row(f)[j];
      EXPECT_NEAR(dot, e == f ? 1 : 0, 1e-12);
    }
    for (size_t i = 0; i < kSize; ++i) {
      double image = 0;
      for (size_t j = 0; j < kSize; ++j) image += a.row(i)[j] * pairs.vectors.row(e)[j];
      EXPECT_NEAR(image, pairs.values[e] * pairs.vectors.row(e)[i], 1e-12);
    }
  }
}

TEST(DotRows, IsTheInnerProduct_ForAnySizesAndThreads) {
  for (size_t length : {1, 7, 8, 9, 203}) {
    const size_t rows = 37, others = 6;
    Matrix a(rows, length), b(others, length), once(rows, others), twice(rows, others);
    for (size_t k = 0; k < a.values.size(); ++k) a.values[k] = Drawn(1, k, 0);
    for (size_t k = 0; k < b.values.size(); ++k) b.values[k] = Drawn(2, k, 0);
    DotRows(a.values.data(), rows, b.values.data(), others, length, once.values.data(), others, 1);
    DotRows(a.values.data(), rows, b.values.data(), others, length, twice.values.data(), others, 3);
    EXPECT_EQ(once.values, twice.values);
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < others; ++j) {
        double dot = 0;
        for (size_t k = 0; k < length; ++k) dot += a.row(i)[k] * b.row(j)[k];
        EXPECT_NEAR(once.row(i)[j], dot, 1e-12);
      }
    }
  }
}

TEST(Orthonormalise, LeavesOutRows_ThatDependOnEarlierOnes) {
  std::vector<double> rows = {3, 0, 0, /**/ -5, 0, 0, /**/ 1, 2, 0, /**/ 4, 7, 0};
  EXPECT_EQ(Orthonormalise(rows.data(), 4, 3, 1, 1e-10), 2u);
  EXPECT_EQ(std::vector<double>(rows.begin(), rows.begin() + 6),
            (std::vector<double>{1, 0, 0, 0, 1, 0}));
}

}  // namespace
}  // namespace dermis
