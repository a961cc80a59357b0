#include "worker/classical/byte_products.h"

#include <algorithm>

#include "common/simd.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#define DERMIS_HAS_VNNI 1
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#define DERMIS_HAS_AMX 1
#endif
#endif

namespace dermis {
namespace {

// A tile of the kernels that add up in vectors: the products of 6 rows with 4 others.
constexpr size_t kTileRows = 6;
constexpr size_t kTileColumns = 4;
// Bytes of a row that they work on at a time: six rows stay in the first cache, kPanel in the
// second. 2^12 * 255 * 255 stays below 2^31.
constexpr size_t kTileDepth = 4096;
constexpr size_t kPanel = 96;  // A multiple of kTileColumns.
static_assert(kPanel % kTileColumns == 0);

// products[r * kTileColumns + c] = sum over k < depth of a[r][k] * b[c][k]. a: kTileRows pointers,
// b: kTileColumns; depth <= kTileDepth. a_sums[r]: the sum of a[r][0..depth).
using TileProduct = void (*)(const uint8_t* const* a, const uint8_t* const* b, size_t depth,
                             const uint32_t* a_sums, uint32_t* products);

uint32_t SumBytes(const uint8_t* bytes, size_t count) {
  uint32_t sum = 0;
  for (size_t k = 0; k < count; ++k) sum += bytes[k];
  return sum;
}

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
// x (y - 128) = x y - 128 x. A lane sums at most 2^12 / 16 products of at most 255 * 128.
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
#endif  // DERMIS_HAS_VNNI

void MultiplyByTiles(TileProduct multiply, absl::Span<const uint8_t* const> a,
                     absl::Span<const uint8_t* const> b, size_t begin, size_t end,
                     ptrdiff_t diagonal, uint32_t* products) {
  std::fill_n(products, a.size() * kBlockStride, 0u);
  uint32_t sums[kBlockRows];
  for (size_t start = begin; start < end; start += kTileDepth) {
    const size_t count = std::min(kTileDepth, end - start);
    for (size_t i = 0; i < a.size(); ++i) sums[i] = SumBytes(a[i] + start, count);
    for (size_t panel = 0; panel < b.size(); panel += kPanel) {
      for (size_t i = 0; i < a.size(); i += kTileRows) {
        // Rows beyond the block are computed with it and dropped.
        const size_t rows = std::min(kTileRows, a.size() - i);
        const uint8_t* x[kTileRows];
        uint32_t x_sums[kTileRows];
        for (size_t r = 0; r < kTileRows; ++r) {
          const size_t row = i + std::min(r, rows - 1);
          x[r] = a[row] + start;
          x_sums[r] = sums[row];
        }
        const ptrdiff_t wanted = static_cast<ptrdiff_t>(i + rows) + diagonal;
        const size_t stop = std::min(
            {panel + kPanel, b.size(), static_cast<size_t>(std::max(wanted, ptrdiff_t{0}))});
        for (size_t j = panel; j < stop; j += kTileColumns) {
          const uint8_t* y[kTileColumns];
          for (size_t c = 0; c < kTileColumns; ++c) {
            y[c] = b[std::min(j + c, b.size() - 1)] + start;
          }
          uint32_t tile[kTileRows * kTileColumns];
          multiply(x, y, count, x_sums, tile);
          const size_t columns = std::min(kTileColumns, b.size() - j);
          for (size_t r = 0; r < rows; ++r) {
            for (size_t c = 0; c < columns; ++c) {
              products[(i + r) * kBlockStride + j + c] += tile[r * kTileColumns + c];
            }
          }
        }
      }
    }
  }
}

#ifdef DERMIS_HAS_AMX
// A tile register holds 16 rows of 64 bytes. The left operand's are 16 images' 64 bytes each; the
// right one's are turned by words of 4 bytes: its row k holds bytes 4 k .. 4 k + 3 of 16 images.
constexpr size_t kSide = 16;
constexpr size_t kStep = 64;
constexpr size_t kTileBytes = kSide * kStep;
// Four tiles of products are added up at a time: 32 rows with 32 others.
constexpr size_t kGroup = 2 * kSide;
// Bytes of a row that are packed at a time: the left group (32 KiB) stays in the first cache, a
// block of right ones (512 KiB) and the products (1 MiB) in the second.
constexpr size_t kAmxDepth = 1024;
constexpr size_t kAmxSteps = kAmxDepth / kStep;
static_assert(kBlockRows % kGroup == 0);

#define DERMIS_AMX __attribute__((target("avx512f,avx512bw,avx512vl,amx-tile,amx-int8")))

// GCC's loads of tiles do not tell the compiler that they read memory.
#define DERMIS_WRITTEN() __asm__ volatile("" ::: "memory")

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);
constexpr TileConfig kTileConfig;

// 64 bytes of `row`, zeros from `count` on.
DERMIS_AMX inline __m512i LoadBytes(const uint8_t* row, size_t count) {
  if (count >= kStep) return _mm512_loadu_si512(row);
  return _mm512_maskz_loadu_epi8((uint64_t{1} << count) - 1, row);
}

// Rows first .. first + 15, zeros where there is none, as tiles one after the other.
DERMIS_AMX void PackLeft(absl::Span<const uint8_t* const> rows, size_t first, size_t start,
                         size_t depth, uint8_t* out) {
  for (size_t r = 0; r < kSide; ++r) {
    uint8_t* to = out + r * kStep;
    for (size_t k = 0; k < depth; k += kStep, to += kTileBytes) {
      const __m512i bytes = first + r < rows.size()
                                ? LoadBytes(rows[first + r] + start + k, depth - k)
                                : _mm512_setzero_si512();
      _mm512_store_si512(to, bytes);
    }
  }
}

#define DERMIS_LOW_32(x, y) _mm512_maskz_unpacklo_epi32(0xffff, x, y)
#define DERMIS_HIGH_32(x, y) _mm512_maskz_unpackhi_epi32(0xffff, x, y)
#define DERMIS_LOW_64(x, y) _mm512_maskz_unpacklo_epi64(0xff, x, y)
#define DERMIS_HIGH_64(x, y) _mm512_maskz_unpackhi_epi64(0xff, x, y)
#define DERMIS_EVEN_128(x, y) _mm512_maskz_shuffle_i32x4(0xffff, x, y, 0x88)
#define DERMIS_ODD_128(x, y) _mm512_maskz_shuffle_i32x4(0xffff, x, y, 0xdd)

DERMIS_AMX void PackRight(absl::Span<const uint8_t* const> rows, size_t first, size_t start,
                          size_t depth, uint8_t* out) {
  for (size_t k = 0; k < depth; k += kStep, out += kTileBytes) {
    // Four images each: word[4 q + w] has, in lane l, word 4 l + w of images 4 q .. 4 q + 3.
    __m512i word[kSide];
#pragma GCC unroll 4
    for (size_t q = 0; q < 4; ++q) {
      __m512i in[4];
#pragma GCC unroll 4
      for (size_t r = 0; r < 4; ++r) {
        const size_t row = first + 4 * q + r;
        in[r] = row < rows.size() ? LoadBytes(rows[row] + start + k, depth - k)
                                  : _mm512_setzero_si512();
      }
      const __m512i low_a = DERMIS_LOW_32(in[0], in[1]), high_a = DERMIS_HIGH_32(in[0], in[1]);
      const __m512i low_b = DERMIS_LOW_32(in[2], in[3]), high_b = DERMIS_HIGH_32(in[2], in[3]);
      word[4 * q] = DERMIS_LOW_64(low_a, low_b);
      word[4 * q + 1] = DERMIS_HIGH_64(low_a, low_b);
      word[4 * q + 2] = DERMIS_LOW_64(high_a, high_b);
      word[4 * q + 3] = DERMIS_HIGH_64(high_a, high_b);
    }
#pragma GCC unroll 4
    for (size_t w = 0; w < 4; ++w) {
      const __m512i even_a = DERMIS_EVEN_128(word[w], word[4 + w]),  // Lanes 0 and 2 of both.
          odd_a = DERMIS_ODD_128(word[w], word[4 + w]),
                    even_b = DERMIS_EVEN_128(word[8 + w], word[12 + w]),
                    odd_b = DERMIS_ODD_128(word[8 + w], word[12 + w]);
      _mm512_store_si512(out + w * kStep, DERMIS_EVEN_128(even_a, even_b));
      _mm512_store_si512(out + (4 + w) * kStep, DERMIS_EVEN_128(odd_a, odd_b));
      _mm512_store_si512(out + (8 + w) * kStep, DERMIS_ODD_128(even_a, even_b));
      _mm512_store_si512(out + (12 + w) * kStep, DERMIS_ODD_128(odd_a, odd_b));
    }
  }
}

// products (32 x 32, rows kBlockStride apart) += left * right of `steps` tiles; left and right: two
// rows of tiles each, kAmxSteps apart.
DERMIS_AMX void MultiplyGroup(const uint8_t* left, const uint8_t* right, size_t steps, bool first,
                              uint32_t* products) {
  constexpr size_t kRowBytes = kBlockStride * sizeof(uint32_t);
  uint32_t* const below = products + kSide * kBlockStride;
  if (first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, products, kRowBytes);
    _tile_loadd(1, products + kSide, kRowBytes);
    _tile_loadd(2, below, kRowBytes);
    _tile_loadd(3, below + kSide, kRowBytes);
  }
  for (size_t k = 0; k < steps; ++k, left += kTileBytes, right += kTileBytes) {
    _tile_loadd(4, left, kStep);
    _tile_loadd(6, right, kStep);
    _tile_dpbuud(0, 4, 6);
    _tile_loadd(7, right + kAmxSteps * kTileBytes, kStep);
    _tile_dpbuud(1, 4, 7);
    _tile_loadd(5, left + kAmxSteps * kTileBytes, kStep);
    _tile_dpbuud(2, 5, 6);
    _tile_dpbuud(3, 5, 7);
  }
  _tile_stored(0, products, kRowBytes);
  _tile_stored(1, products + kSide, kRowBytes);
  _tile_stored(2, below, kRowBytes);
  _tile_stored(3, below + kSide, kRowBytes);
}

