// One function, compiled for several vector widths, chosen at load time. Only for loops whose every
// element is computed alone: then any width gives the same bits (contraction to fused multiply-add
// is off).
#ifndef DERMIS_COMMON_SIMD_H_
#define DERMIS_COMMON_SIMD_H_

#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__) && \
    !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define DERMIS_SIMD __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define DERMIS_SIMD
#endif
// On a GPU, too, where a CUDA compiler reads it.
#ifdef __CUDACC__
#define DERMIS_INLINE __host__ __device__ __forceinline__
#else
#define DERMIS_INLINE inline __attribute__((always_inline))
#endif

namespace dermis {

// e^x for x <= 0, relative error < 3e-7, flushed to 0 below -87. Cephes' polynomial (Moshier),
// written so that the compiler turns a loop of it into vectors. NaN gives NaN.
DERMIS_INLINE float ExpNonPositive(float x) {
  const float clamped = x < -87.0f ? -87.0f : x;
  // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
  const float shifted = clamped * 1.44269504088896341f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r) * r + r + 1.0f;
  uint32_t bits;
  std::memcpy(&bits, &shifted, 4);
  bits = (bits + 127u) << 23;  // The constant's own low bits are zero after the shift.
  float power;
  std::memcpy(&power, &bits, 4);
  return p * power;
}

// The same in double for x <= 0, relative error < 1e-14, 0 below -700.
DERMIS_INLINE double ExpNonPositive(double x) {
  const double clamped = x < -700.0 ? -700.0 : x;
  // Adding 1.5 * 2^52 rounds to the nearest integer and leaves it in the low bits.
  const double shifted = clamped * 1.4426950408889634 + 6755399441055744.0;
  const double n = shifted - 6755399441055744.0;
  const double r = (clamped - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double p = 1.0 / 6227020800.0;  // Taylor's series: |r| <= ln 2 / 2.
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  uint64_t bits;
  std::memcpy(&bits, &shifted, 8);
  bits = (bits + 1023u) << 52;  // The constant's own low bits are zero after the shift.
  double power;
  std::memcpy(&power, &bits, 8);
  p *= power;
  return x < -700.0 ? 0.0 : p;
}

// Nearest even; NaN stays NaN.
DERMIS_INLINE uint16_t FloatToBf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>(value != value ? 0x7fc0u : rounded);
}

DERMIS_INLINE float Bf16ToFloat(uint16_t value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

}  // namespace dermis

#endif  // DERMIS_COMMON_SIMD_H_
