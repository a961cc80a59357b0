#include "worker/training/rmsprop.h"

#include <cmath>

#include "worker/training/simd.h"

namespace dermis {
namespace {

DERMIS_SIMD void Update(const float* __restrict gradient, uint64_t n, float rho,
                        float one_minus_rho, float rate, float epsilon, float twice_lambda,
                        float* __restrict weights, float* __restrict square) {
  for (uint64_t i = 0; i < n; ++i) {
    const float w = weights[i];
    const float g = gradient[i] + twice_lambda * w;
    const float a = rho * square[i] + one_minus_rho * (g * g);
    square[i] = a;
    weights[i] = w - rate * g / (std::sqrt(a) + epsilon);
  }
}

}  // namespace

double LearningRate(const v1::RmspropSpec& spec, uint64_t step, uint32_t epoch) {
  double rate = spec.learning_rate();
  for (const v1::RateDrop& drop : spec.drops()) {
    if (epoch >= drop.epoch()) rate = drop.learning_rate();
  }
  return rate / (1 + spec.decay() * static_cast<double>(step));
}

void RmspropStep(const v1::RmspropSpec& spec, double rate, bool decayed, const float* gradient,
                 uint64_t n, float* weights, float* square) {
  Update(gradient, n, static_cast<float>(spec.alpha()), static_cast<float>(1 - spec.alpha()),
         static_cast<float>(rate), static_cast<float>(spec.epsilon()),
         decayed ? static_cast<float>(2 * spec.weight_decay()) : 0.0f, weights, square);
}

}  // namespace dermis
