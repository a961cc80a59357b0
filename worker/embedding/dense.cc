#include "worker/embedding/dense.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "common/simd.h"
#include "worker/embedding/parallel.h"

namespace dermis {
namespace {

constexpr size_t kLanes = 8;
using Lanes = double __attribute__((vector_size(kLanes * sizeof(double))));
// Where rows begin nothing is aligned.
using LanesInMemory = double __attribute__((vector_size(kLanes * sizeof(double)), aligned(8), may_alias));

// Rows that one piece of work takes.
constexpr size_t kPiece = 16;
// Columns of one: the rows that are subtracted stay in cache from one to the next.
constexpr size_t kColumns = 512;

DERMIS_INLINE double Fold(const double* lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// Inner products of A rows with B rows at a time.
template <size_t A, size_t B>
DERMIS_INLINE void DotTile(const double* const* a, const double* const* b, size_t length,
                           double* out, size_t stride) {
  Lanes sums[A][B] = {};
  size_t k = 0;
  for (; k + kLanes <= length; k += kLanes) {
    Lanes right[B];
    for (size_t j = 0; j < B; ++j) right[j] = *reinterpret_cast<const LanesInMemory*>(b[j] + k);
    for (size_t i = 0; i < A; ++i) {
      const Lanes left = *reinterpret_cast<const LanesInMemory*>(a[i] + k);
      for (size_t j = 0; j < B; ++j) sums[i][j] += left * right[j];
    }
  }
  for (size_t i = 0; i < A; ++i) {
    for (size_t j = 0; j < B; ++j) {
      double lanes[kLanes];
      std::memcpy(lanes, &sums[i][j], sizeof(lanes));
      for (size_t rest = k; rest < length; ++rest) lanes[rest - k] += a[i][rest] * b[j][rest];
      out[i * stride + j] = Fold(lanes);
    }
  }
}

DERMIS_SIMD void DotRowsOnce(const double* a, size_t a_rows, const double* b, size_t b_rows,
                             size_t length, double* out, size_t stride) {
  size_t i = 0;
  for (; i + 4 <= a_rows; i += 4) {
    const double* const left[4] = {a + i * length, a + (i + 1) * length, a + (i + 2) * length,
                                   a + (i + 3) * length};
    size_t j = 0;
    for (; j + 4 <= b_rows; j += 4) {
      const double* const right[4] = {b + j * length, b + (j + 1) * length, b + (j + 2) * length,
                                      b + (j + 3) * length};
      DotTile<4, 4>(left, right, length, out + i * stride + j, stride);
    }
    for (; j < b_rows; ++j) {
      const double* const right = b + j * length;
      DotTile<4, 1>(left, &right, length, out + i * stride + j, stride);
    }
  }
  for (; i < a_rows; ++i) {
    const double* const left = a + i * length;
    for (size_t j = 0; j < b_rows; ++j) {
      const double* const right = b + j * length;
      DotTile<1, 1>(&left, &right, length, out + i * stride + j, stride);
    }
  }
}

// Of b's rows, `stride` apart.
DERMIS_SIMD void SubtractRow(const double* c, const double* b, size_t b_rows, size_t stride,
                             size_t length, double* a) {
  size_t j = 0;
  for (; j + 4 <= b_rows; j += 4) {
    const double *b0 = b + j * stride, *b1 = b0 + stride, *b2 = b1 + stride, *b3 = b2 + stride;
    const double c0 = c[j], c1 = c[j + 1], c2 = c[j + 2], c3 = c[j + 3];
    for (size_t k = 0; k < length; ++k) {
      a[k] = (((a[k] - c0 * b0[k]) - c1 * b1[k]) - c2 * b2[k]) - c3 * b3[k];
    }
  }
  for (; j < b_rows; ++j) {
    for (size_t k = 0; k < length; ++k) a[k] -= c[j] * b[j * stride + k];
  }
}

DERMIS_SIMD void Rotate(double* a, double* b, size_t length, double c, double s) {
  for (size_t k = 0; k < length; ++k) {
    const double x = a[k], y = b[k];
    b[k] = s * x + c * y;
    a[k] = c * x - s * y;
  }
}

// a -= v w' + w v'.
DERMIS_SIMD void SubtractPair(double* a, size_t stride, const double* v, const double* w,
                              size_t n) {
  for (size_t i = 0; i < n; ++i) {
    double* const row = a + i * stride;
    for (size_t j = 0; j < n; ++j) row[j] -= v[i] * w[j] + w[i] * v[j];
  }
}

double Dot(const double* a, const double* b, size_t length) {
  double result;
  DotRowsOnce(a, 1, b, 1, length, &result, 1);
  return result;
}

// a becomes tridiagonal: diagonal and off (off[i] between i and i + 1). `basis` row r = column r of
// Q for Q' a Q = T, as rows: basis = Q'.
void Tridiagonalise(Matrix& a, std::vector<double>& diagonal, std::vector<double>& off,
                    Matrix& basis) {
  const size_t n = a.rows;
  std::vector<std::vector<double>> reflectors;
  std::vector<double> scales;
  for (size_t k = 0; k + 2 < n; ++k) {
    const size_t m = n - k - 1;
    std::vector<double> v(m), p(m);
    for (size_t i = 0; i < m; ++i) v[i] = a.row(k + 1 + i)[k];
    const double norm = std::sqrt(Dot(v.data(), v.data(), m));
    const double alpha = v[0] > 0 ? -norm : norm;
    v[0] -= alpha;
    const double square = Dot(v.data(), v.data(), m);
    const double beta = square > 0 ? 2 / square : 0;
    off[k] = alpha;
    double* const corner = a.row(k + 1) + k + 1;
    for (size_t i = 0; i < m; ++i) p[i] = beta * Dot(corner + i * n, v.data(), m);
    const double half = beta / 2 * Dot(p.data(), v.data(), m);
    for (size_t i = 0; i < m; ++i) p[i] -= half * v[i];
    SubtractPair(corner, n, v.data(), p.data(), m);
    reflectors.push_back(std::move(v));
    scales.push_back(beta);
  }
  if (n > 1) off[n - 2] = a.row(n - 1)[n - 2];
  for (size_t i = 0; i < n; ++i) diagonal[i] = a.row(i)[i];
  for (size_t i = 0; i < n; ++i) basis.row(i)[i] = 1;
  for (size_t k = reflectors.size(); k-- > 0;) {
    const std::vector<double>& v = reflectors[k];
    // Rows below k + 1 are the unit's still.
    for (size_t i = k + 1; i < n; ++i) {
      double* const row = basis.row(i) + k + 1;
      const double along = scales[k] * Dot(row, v.data(), v.size());
      SubtractRow(&along, v.data(), 1, 0, v.size(), row);
    }
  }
}

}  // namespace

void DotRows(const double* a, size_t a_rows, const double* b, size_t b_rows, size_t length,
             double* out, size_t stride, int threads) {
  ForEachPiece(threads, (a_rows + kPiece - 1) / kPiece, [&](size_t piece) {
    const size_t first = piece * kPiece;
    DotRowsOnce(a + first * length, std::min(kPiece, a_rows - first), b, b_rows, length,
                out + first * stride, stride);
  });
}

void SubtractRows(const double* c, size_t stride, const double* b, size_t b_rows, size_t length,
                  double* a, size_t a_rows, int threads) {
  ForEachPiece(threads, (length + kColumns - 1) / kColumns, [&](size_t piece) {
    const size_t first = piece * kColumns, count = std::min(kColumns, length - first);
    for (size_t i = 0; i < a_rows; ++i) {
      SubtractRow(c + i * stride, b + first, b_rows, length, count, a + i * length + first);
    }
  });
}

size_t Orthonormalise(double* a, size_t rows, size_t length, double scale, double tolerance) {
  size_t kept = 0;
  for (size_t i = 0; i < rows; ++i) {
    double* const row = a + kept * length;
    if (kept != i) std::copy_n(a + i * length, length, row);
    double norm = 0;
    bool good = true;
    for (int pass = 0; pass < 2 && good; ++pass) {
      for (size_t j = 0; j < kept; ++j) {
        const double along = Dot(row, a + j * length, length);
        SubtractRow(&along, a + j * length, 1, 0, length, row);
      }
      norm = std::sqrt(Dot(row, row, length));
      good = norm > tolerance * (pass == 0 ? scale : 1.0);
      if (good) {
        for (size_t k = 0; k < length; ++k) row[k] /= norm;
      }
    }
    if (good) ++kept;
  }
  return kept;
}

EigenPairs SymmetricEigen(Matrix a) {
  constexpr int kMostTurns = 60;  // For one eigenvalue; 2 or 3 are usual.
  const size_t n = a.rows;
  std::vector<double> d(n), e(n, 0.0);
  Matrix basis(n, n);
  Tridiagonalise(a, d, e, basis);
  for (size_t l = 0; l < n; ++l) {
    for (int turn = 0; turn < kMostTurns; ++turn) {
      size_t m = l;
      for (; m + 1 < n; ++m) {
        const double size = std::abs(d[m]) + std::abs(d[m + 1]);
        if (std::abs(e[m]) <= std::numeric_limits<double>::epsilon() * size) break;
      }
      if (m == l) break;
      double g = (d[l + 1] - d[l]) / (2 * e[l]);
      double r = std::hypot(g, 1.0);
      g = d[m] - d[l] + e[l] / (g + std::copysign(r, g));
      double s = 1, c = 1, p = 0;
      bool split = false;
      for (size_t i = m; i-- > l;) {
        double f = s * e[i];
        const double b = c * e[i];
        r = std::hypot(f, g);
        e[i + 1] = r;
        if (r == 0) {
          d[i + 1] -= p;
          e[m] = 0;
          split = true;
          break;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        Rotate(basis.row(i), basis.row(i + 1), n, c, s);
      }
      if (split) continue;
      d[l] -= p;
      e[l] = g;
      e[m] = 0;
    }
  }
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t x, size_t y) { return d[x] > d[y]; });
  EigenPairs result;
  result.vectors = Matrix(n, n);
  for (size_t i = 0; i < n; ++i) {
    result.values.push_back(d[order[i]]);
    std::copy_n(basis.row(order[i]), n, result.vectors.row(i));
  }
  return result;
}

}  // namespace dermis
