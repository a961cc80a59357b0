#include "worker/classical/byte_products.h"

#include "common/simd.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define DERMIS_HAS_VNNI 1
#endif

namespace dermis {
namespace {

DERMIS_SIMD void PortableTile(const uint8_t* const* a, const uint8_t* const* b, size_t depth,
                              const uint32_t*, uint32_t* products) {
  for (size_t r = 0; r < kTileRows; ++r) {
    for (size_t c = 0; c < kTileColumns; ++c) {
      const uint8_t* const x = a[r];
      const uint8_t* const y = b[c];
      int32_t sum = 0;
      for (size_t k = 0; k < depth; ++k) {
        sum += static_cast<int16_t>(x[k]) * static_cast<int16_t>(y[k]);
      }
      products[r * kTileColumns + c] = static_cast<uint32_t>(sum);
    }
  }
}

#ifdef DERMIS_HAS_VNNI
#define DERMIS_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

// Lane sums of four vectors. The masked forms (of all lanes): GCC 12 warns of its own header's
// plain ones.
DERMIS_VNNI inline __m512i AddPairs32(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_maskz_unpacklo_epi32(0xffff, a, b),
                          _mm512_maskz_unpackhi_epi32(0xffff, a, b));
}
DERMIS_VNNI inline __m128i SumFour(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab = AddPairs32(a, b), cd = AddPairs32(c, d);
  const __m512i all = _mm512_add_epi32(_mm512_maskz_unpacklo_epi64(0xff, ab, cd),
                                       _mm512_maskz_unpackhi_epi64(0xff, ab, cd));
  const __m256i half = _mm256_add_epi32(_mm512_maskz_extracti64x4_epi64(0xff, all, 0),
                                        _mm512_maskz_extracti64x4_epi64(0xff, all, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

// The instruction multiplies unsigned by signed bytes without saturation, so b is taken 128 lower:
// x (y - 128) = x y - 128 x. A lane sums at most 2^14 / 16 products of at most 255 * 128.
DERMIS_VNNI void VnniTile(const uint8_t* const* a, const uint8_t* const* b, size_t depth,
                          const uint32_t* a_sums, uint32_t* products) {
  __m512i sums[kTileRows][kTileColumns];
  for (auto& row : sums) {
    for (__m512i& sum : row) sum = _mm512_setzero_si512();
  }
  const __m512i shift = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i y[kTileColumns];
  size_t k = 0;
  for (; k + 64 <= depth; k += 64) {
#pragma GCC unroll 4
    for (size_t c = 0; c < kTileColumns; ++c) {
      y[c] = _mm512_xor_si512(_mm512_loadu_si512(b[c] + k), shift);
    }
#pragma GCC unroll 6
    for (size_t r = 0; r < kTileRows; ++r) {
      const __m512i x = _mm512_loadu_si512(a[r] + k);
#pragma GCC unroll 4
      for (size_t c = 0; c < kTileColumns; ++c) {
        sums[r][c] = _mm512_dpbusd_epi32(sums[r][c], x, y[c]);
      }
    }
  }
  if (k < depth) {
    const __mmask64 mask = (uint64_t{1} << (depth - k)) - 1;
    for (size_t c = 0; c < kTileColumns; ++c) {
      y[c] = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, b[c] + k), shift);
    }
    for (size_t r = 0; r < kTileRows; ++r) {
      const __m512i x = _mm512_maskz_loadu_epi8(mask, a[r] + k);  // 0 beyond the end.
      for (size_t c = 0; c < kTileColumns; ++c) {
        sums[r][c] = _mm512_dpbusd_epi32(sums[r][c], x, y[c]);
      }
    }
  }
  for (size_t r = 0; r < kTileRows; ++r) {
    const __m128i four = _mm_add_epi32(SumFour(sums[r][0], sums[r][1], sums[r][2], sums[r][3]),
                                       _mm_set1_epi32(static_cast<int>(a_sums[r] * 128)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(products + r * kTileColumns), four);
  }
}
#endif

}  // namespace

TileProduct TileProductOf(ByteKernel kernel) {
#ifdef DERMIS_HAS_VNNI
  if (kernel == ByteKernel::kFastest && __builtin_cpu_supports("avx512vnni") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    return VnniTile;
  }
#endif
  (void)kernel;
  return PortableTile;
}

uint32_t SumBytes(const uint8_t* bytes, size_t count) {
  uint32_t sum = 0;
  for (size_t k = 0; k < count; ++k) sum += bytes[k];
  return sum;
}

}  // namespace dermis
