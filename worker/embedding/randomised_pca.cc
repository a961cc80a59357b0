#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "worker/embedding/normals.h"
#include "worker/embedding/pca.h"

namespace dermis {
namespace {

// Directions whose length is less than this part of the longest are rounding of floats.
constexpr double kDependent = 1e-6;

struct Halves {
  std::vector<double> squares;  // Descending.
  Matrix left, right;           // Orthonormal rows: l x n and l x p.
};

// From q (l x n, orthonormal) and z = q X' (l x p): the singular vectors of X' within q. z z' is
// small, and its eigenvectors turn q and z to them. Directions of length 0 are left out.
Halves Turned(const Matrix& q, const Matrix& z, int threads) {
  const size_t l = q.rows;
  Matrix square(l, l);
  DotRows(z.values.data(), l, z.values.data(), l, z.columns, square.values.data(), l, threads);
  for (size_t i = 0; i < l; ++i) {
    for (size_t j = 0; j < i; ++j) square.row(j)[i] = square.row(i)[j];
  }
  const EigenPairs pairs = SymmetricEigen(std::move(square));
  size_t kept = 0;
  while (kept < l && pairs.values[kept] > kDependent * kDependent * pairs.values[0]) ++kept;
  Halves halves;
  halves.squares.assign(pairs.values.begin(),
                        pairs.values.begin() + static_cast<std::ptrdiff_t>(kept));
  Matrix turn(kept, l), scaled(kept, l);
  for (size_t e = 0; e < kept; ++e) {
    for (size_t i = 0; i < l; ++i) {
      turn.row(e)[i] = -pairs.vectors.row(e)[i];
      scaled.row(e)[i] = turn.row(e)[i] / std::sqrt(pairs.values[e]);
    }
  }
  halves.left = Matrix(kept, q.columns);
  SubtractRows(turn.values.data(), l, q.values.data(), l, q.columns, halves.left.values.data(),
               kept, threads);
  halves.right = Matrix(kept, z.columns);
  SubtractRows(scaled.values.data(), l, z.values.data(), l, z.columns, halves.right.values.data(),
               kept, threads);
  return halves;
}

}  // namespace

template <typename T>
absl::StatusOr<RandomisedPcaResult> RandomisedPca(const PixelRows<T>& x,
                                                  const RandomisedPcaOptions& options) {
  const size_t n = x.rows.size(), p = x.columns, k = options.pca.components;
  const int threads = options.pca.threads;
  if (k == 0 || k > std::min(n, p)) {
    return absl::InvalidArgumentError(absl::StrCat("PCA: ", k, " components of ", n, " images of ",
                                                   p, " values: ask for 1 to ", std::min(n, p)));
  }
  const ColumnMoments moments = MomentsOf(x, threads);
  if (!std::isfinite(moments.squares)) {
    return absl::InvalidArgumentError("PCA: a value is not finite");
  }
  const size_t l = std::min(k + options.oversampling, std::min(n, p));
  Matrix q = AlongColumns(x, moments.mean, Normals(options.pca.seed, 1, l, p), threads);
  Halves halves;
  for (uint32_t power = 0;; ++power) {
    double longest = 0;
    for (size_t i = 0; i < q.rows; ++i) {
      double square = 0;
      for (size_t j = 0; j < n; ++j) square += q.row(i)[j] * q.row(i)[j];
      longest = std::max(longest, std::sqrt(square));
    }
    q.rows = Orthonormalise(q.values.data(), q.rows, n, longest, kDependent);
    q.values.resize(q.rows * n);
    if (q.rows == 0) break;  // All rows are equal.
    halves = Turned(q, AlongRows(x, moments.mean, q, threads), threads);
    if (power == options.power_iterations || halves.squares.empty()) break;
    q = AlongColumns(x, moments.mean, halves.right, threads);
  }
  halves.squares.resize(k, 0.0);
  halves.left.values.resize(k * n, 0.0);
  halves.left.rows = k;
  halves.left.columns = n;
  halves.right.values.resize(k * p, 0.0);
  RandomisedPcaResult result;
  std::vector<double> signs;
  result.pca = PcaOfVectors(std::move(halves.left), std::move(halves.squares), moments.squares, n,
                            &signs);
  result.pca.largest_residual = std::numeric_limits<double>::quiet_NaN();
  result.basis.mean = moments.mean;
  result.basis.components.resize(k * p);
  for (size_t c = 0; c < k; ++c) {
    for (size_t j = 0; j < p; ++j) {
      result.basis.components[c * p + j] =
          static_cast<float>(signs[c] * halves.right.values[c * p + j]);
    }
  }
  return result;
}

template absl::StatusOr<RandomisedPcaResult> RandomisedPca(const PixelRows<uint8_t>&,
                                                           const RandomisedPcaOptions&);
template absl::StatusOr<RandomisedPcaResult> RandomisedPca(const PixelRows<float>&,
                                                           const RandomisedPcaOptions&);

}  // namespace dermis
