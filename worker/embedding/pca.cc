#include "worker/embedding/pca.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/progress.h"
#include "worker/embedding/normals.h"

namespace dermis {
namespace {

constexpr size_t kBlock = 32;         // Vectors that one product with the Gram matrix takes.
constexpr size_t kSmall = 192;        // A matrix that is solved as a whole.
constexpr double kResidual = 1e-8;    // Of the eigenvalue.
constexpr double kRounding = 1e-13;   // Of the largest eigenvalue: what a residual may be at least.
constexpr double kDependent = 1e-10;  // A new direction shorter than this is rounding.

struct Ritz {
  std::vector<double> values;
  Matrix vectors;  // k x n.
  double largest_residual = 0;
};

Ritz Whole(absl::Span<const double> gram, size_t n, size_t k) {
  Matrix a(n, n);
  std::copy(gram.begin(), gram.end(), a.values.begin());
  EigenPairs all = SymmetricEigen(std::move(a));
  Ritz ritz{std::move(all.values), std::move(all.vectors), 0};
  ritz.values.resize(k);
  ritz.vectors.values.resize(k * n);
  ritz.vectors.rows = k;
  return ritz;
}

// Rows of `coefficients` times the rows of `basis`.
Matrix Combined(const double* coefficients, size_t rows, const Matrix& basis, size_t used,
                int threads) {
  Matrix out(rows, basis.columns);
  std::vector<double> negative(coefficients, coefficients + rows * used);
  for (double& value : negative) value = -value;
  SubtractRows(negative.data(), used, basis.values.data(), used, basis.columns, out.values.data(),
               rows, threads);
  return out;
}

// |G u - value u| / max(value, rounding).
double LargestResidual(const Ritz& ritz, const Matrix& images) {
  double largest = 0;
  const double floor = kRounding / kResidual * std::max(ritz.values[0], 0.0);
  for (size_t i = 0; i < ritz.vectors.rows; ++i) {
    double square = 0;
    for (size_t j = 0; j < ritz.vectors.columns; ++j) {
      const double off = images.row(i)[j] - ritz.values[i] * ritz.vectors.row(i)[j];
      square += off * off;
    }
    const double scale = std::max(ritz.values[i], floor);
    if (scale > 0) largest = std::max(largest, std::sqrt(square) / scale);
  }
  return largest;
}

Ritz Lanczos(absl::Span<const double> gram, size_t n, const PcaOptions& options) {
  const size_t k = options.components;
  const size_t most = std::min(n, std::max<size_t>(16 * k, 640));
  Matrix basis(most + kBlock, n), images(most + kBlock, n);
  double scale = 0;
  for (size_t i = 0; i < n; ++i) scale = std::max(scale, gram[i * n + i]);
  Matrix start = Normals(options.seed, 0, kBlock, n);
  std::copy(start.values.begin(), start.values.end(), basis.values.begin());
  size_t used = 0, fresh = Orthonormalise(basis.row(0), kBlock, n, 1.0, kDependent);
  Matrix products;  // basis' G basis, as far as known.
  for (uint32_t step = 0;; ++step) {
    NoteProgress();
    Matrix by_row(n, fresh);
    DotRows(gram.data(), n, basis.row(used), fresh, n, by_row.values.data(), fresh,
            options.threads);
    for (size_t i = 0; i < fresh; ++i) {
      for (size_t j = 0; j < n; ++j) images.row(used + i)[j] = by_row.row(j)[i];
    }
    used += fresh;
    // The next block: what the images have beyond the basis.
    Matrix next(fresh, n);
    std::copy_n(images.row(used - fresh), fresh * n, next.values.begin());
    size_t found = 0;
    if (used < most) {
      for (int pass = 0; pass < 2; ++pass) {
        Matrix along(fresh, used);
        DotRows(next.values.data(), fresh, basis.values.data(), used, n, along.values.data(), used,
                options.threads);
        SubtractRows(along.values.data(), used, basis.values.data(), used, n, next.values.data(),
                     fresh, options.threads);
      }
      found = Orthonormalise(next.values.data(), fresh, n, scale, kDependent);
      // Rounding of short rows is not orthogonal to the basis any more.
      Matrix along(found, used);
      DotRows(next.values.data(), found, basis.values.data(), used, n, along.values.data(), used,
              options.threads);
      SubtractRows(along.values.data(), used, basis.values.data(), used, n, next.values.data(),
                   found, options.threads);
      found = Orthonormalise(next.values.data(), found, n, 1.0, kDependent);
    }
    const bool last = found == 0;
    // Rayleigh-Ritz costs more than a product: only where it may be the end.
    if (last || (used >= 3 * k && step % 2 == 0)) {
      Matrix projected(used, used);
      DotRows(basis.values.data(), used, images.values.data(), used, n, projected.values.data(),
              used, options.threads);
      for (size_t i = 0; i < used; ++i) {
        for (size_t j = 0; j < i; ++j) {
          const double mean = (projected.row(i)[j] + projected.row(j)[i]) / 2;
          projected.row(i)[j] = projected.row(j)[i] = mean;
        }
      }
      const EigenPairs pairs = SymmetricEigen(std::move(projected));
      const size_t kept = std::min(k, used);
      Ritz ritz;
      ritz.values.assign(pairs.values.begin(),
                         pairs.values.begin() + static_cast<std::ptrdiff_t>(kept));
      ritz.vectors = Combined(pairs.vectors.values.data(), kept, basis, used, options.threads);
      const Matrix of_vectors =
          Combined(pairs.vectors.values.data(), kept, images, used, options.threads);
      ritz.largest_residual = LargestResidual(ritz, of_vectors);
      if (last || ritz.largest_residual <= kResidual) {
        ritz.values.resize(k, 0.0);  // The data's rank is below k.
        ritz.vectors.values.resize(k * n, 0.0);
        ritz.vectors.rows = k;
        return ritz;
      }
    }
    if (used + found > most) found = most - used;
    std::copy_n(next.values.begin(), static_cast<std::ptrdiff_t>(found * n), basis.row(used));
    fresh = found;
  }
}

}  // namespace

void CentreGram(absl::Span<double> gram, size_t n) {
  std::vector<double> mean(n, 0.0);
  double all = 0;
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) mean[i] += gram[i * n + j];
    mean[i] /= static_cast<double>(n);
    all += mean[i];
  }
  all /= static_cast<double>(n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) gram[i * n + j] -= (mean[i] + mean[j]) - all;
  }
}

