#include "worker/classical/dense.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/progress.h"
#include "common/simd.h"

namespace dermis {
namespace {

// A vector of eight; compiled to what the processor has.
typedef double Eight __attribute__((vector_size(64), aligned(8), may_alias));

constexpr size_t kRows = 6;      // A tile: six rows ...
constexpr size_t kColumns = 16;  // ... of two vectors.
constexpr size_t kDepth = 256;   // Of a panel.
constexpr size_t kPanelColumns = 512;
constexpr size_t kBlock = 96;  // Columns that are factored at a time.

// out[r * stride + c] += sign * sum_k a[k * kRows + r] * b[k * kColumns + c], the sum first.
DERMIS_SIMD void Tile(const double* a, const double* b, size_t depth, double sign, double* out,
                      size_t stride) {
  // They come while the sums are made.
  for (size_t r = 0; r < kRows; ++r) {
    __builtin_prefetch(out + r * stride, 1);
    __builtin_prefetch(out + r * stride + 8, 1);
    __builtin_prefetch(out + r * stride + kColumns - 1, 1);
  }
  Eight sums[kRows][2] = {};
  for (size_t k = 0; k < depth; ++k) {
    const Eight low = *reinterpret_cast<const Eight*>(b + k * kColumns);
    const Eight high = *reinterpret_cast<const Eight*>(b + k * kColumns + 8);
#pragma GCC unroll 6
    for (size_t r = 0; r < kRows; ++r) {
      const double x = a[k * kRows + r];
      sums[r][0] += x * low;
      sums[r][1] += x * high;
    }
  }
#pragma GCC unroll 6
  for (size_t r = 0; r < kRows; ++r) {
    *reinterpret_cast<Eight*>(out + r * stride) += sign * sums[r][0];
    *reinterpret_cast<Eight*>(out + r * stride + 8) += sign * sums[r][1];
  }
}

// Rows of `width` at a time, the elements of one depth side by side; what is missing is 0.
void Pack(const double* a, size_t rows, size_t depth, size_t stride, size_t width,
          std::vector<double>* packed) {
  const size_t groups = (rows + width - 1) / width;
  packed->assign(groups * width * depth, 0.0);
  for (size_t i = 0; i < rows; ++i) {
    double* const out = packed->data() + i / width * width * depth + i % width;
    const double* const in = a + i * stride;
    for (size_t k = 0; k < depth; ++k) out[k * width] = in[k];
  }
}

// The factor of a small diagonal block, in place.
DERMIS_SIMD bool FactorBlock(double* a, size_t n, size_t stride, double least) {
  // Columns, so that rows are side by side: each element is its own sum in the order of k.
  double columns[kBlock][kBlock] = {};
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) columns[j][i] = a[i * stride + j];
  }
  for (size_t j = 0; j < n; ++j) {
    double* const column = columns[j];
    for (size_t first = j / 8 * 8; first < n; first += 8) {  // Rows above j are not looked at.
      Eight sum = *reinterpret_cast<const Eight*>(column + first);
      for (size_t k = 0; k < j; ++k) {
        sum -= *reinterpret_cast<const Eight*>(columns[k] + first) * columns[k][j];
      }
      std::memcpy(column + first, &sum, sizeof(sum));
    }
    if (!(column[j] > least)) return false;
    const double pivot = std::sqrt(column[j]);
    for (size_t i = j + 1; i < n; ++i) column[i] /= pivot;
    column[j] = pivot;
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) a[i * stride + j] = columns[j][i];
  }
  return true;
}

// Rows beneath a factored block: row L^T = row, many rows side by side: their sums are chains.
DERMIS_SIMD void SolveRows(const double* l, size_t n, size_t stride, double* a, size_t rows) {
  constexpr size_t kVectors = 4, kTogether = 8 * kVectors;
  double columns[kBlock][kTogether];
  for (size_t start = 0; start < rows; start += kTogether) {
    const size_t count = std::min(kTogether, rows - start);
    for (size_t r = 0; r < kTogether; ++r) {
      for (size_t j = 0; j < n; ++j) {
        columns[j][r] = r < count ? a[(start + r) * stride + j] : 0.0;
      }
    }
    for (size_t j = 0; j < n; ++j) {
      const double* const row = l + j * stride;
      Eight sums[kVectors];
      std::memcpy(sums, columns[j], sizeof(sums));
      for (size_t k = 0; k < j; ++k) {
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v) {
          sums[v] -= row[k] * *reinterpret_cast<const Eight*>(columns[k] + 8 * v);
        }
      }
      for (Eight& sum : sums) sum /= row[j];
      std::memcpy(columns[j], sums, sizeof(sums));
    }
    for (size_t r = 0; r < count; ++r) {
      for (size_t j = 0; j < n; ++j) a[(start + r) * stride + j] = columns[j][r];
    }
  }
}

}  // namespace

