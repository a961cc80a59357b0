// How activation maps are stored, float or bf16, and read into float: all arithmetic is in float.
// And what stands for the choice of a pool of 2 x 2 pixels.
#ifndef DERMIS_WORKER_TRAINING_STORAGE_H_
#define DERMIS_WORKER_TRAINING_STORAGE_H_

#include <cstdint>

#include "common/simd.h"

namespace dermis {

// Dropped by dropout; 0..3 name the pixel of a 2 x 2 window that held the maximum.
inline constexpr uint8_t kDropped = 4;

struct Bf16 {
  uint16_t bits;
};

DERMIS_INLINE float Load(const float* p) { return *p; }
DERMIS_INLINE float Load(const Bf16* p) { return Bf16ToFloat(p->bits); }
DERMIS_INLINE void Store(float v, float* p) { *p = v; }
DERMIS_INLINE void Store(float v, Bf16* p) { p->bits = FloatToBf16(v); }

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_STORAGE_H_