Pca PcaOfVectors(Matrix u, std::vector<double> eigenvalues, double total, size_t n,
                 std::vector<double>* flipped) {
  Pca pca;
  pca.rows = n;
  pca.components = u.rows;
  pca.scores.assign(n * u.rows, 0.0);
  for (size_t c = 0; c < u.rows; ++c) {
    // Of a Gram matrix of rank r < k the rest is rounding, which may be below 0.
    const double floor = kRounding * std::max(eigenvalues[0], 0.0);
    double value = eigenvalues[c];
    if (!(value > floor)) value = 0;
    const double* const vector = u.row(c);
    size_t largest = 0;
    for (size_t i = 1; i < n; ++i) {
      if (std::abs(vector[i]) > std::abs(vector[largest])) largest = i;
    }
    const double sign = vector[largest] < 0 ? -1 : 1;
    if (flipped != nullptr) flipped->push_back(sign);
    for (size_t i = 0; i < n && value > 0; ++i) {
      pca.scores[i * u.rows + c] = sign * vector[i] * std::sqrt(value);
    }
    pca.eigenvalues.push_back(value);
    pca.explained_variance.push_back(n > 1 ? value / static_cast<double>(n - 1) : 0);
    pca.explained_variance_ratio.push_back(total > 0 ? value / total : 0);
  }
  return pca;
}

absl::StatusOr<Pca> PcaOfGram(absl::Span<const double> gram, size_t n, const PcaOptions& options) {
  if (gram.size() != n * n) {
    return absl::InvalidArgumentError(absl::StrCat("PCA: the Gram matrix has ", gram.size(),
                                                   " values; ", n, " rows have ", n * n));
  }
  if (options.components == 0 || options.components > n) {
    return absl::InvalidArgumentError(
        absl::StrCat("PCA: ", options.components, " components of ", n, " images: ask for 1 to ",
                     n));
  }
  double total = 0;
  for (size_t i = 0; i < n; ++i) total += gram[i * n + i];
  for (double value : gram) {
    if (!std::isfinite(value)) {
      return absl::InvalidArgumentError("PCA: the Gram matrix has a value that is not finite");
    }
  }
  Ritz ritz = n <= std::max(kSmall, 3 * options.components)
                  ? Whole(gram, n, options.components)
                  : Lanczos(gram, n, options);
  const double residual = ritz.largest_residual;
  Pca pca = PcaOfVectors(std::move(ritz.vectors), std::move(ritz.values), total, n);
  pca.largest_residual = residual;
  return pca;
}

template <typename T>
absl::StatusOr<PcaBasis> BasisOf(const PixelRows<T>& x, const Pca& pca, int threads) {
  if (x.rows.size() != pca.rows) {
    return absl::InvalidArgumentError(absl::StrCat("PCA: ", x.rows.size(),
                                                   " rows, but the scores are of ", pca.rows));
  }
  Matrix u(pca.components, pca.rows);  // scores / S^2 = U / S.
  for (size_t c = 0; c < pca.components; ++c) {
    const double value = pca.eigenvalues[c];
    for (size_t i = 0; i < pca.rows && value > 0; ++i) {
      u.row(c)[i] = pca.scores[i * pca.components + c] / value;
    }
  }
  PcaBasis basis;
  basis.mean = MomentsOf(x, threads).mean;
  const Matrix components = AlongRows(x, basis.mean, u, threads);
  basis.components.assign(components.values.begin(), components.values.end());
  return basis;
}

template <typename T>
absl::StatusOr<std::vector<double>> Project(const PixelRows<T>& x, const PcaBasis& basis,
                                            int threads) {
  const size_t p = basis.mean.size();
  if (x.columns != p || p == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("PCA: rows of ", x.columns, " values, components of ", p));
  }
  Matrix v(basis.components.size() / p, p);
  std::copy(basis.components.begin(), basis.components.end(), v.values.begin());
  const Matrix by_component = AlongColumns(x, basis.mean, v, threads);
  std::vector<double> scores(x.rows.size() * v.rows);
  for (size_t c = 0; c < v.rows; ++c) {
    for (size_t i = 0; i < x.rows.size(); ++i) scores[i * v.rows + c] = by_component.row(c)[i];
  }
  return scores;
}

template absl::StatusOr<PcaBasis> BasisOf(const PixelRows<uint8_t>&, const Pca&, int);
template absl::StatusOr<PcaBasis> BasisOf(const PixelRows<float>&, const Pca&, int);
template absl::StatusOr<std::vector<double>> Project(const PixelRows<uint8_t>&, const PcaBasis&,
                                                     int);
template absl::StatusOr<std::vector<double>> Project(const PixelRows<float>&, const PcaBasis&, int);

}  // namespace dermis
