#include "worker/embedding/row_products.h"

#include <algorithm>
#include <type_traits>

#include "common/simd.h"
#include "worker/embedding/parallel.h"

namespace dermis {
namespace {

constexpr size_t kDepth = 256;  // Terms of a sum in float.
constexpr size_t kWidth = 64;   // Vectors at a time.
constexpr size_t kLanes = 16;
constexpr size_t kParts = kWidth / kLanes;
constexpr size_t kHeight = 4;   // Rows of the result at a time: 16 sums stay in registers.
constexpr size_t kRows = 64;    // Of one piece.

using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));
using LanesInMemory =
    float __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));

// sums[r][w] += sum_k a[r * across + k * along] b[k * kWidth + w] for kHeight rows.
DERMIS_SIMD void Tile(const float* a, size_t across, size_t along, const float* b, size_t depth,
                      double* sums) {
  Lanes c[kHeight][kParts] = {};
  for (size_t k = 0; k < depth; ++k) {
    Lanes right[kParts];
    for (size_t w = 0; w < kParts; ++w) {
      right[w] = *reinterpret_cast<const LanesInMemory*>(b + k * kWidth + w * kLanes);
    }
    for (size_t r = 0; r < kHeight; ++r) {
      const float left = a[r * across + k * along];
      for (size_t w = 0; w < kParts; ++w) c[r][w] += left * right[w];
    }
  }
  for (size_t r = 0; r < kHeight; ++r) {
    for (size_t w = 0; w < kParts; ++w) {
      float values[kLanes];
      *reinterpret_cast<LanesInMemory*>(values) = c[r][w];
      double* const out = sums + r * kWidth + w * kLanes;
      for (size_t l = 0; l < kLanes; ++l) out[l] += static_cast<double>(values[l]);
    }
  }
}

template <typename T>
DERMIS_INLINE void CentreLoop(const T* row, const float* mean, size_t count, float* out) {
  for (size_t k = 0; k < count; ++k) out[k] = static_cast<float>(row[k]) - mean[k];
}
DERMIS_SIMD void Centre(const uint8_t* row, const float* mean, size_t count, float* out) {
  CentreLoop(row, mean, count, out);
}
DERMIS_SIMD void Centre(const float* row, const float* mean, size_t count, float* out) {
  CentreLoop(row, mean, count, out);
}

DERMIS_SIMD void AddBytes(const uint8_t* row, size_t count, uint32_t* sums) {
  for (size_t k = 0; k < count; ++k) sums[k] += row[k];
}
DERMIS_SIMD uint64_t SumOfSquares(const uint8_t* row, size_t count) {
  uint64_t all = 0;
  for (size_t first = 0; first < count; first += 32768) {  // 32768 * 255^2 < 2^32.
    const size_t end = std::min(count, first + 32768);
    uint32_t sum = 0;
    for (size_t k = first; k < end; ++k) sum += static_cast<uint32_t>(row[k]) * row[k];
    all += sum;
  }
  return all;
}

// Vectors first .. first + kWidth of b, float, vector fastest; zero beyond.
std::vector<float> Interleaved(const Matrix& b, size_t first) {
  std::vector<float> out(b.columns * kWidth, 0.0f);
  const size_t count = std::min(kWidth, b.rows - first);
  for (size_t begin = 0; begin < b.columns; begin += kDepth) {  // A block stays in cache.
    const size_t end = std::min(b.columns, begin + kDepth);
    for (size_t w = 0; w < count; ++w) {
      const double* const row = b.row(first + w);
      for (size_t k = begin; k < end; ++k) out[k * kWidth + w] = static_cast<float>(row[k]);
    }
  }
  return out;
}

void Store(const std::vector<double>& sums, size_t count, size_t first_vector, size_t at,
           Matrix& out) {
  const size_t vectors = std::min(kWidth, out.rows - first_vector);
  for (size_t w = 0; w < vectors; ++w) {
    double* const row = out.row(first_vector + w) + at;
    for (size_t i = 0; i < count; ++i) row[i] = sums[i * kWidth + w];
  }
}

constexpr size_t RoundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }

}  // namespace