DERMIS_AMX void MultiplyByAmx(absl::Span<const uint8_t* const> a,
                              absl::Span<const uint8_t* const> b, size_t begin, size_t end,
                              ptrdiff_t diagonal, uint8_t* left, uint8_t* right,
                              uint32_t* products) {
  constexpr size_t kSideBytes = kAmxSteps * kTileBytes;  // Of 16 packed rows.
  _tile_loadconfig(&kTileConfig);
  for (size_t start = begin; start < end; start += kAmxDepth) {
    const size_t count = std::min(kAmxDepth, end - start);
    const size_t steps = (count + kStep - 1) / kStep;
    for (size_t j = 0; j < b.size(); j += kGroup) {
      PackRight(b, j, start, count, right + j / kSide * kSideBytes);
      PackRight(b, j + kSide, start, count, right + (j / kSide + 1) * kSideBytes);
    }
    for (size_t i = 0; i < a.size(); i += kGroup) {
      PackLeft(a, i, start, count, left);
      PackLeft(a, i + kSide, start, count, left + kSideBytes);
      DERMIS_WRITTEN();
      const ptrdiff_t wanted = static_cast<ptrdiff_t>(std::min(i + kGroup, a.size())) + diagonal;
      const size_t stop = std::min(b.size(), static_cast<size_t>(std::max(wanted, ptrdiff_t{0})));
      for (size_t j = 0; j < stop; j += kGroup) {
        MultiplyGroup(left, right + j / kSide * kSideBytes, steps, start == begin,
                      products + i * kBlockStride + j);
      }
    }
  }
  _tile_release();  // A thread that holds tiles costs more to switch.
}