void AddProducts(const double* a, size_t rows, const double* b, size_t columns, size_t depth,
                 size_t stride, double sign, bool lower, double* c, size_t c_stride) {
  std::vector<double> packed_a, packed_b;
  for (size_t start = 0; start < depth; start += kDepth) {
    const size_t deep = std::min(kDepth, depth - start);
    Pack(a + start, rows, deep, stride, kRows, &packed_a);
    for (size_t first = 0; first < columns; first += kPanelColumns) {
      const size_t wide = std::min(kPanelColumns, columns - first);
      Pack(b + first * stride + start, wide, deep, stride, kColumns, &packed_b);
      for (size_t i = 0; i < rows; i += kRows) {
        const size_t tall = std::min(kRows, rows - i);
        if (lower && first > i + tall - 1) continue;
        for (size_t j = 0; j < wide; j += kColumns) {
          if (lower && first + j > i + tall - 1) break;
          double* const out = c + i * c_stride + first + j;
          const size_t across = std::min(kColumns, wide - j);
          if (tall == kRows && across == kColumns) {
            Tile(&packed_a[i * deep], &packed_b[j * deep], deep, sign, out, c_stride);
            continue;
          }
          double tile[kRows * kColumns] = {};
          Tile(&packed_a[i * deep], &packed_b[j * deep], deep, sign, tile, kColumns);
          for (size_t r = 0; r < tall; ++r) {
            for (size_t k = 0; k < across; ++k) out[r * c_stride + k] += tile[r * kColumns + k];
          }
        }
      }
    }
  }
}

bool Cholesky(double* a, size_t n, size_t stride, double least) {
  for (size_t start = 0; start < n; start += kBlock) {
    NoteProgress();
    const size_t size = std::min(kBlock, n - start);
    double* const diagonal = a + start * stride + start;
    if (!FactorBlock(diagonal, size, stride, least)) return false;
    const size_t rest = n - start - size;
    if (rest == 0) break;
    double* const below = diagonal + size * stride;
    SolveRows(diagonal, size, stride, below, rest);
    AddProducts(below, rest, below, rest, size, stride, -1, true, below + size, stride);
  }
  return true;
}

namespace {

// sums[v] = a . b[v]: four vectors' lanes are summed apart, then in a fixed order, whatever kCount.
template <size_t kCount>
DERMIS_INLINE void Dots(const double* a, const double* const* b, size_t n, double* sums) {
  Eight lanes[kCount][4] = {};
  size_t k = 0;
  for (; k + 32 <= n; k += 32) {
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v) {
      const Eight x = *reinterpret_cast<const Eight*>(a + k + 8 * v);
#pragma GCC unroll 2
      for (size_t i = 0; i < kCount; ++i) {
        lanes[i][v] += x * *reinterpret_cast<const Eight*>(b[i] + k + 8 * v);
      }
    }
  }
  for (size_t i = 0; i < kCount; ++i) {
    const Eight all = (lanes[i][0] + lanes[i][1]) + (lanes[i][2] + lanes[i][3]);
    double total = 0;
    for (int lane = 0; lane < 8; ++lane) total += all[lane];
    for (size_t j = k; j < n; ++j) total += a[j] * b[i][j];
    sums[i] = total;
  }
}

template <size_t kCount>
DERMIS_INLINE void Products(const double* k, size_t rows, size_t columns, const double* const* x,
                            double* const* y) {
  for (size_t i = 0; i < rows; ++i) {
    double sums[kCount];
    Dots<kCount>(k + i * columns, x, columns, sums);
    for (size_t c = 0; c < kCount; ++c) y[c][i] = sums[c];
  }
}

template <size_t kCount>
DERMIS_INLINE void Solve(const double* l, size_t n, size_t stride, double* const* x) {
  for (size_t i = 0; i < n; ++i) {
    const double* const row = l + i * stride;
    double sums[kCount];
    Dots<kCount>(row, x, i, sums);
    for (size_t c = 0; c < kCount; ++c) x[c][i] = (x[c][i] - sums[c]) / row[i];
  }
  // Two rows at a time, for x is written as often as it is read.
  size_t i = n;
  for (; i >= 2; i -= 2) {
    const double *const row = l + (i - 1) * stride, *const next = row - stride;
    double scale[kCount], next_scale[kCount];
    for (size_t c = 0; c < kCount; ++c) {
      scale[c] = x[c][i - 1] /= row[i - 1];
      x[c][i - 2] -= row[i - 2] * scale[c];
      next_scale[c] = x[c][i - 2] /= next[i - 2];
    }
    for (size_t c = 0; c < kCount; ++c) {
      double* const out = x[c];
      for (size_t k = 0; k < i - 2; ++k) {
        out[k] = (out[k] - row[k] * scale[c]) - next[k] * next_scale[c];
      }
    }
  }
  if (i == 1) {
    for (size_t c = 0; c < kCount; ++c) x[c][0] /= l[0];
  }
}

}  // namespace

DERMIS_SIMD double Dot(const double* a, const double* b, size_t n) {
  double sum;
  Dots<1>(a, &b, n, &sum);
  return sum;
}

DERMIS_SIMD void Multiply(const double* k, size_t rows, size_t columns, const double* x,
                          double* y) {
  Products<1>(k, rows, columns, &x, &y);
}

DERMIS_SIMD void MultiplyTwo(const double* k, size_t rows, size_t columns, const double* const x[2],
                             double* const y[2]) {
  Products<2>(k, rows, columns, x, y);
}

DERMIS_SIMD void SolveCholesky(const double* l, size_t n, size_t stride, double* x) {
  Solve<1>(l, n, stride, &x);
}

DERMIS_SIMD void SolveCholeskyTwo(const double* l, size_t n, size_t stride, double* const x[2]) {
  Solve<2>(l, n, stride, x);
}

}  // namespace dermis
