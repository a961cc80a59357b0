// One function, compiled for several vector widths, chosen at load time. Only for loops whose every
// element is computed alone: then any width gives the same bits (contraction to fused multiply-add
// is off).
#ifndef DERMIS_WORKER_TRAINING_SIMD_H_
#define DERMIS_WORKER_TRAINING_SIMD_H_

#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define DERMIS_SIMD __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define DERMIS_SIMD
#endif
#define DERMIS_INLINE inline __attribute__((always_inline))

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

#endif  // DERMIS_WORKER_TRAINING_SIMD_H_