bool AmxIsAllowed() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;
  if ((d & kAmxTile) == 0 || (d & kAmxInt8) == 0) return false;
  if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl")) return false;
  // AVX-512 is there, and so is XGETBV.
  constexpr unsigned kTileState = 3u << 17;
  __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  if ((a & kTileState) != kTileState) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA.
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif  // DERMIS_HAS_AMX

}  // namespace

// Room for packed rows, in whole cache lines.
struct ByteProducts::Tiles {
#ifdef DERMIS_HAS_AMX
  alignas(64) uint8_t left[kGroup * kAmxDepth];
  alignas(64) uint8_t right[kBlockRows * kAmxDepth];
#endif
};

bool HasKernel(ByteKernel kernel) {
  switch (kernel) {
    case ByteKernel::kAmx: {
#ifdef DERMIS_HAS_AMX
      static const bool allowed = AmxIsAllowed();
      return allowed;
#else
      return false;
#endif
    }
    case ByteKernel::kVnni:
#ifdef DERMIS_HAS_VNNI
      return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl");
#else
      return false;
#endif
    case ByteKernel::kFastest:
    case ByteKernel::kPortable:
      break;
  }
  return true;
}

ByteProducts::ByteProducts(ByteKernel kernel)
    : kernel_(kernel), products_(kBlockRows * kBlockStride) {
  if (kernel_ == ByteKernel::kFastest || !HasKernel(kernel_)) {
    kernel_ = HasKernel(ByteKernel::kAmx)    ? ByteKernel::kAmx
              : HasKernel(ByteKernel::kVnni) ? ByteKernel::kVnni
                                             : ByteKernel::kPortable;
  }
  if (kernel_ == ByteKernel::kAmx) tiles_ = std::make_unique<Tiles>();
}

ByteProducts::~ByteProducts() = default;

void ByteProducts::Multiply(absl::Span<const uint8_t* const> a, absl::Span<const uint8_t* const> b,
                            size_t begin, size_t end, ptrdiff_t diagonal) {
  TileProduct multiply = PortableTile;
#ifdef DERMIS_HAS_AMX
  if (kernel_ == ByteKernel::kAmx) {
    MultiplyByAmx(a, b, begin, end, diagonal, tiles_->left, tiles_->right, products_.data());
    return;
  }
#endif
#ifdef DERMIS_HAS_VNNI
  if (kernel_ == ByteKernel::kVnni) multiply = VnniTile;
#endif
  MultiplyByTiles(multiply, a, b, begin, end, diagonal, products_.data());
}

}  // namespace dermis
