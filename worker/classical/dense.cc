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

// tile[r][c] = sum_k a[k * kRows + r] * b[k * kColumns + c].
DERMIS_SIMD void Tile(const double* a, const double* b, size_t depth, double* tile) {
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
  std::memcpy(tile, sums, sizeof(sums));
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

// The unblocked factor of a small diagonal block.
bool FactorBlock(double* a, size_t n, size_t stride, double least) {
  for (size_t i = 0; i < n; ++i) {
    double* const row = a + i * stride;
    for (size_t j = 0; j < i; ++j) {
      const double* const other = a + j * stride;
      double sum = row[j];
      for (size_t k = 0; k < j; ++k) sum -= row[k] * other[k];
      row[j] = sum / other[j];
    }
    double pivot = row[i];
    for (size_t k = 0; k < i; ++k) pivot -= row[k] * row[k];
    if (!(pivot > least)) return false;
    row[i] = std::sqrt(pivot);
  }
  return true;
}

// Rows beneath a factored block: row L^T = row, several rows side by side.
DERMIS_SIMD void SolveRows(const double* l, size_t n, size_t stride, double* a, size_t rows) {
  constexpr size_t kTogether = 8;
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
      Eight sum = *reinterpret_cast<const Eight*>(columns[j]);
      for (size_t k = 0; k < j; ++k) sum -= row[k] * *reinterpret_cast<const Eight*>(columns[k]);
      sum /= row[j];
      std::memcpy(columns[j], &sum, sizeof(sum));
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
  double tile[kRows * kColumns];
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
          Tile(&packed_a[i * deep], &packed_b[j * deep], deep, tile);
          const size_t across = std::min(kColumns, wide - j);
          for (size_t r = 0; r < tall; ++r) {
            double* const out = c + (i + r) * c_stride + first + j;
            for (size_t k = 0; k < across; ++k) out[k] += sign * tile[r * kColumns + k];
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

DERMIS_SIMD double Dot(const double* a, const double* b, size_t n) {
  // Four vectors' lanes are summed apart, then in a fixed order.
  Eight sums[4] = {};
  size_t k = 0;
  for (; k + 32 <= n; k += 32) {
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v) {
      sums[v] += *reinterpret_cast<const Eight*>(a + k + 8 * v) *
                 *reinterpret_cast<const Eight*>(b + k + 8 * v);
    }
  }
  const Eight lanes = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  double total = 0;
  for (int lane = 0; lane < 8; ++lane) total += lanes[lane];
  for (; k < n; ++k) total += a[k] * b[k];
  return total;
}

void Multiply(const double* k, size_t rows, size_t columns, const double* x, double* y) {
  for (size_t i = 0; i < rows; ++i) y[i] = Dot(k + i * columns, x, columns);
}

namespace {

DERMIS_SIMD void Subtract(const double* row, double x, double* out, size_t n) {
  for (size_t k = 0; k < n; ++k) out[k] -= row[k] * x;
}

}  // namespace

void SolveCholesky(const double* l, size_t n, size_t stride, double* x) {
  for (size_t i = 0; i < n; ++i) x[i] = (x[i] - Dot(l + i * stride, x, i)) / l[i * stride + i];
  for (size_t i = n; i-- > 0;) {
    x[i] /= l[i * stride + i];
    Subtract(l + i * stride, x[i], x, i);
  }
}

}  // namespace dermis
