// Activations of one value, in a loop on the CPU or a kernel on the GPU. NaN stays NaN.
#ifndef DERMIS_WORKER_TRAINING_ACTIVATIONS_H_
#define DERMIS_WORKER_TRAINING_ACTIVATIONS_H_

#include "common/simd.h"

namespace dermis {

DERMIS_INLINE float Relu(float v) { return v < 0.0f ? 0.0f : v; }

DERMIS_INLINE float Elu(float x) {
  const float negative = ExpNonPositive(x) - 1.0f;
  return x > 0.0f ? x : negative;
}
// ELU's slope where it gave a.
DERMIS_INLINE float EluSlope(float a) { return a > 0.0f ? 1.0f : a + 1.0f; }

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_ACTIVATIONS_H_
