#include "tools/bench/bytes_gram.h"

#include <algorithm>
#include <cstring>

#include "worker/embedding/parallel.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define DERMIS_VNNI 1
#endif

namespace dermis::bench {
namespace {

constexpr size_t kBlock = 64;    // Rows of a tile.
constexpr size_t kDepth = 8192;  // Bytes of a row at a time: two blocks stay in cache.
constexpr size_t kSide = 4;      // Rows whose sums stay in registers.

// Adds a times (b - 128).
void PlainTile(const uint8_t* const* a, const uint8_t* const* b, size_t first, size_t depth,
               int64_t out[kSide][kSide]) {
  for (size_t i = 0; i < kSide; ++i) {
    for (size_t j = 0; j < kSide; ++j) {
      int32_t sum = 0;
      for (size_t k = first; k < first + depth; ++k) sum += int32_t{a[i][k]} * (b[j][k] - 128);
      out[i][j] += sum;
    }
  }
}

#ifdef DERMIS_VNNI
// Not _mm512_reduce_add_epi32: GCC 12 warns of its own header.
__attribute__((target("avx512f"))) int64_t SumOf(const __m512i& lanes) {
  int32_t values[16];
  _mm512_storeu_si512(values, lanes);
  int64_t sum = 0;
  for (int32_t value : values) sum += value;
  return sum;
}

// The instruction multiplies unsigned by signed bytes: this is a times (b - 128).
__attribute__((target("avx512f,avx512bw,avx512vnni"))) void VnniTile(
    const uint8_t* const* a, const uint8_t* const* b, size_t first, size_t depth,
    int64_t out[kSide][kSide]) {
  __m512i sums[kSide][kSide];
  for (size_t i = 0; i < kSide; ++i) {
    for (size_t j = 0; j < kSide; ++j) sums[i][j] = _mm512_setzero_si512();
  }
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
  size_t k = first;
  for (; k + 64 <= first + depth; k += 64) {
    __m512i right[kSide];
    for (size_t j = 0; j < kSide; ++j) {
      right[j] = _mm512_xor_si512(_mm512_loadu_si512(b[j] + k), flip);
    }
    for (size_t i = 0; i < kSide; ++i) {
      const __m512i left = _mm512_loadu_si512(a[i] + k);
      for (size_t j = 0; j < kSide; ++j) sums[i][j] = _mm512_dpbusd_epi32(sums[i][j], left, right[j]);
    }
  }
  for (size_t i = 0; i < kSide; ++i) {
    for (size_t j = 0; j < kSide; ++j) out[i][j] += SumOf(sums[i][j]);
  }
  PlainTile(a, b, k, first + depth - k, out);
}
#endif

}  // namespace

std::vector<double> BytesGram(absl::Span<const uint8_t* const> rows, size_t columns, int threads) {
  const size_t n = rows.size(), blocks = (n + kBlock - 1) / kBlock;
  auto* tile = &PlainTile;
#ifdef DERMIS_VNNI
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw")) tile = &VnniTile;
#endif
  std::vector<int64_t> sum_of_row(n, 0);
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < columns; ++k) sum_of_row[i] += rows[i][k];
  }
  struct Place {
    size_t i, j;
  };
  std::vector<Place> places;
  for (size_t i = 0; i < blocks; ++i) {
    for (size_t j = i; j < blocks; ++j) places.push_back({i * kBlock, j * kBlock});
  }
  std::vector<double> gram(n * n);
  ForEachPiece(threads, places.size(), [&](size_t piece) {
    const auto [bi, bj] = places[piece];
    std::vector<int64_t> sums(kBlock * kBlock, 0);
    for (size_t k = 0; k < columns; k += kDepth) {
      const size_t depth = std::min(kDepth, columns - k);
      for (size_t i = 0; i < kBlock && bi + i < n; i += kSide) {
        for (size_t j = 0; j < kBlock && bj + j < n; j += kSide) {
          const uint8_t *a[kSide], *b[kSide];  // Beyond the last row: that again.
          for (size_t s = 0; s < kSide; ++s) {
            a[s] = rows[std::min(n - 1, bi + i + s)];
            b[s] = rows[std::min(n - 1, bj + j + s)];
          }
          int64_t out[kSide][kSide] = {};
          tile(a, b, k, depth, out);
          for (size_t s = 0; s < kSide; ++s) {
            for (size_t t = 0; t < kSide; ++t) sums[(i + s) * kBlock + j + t] += out[s][t];
          }
        }
      }
    }
    for (size_t i = bi; i < std::min(n, bi + kBlock); ++i) {
      for (size_t j = bj; j < std::min(n, bj + kBlock); ++j) {
        gram[i * n + j] = gram[j * n + i] =
            static_cast<double>(sums[(i - bi) * kBlock + (j - bj)] + 128 * sum_of_row[i]);
      }
    }
  });
  return gram;
}

}  // namespace dermis::bench