template <typename T>
ColumnMoments MomentsOf(const PixelRows<T>& x, int threads) {
  constexpr size_t kBlock = 4096;
  const size_t n = x.rows.size(), blocks = (x.columns + kBlock - 1) / kBlock;
  ColumnMoments moments;
  moments.mean.assign(x.columns, 0.0);
  std::vector<double> squares(blocks, 0.0);
  ForEachPiece(threads, blocks, [&](size_t block) {
    const size_t first = block * kBlock, count = std::min(kBlock, x.columns - first);
    double* const mean = moments.mean.data() + first;
    if constexpr (std::is_same_v<T, uint8_t>) {
      std::vector<uint32_t> sums(count, 0u);  // 2^24 rows and more would overflow; none has them.
      uint64_t all = 0;
      for (const T* row : x.rows) {
        AddBytes(row + first, count, sums.data());
        all += SumOfSquares(row + first, count);
      }
      double of_means = 0;
      for (size_t k = 0; k < count; ++k) {
        mean[k] = static_cast<double>(sums[k]) / static_cast<double>(n);
        of_means += mean[k] * static_cast<double>(sums[k]);
      }
      squares[block] = static_cast<double>(all) - of_means;
    } else {
      for (const T* row : x.rows) {
        for (size_t k = 0; k < count; ++k) mean[k] += static_cast<double>(row[first + k]);
      }
      for (size_t k = 0; k < count; ++k) mean[k] /= static_cast<double>(n);
      for (const T* row : x.rows) {
        for (size_t k = 0; k < count; ++k) {
          const double off = static_cast<double>(row[first + k]) - mean[k];
          squares[block] += off * off;
        }
      }
    }
  });
  for (double square : squares) moments.squares += square;
  return moments;
}

template <typename T>
Matrix AlongColumns(const PixelRows<T>& x, absl::Span<const double> mean, const Matrix& b,
                    int threads) {
  const size_t n = x.rows.size();
  const std::vector<float> off(mean.begin(), mean.end());
  Matrix out(b.rows, n);
  for (size_t vector = 0; vector < b.rows; vector += kWidth) {
    const std::vector<float> right = Interleaved(b, vector);
    ForEachPiece(threads, (n + kRows - 1) / kRows, [&](size_t piece) {
      const size_t first = piece * kRows, count = std::min(kRows, n - first);
      std::vector<float> centred(kRows * kDepth, 0.0f);
      std::vector<double> sums(kRows * kWidth, 0.0);
      for (size_t k = 0; k < x.columns; k += kDepth) {
        const size_t depth = std::min(kDepth, x.columns - k);
        for (size_t i = 0; i < count; ++i) {
          Centre(x.rows[first + i] + k, off.data() + k, depth, centred.data() + i * kDepth);
        }
        for (size_t i = 0; i < count; i += kHeight) {
          Tile(centred.data() + i * kDepth, kDepth, 1, right.data() + k * kWidth, depth,
               sums.data() + i * kWidth);
        }
      }
      Store(sums, count, vector, first, out);
    });
  }
  return out;
}

template <typename T>
Matrix AlongRows(const PixelRows<T>& x, absl::Span<const double> mean, const Matrix& b,
                 int threads) {
  constexpr size_t kBlock = 256;  // Columns of one piece.
  const size_t n = x.rows.size();
  const std::vector<float> off(mean.begin(), mean.end());
  Matrix out(b.rows, x.columns);
  for (size_t vector = 0; vector < b.rows; vector += kWidth) {
    const std::vector<float> right = Interleaved(b, vector);
    ForEachPiece(threads, (x.columns + kBlock - 1) / kBlock, [&](size_t piece) {
      const size_t first = piece * kBlock, count = std::min(kBlock, x.columns - first);
      std::vector<float> centred(kDepth * kBlock, 0.0f);
      std::vector<double> sums(kBlock * kWidth, 0.0);
      for (size_t k = 0; k < n; k += kDepth) {
        const size_t depth = std::min(kDepth, n - k);
        for (size_t i = 0; i < depth; ++i) {
          Centre(x.rows[k + i] + first, off.data() + first, count, centred.data() + i * kBlock);
        }
        for (size_t j = 0; j < RoundUp(count, kHeight); j += kHeight) {
          Tile(centred.data() + j, 1, kBlock, right.data() + k * kWidth, depth,
               sums.data() + j * kWidth);
        }
      }
      Store(sums, count, vector, first, out);
    });
  }
  return out;
}

template ColumnMoments MomentsOf(const PixelRows<uint8_t>&, int);
template ColumnMoments MomentsOf(const PixelRows<float>&, int);
template Matrix AlongColumns(const PixelRows<uint8_t>&, absl::Span<const double>, const Matrix&,
                             int);
template Matrix AlongColumns(const PixelRows<float>&, absl::Span<const double>, const Matrix&, int);
template Matrix AlongRows(const PixelRows<uint8_t>&, absl::Span<const double>, const Matrix&, int);
template Matrix AlongRows(const PixelRows<float>&, absl::Span<const double>, const Matrix&, int);

}  // namespace dermis
