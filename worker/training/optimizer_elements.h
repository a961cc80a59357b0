// One weight's step of each optimiser (optimizer.h has the formulas): the body of a loop on the
// CPU and of a kernel on the GPU, with the same bits where multiply and add are not fused.
#ifndef DERMIS_WORKER_TRAINING_OPTIMIZER_ELEMENTS_H_
#define DERMIS_WORKER_TRAINING_OPTIMIZER_ELEMENTS_H_

#include <cmath>

#include "common/simd.h"

namespace dermis {

struct RmspropFactors {
  float rho, one_minus_rho, rate, epsilon;
};
DERMIS_INLINE void RmspropElement(const RmspropFactors& f, float lambda, float gradient, float& w,
                                  float& square) {
  const float g = gradient + lambda * w;
  const float a = f.rho * square + f.one_minus_rho * (g * g);
  square = a;
  w = w - f.rate * g / (std::sqrt(a) + f.epsilon);
}

DERMIS_INLINE void SgdElement(float rate, float lambda, float gradient, float& w) {
  w = w - rate * (gradient + lambda * w);
}

DERMIS_INLINE void MomentumElement(float rate, float momentum, float lambda, float gradient,
                                   float& w, float& buffer) {
  const float g = gradient + lambda * w;
  const float b = momentum * buffer + g;
  buffer = b;
  w = w - rate * b;
}

DERMIS_INLINE void NesterovElement(float rate, float momentum, float lambda, float gradient,
                                   float& w, float& buffer) {
  const float g = gradient + lambda * w;
  const float b = momentum * buffer + g;
  buffer = b;
  w = w - rate * (g + momentum * b);
}

struct AdamwFactors {
  float one_minus_beta1, beta2, one_minus_beta2, step_size, root_correction, epsilon;
};
DERMIS_INLINE void AdamwElement(const AdamwFactors& f, float shrink, float g, float& w, float& m,
                                float& v) {
  const float mean = m + f.one_minus_beta1 * (g - m);
  const float square = f.beta2 * v + f.one_minus_beta2 * (g * g);
  m = mean;
  v = square;
  w = w * shrink - f.step_size * mean / (std::sqrt(square) / f.root_correction + f.epsilon);
}

DERMIS_INLINE void BlendElement(float share, float now, float& average) {
  average += share * (now - average);
}

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_OPTIMIZER_ELEMENTS_H_
