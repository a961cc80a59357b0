#include "worker/explain/estimators/symmetric.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace dermis {
namespace {

constexpr double kSmallestPivot = 1e-11;
constexpr double kSmallestEigenvalue = 1e-10;
constexpr int kMostSweeps = 60;

// Solves in place; false (and b untouched in meaning) where a pivot is too small.
bool SolveByCholesky(SymmetricMatrix& a, std::vector<double>& b) {
  const size_t n = a.size();
  double largest = 0;
  for (size_t i = 0; i < n; ++i) largest = std::max(largest, a.at(i, i));
  for (size_t i = 0; i < n; ++i) {
    double* const row = a.row(i);
    for (size_t j = 0; j < i; ++j) {
      const double* const other = a.row(j);
      double sum = row[j];
      for (size_t k = 0; k < j; ++k) sum -= row[k] * other[k];
      row[j] = sum / other[j];
    }
    double pivot = row[i];
    for (size_t k = 0; k < i; ++k) pivot -= row[k] * row[k];
    if (!(pivot > kSmallestPivot * largest)) return false;
    row[i] = std::sqrt(pivot);
  }
  for (size_t i = 0; i < n; ++i) {
    const double* const row = a.row(i);
    for (size_t k = 0; k < i; ++k) b[i] -= row[k] * b[k];
    b[i] /= row[i];
  }
  for (size_t i = n; i-- > 0;) {
    const double* const row = a.row(i);
    b[i] /= row[i];
    for (size_t k = 0; k < i; ++k) b[k] -= row[k] * b[i];
  }
  return true;
}

// Minimal-norm solution from the eigenvectors, which cyclic Jacobi rotations find.
std::vector<double> SolveByEigenvectors(const SymmetricMatrix& lower,
                                        const std::vector<double>& b) {
  const size_t n = lower.size();
  std::vector<double> a(n * n), v(n * n, 0.0);
  for (size_t i = 0; i < n; ++i) {
    v[i * n + i] = 1;
    for (size_t j = 0; j <= i; ++j) a[i * n + j] = a[j * n + i] = lower.at(i, j);
  }
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    double off = 0, diagonal = 0;
    for (size_t i = 0; i < n; ++i) {
      diagonal += a[i * n + i] * a[i * n + i];
      for (size_t j = 0; j < i; ++j) off += a[i * n + j] * a[i * n + j];
    }
    if (off <= 1e-30 * diagonal) break;
    for (size_t p = 0; p < n; ++p) {
      for (size_t q = p + 1; q < n; ++q) {
        const double apq = a[p * n + q];
        if (apq == 0) continue;
        const double theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
        const double t =
            (theta >= 0 ? 1.0 : -1.0) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (size_t k = 0; k < n; ++k) {
          const double kp = a[k * n + p], kq = a[k * n + q];
          a[k * n + p] = c * kp - s * kq;
          a[k * n + q] = s * kp + c * kq;
        }
        for (size_t k = 0; k < n; ++k) {
          const double pk = a[p * n + k], qk = a[q * n + k];
          a[p * n + k] = c * pk - s * qk;
          a[q * n + k] = s * pk + c * qk;
          const double vp = v[k * n + p], vq = v[k * n + q];
          v[k * n + p] = c * vp - s * vq;
          v[k * n + q] = s * vp + c * vq;
        }
      }
    }
  }
  double largest = 0;
  for (size_t i = 0; i < n; ++i) largest = std::max(largest, a[i * n + i]);
  std::vector<double> x(n, 0.0);
  for (size_t e = 0; e < n; ++e) {
    if (!(a[e * n + e] > kSmallestEigenvalue * largest)) continue;
    double along = 0;
    for (size_t k = 0; k < n; ++k) along += v[k * n + e] * b[k];
    along /= a[e * n + e];
    for (size_t k = 0; k < n; ++k) x[k] += along * v[k * n + e];
  }
  return x;
}

}  // namespace

Solution SolvePositive(const SymmetricMatrix& a, std::vector<double> b) {
  SymmetricMatrix factor = a;
  Solution solution{b, true};
  if (SolveByCholesky(factor, solution.x)) return solution;
  return {SolveByEigenvectors(a, b), false};
}

}  // namespace dermis
