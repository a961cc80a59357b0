#include "worker/training/optimizer.h"

#include <cmath>

#include "common/simd.h"

namespace dermis {
namespace {

DERMIS_SIMD void Rmsprop(const float* __restrict gradient, uint64_t n, float rho,
                         float one_minus_rho, float rate, float epsilon, float lambda,
                         float* __restrict weights, float* __restrict square) {
  for (uint64_t i = 0; i < n; ++i) {
    const float w = weights[i];
    const float g = gradient[i] + lambda * w;
    const float a = rho * square[i] + one_minus_rho * (g * g);
    square[i] = a;
    weights[i] = w - rate * g / (std::sqrt(a) + epsilon);
  }
}

DERMIS_SIMD void Sgd(const float* __restrict gradient, uint64_t n, float rate, float lambda,
                     float* __restrict weights) {
  for (uint64_t i = 0; i < n; ++i) {
    weights[i] = weights[i] - rate * (gradient[i] + lambda * weights[i]);
  }
}

DERMIS_SIMD void Momentum(const float* __restrict gradient, uint64_t n, float rate, float lambda,
                          float momentum, float* __restrict weights, float* __restrict buffer) {
  for (uint64_t i = 0; i < n; ++i) {
    const float g = gradient[i] + lambda * weights[i];
    const float b = momentum * buffer[i] + g;
    buffer[i] = b;
    weights[i] = weights[i] - rate * b;
  }
}

DERMIS_SIMD void Nesterov(const float* __restrict gradient, uint64_t n, float rate, float lambda,
                          float momentum, float* __restrict weights, float* __restrict buffer) {
  for (uint64_t i = 0; i < n; ++i) {
    const float g = gradient[i] + lambda * weights[i];
    const float b = momentum * buffer[i] + g;
    buffer[i] = b;
    weights[i] = weights[i] - rate * (g + momentum * b);
  }
}

DERMIS_SIMD void Adamw(const float* __restrict gradient, uint64_t n, float shrink,
                       float one_minus_beta1, float beta2, float one_minus_beta2, float step_size,
                       float root_correction, float epsilon, float* __restrict weights,
                       float* __restrict m, float* __restrict v) {
  for (uint64_t i = 0; i < n; ++i) {
    const float g = gradient[i];
    const float mean = m[i] + one_minus_beta1 * (g - m[i]);
    const float square = beta2 * v[i] + one_minus_beta2 * (g * g);
    m[i] = mean;
    v[i] = square;
    weights[i] =
        weights[i] * shrink - step_size * mean / (std::sqrt(square) / root_correction + epsilon);
  }
}

constexpr uint64_t kLanes = 16;

// Sixteen sums in double, added in order: fixed whatever the vector width.
DERMIS_SIMD double SumOfSquares(const float* __restrict values, uint64_t n) {
  double lanes[kLanes] = {};
  uint64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (uint64_t k = 0; k < kLanes; ++k) {
      const double v = static_cast<double>(values[i + k]);
      lanes[k] += v * v;
    }
  }
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  for (double lane : lanes) sum += lane;
  return sum;
}

DERMIS_SIMD void Scale(float factor, float* __restrict values, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) values[i] *= factor;
}

DERMIS_SIMD void BlendLoop(float share, const float* __restrict now, uint64_t n,
                           float* __restrict average) {
  for (uint64_t i = 0; i < n; ++i) average[i] += share * (now[i] - average[i]);
}

}  // namespace

std::vector<std::string> OptimizerSlots(const v1::OptimizerSpec& spec) {
  switch (spec.kind_case()) {
    case v1::OptimizerSpec::kRmsprop:
      return {"rmsprop"};
    case v1::OptimizerSpec::kSgd:
      return spec.sgd().momentum() > 0 ? std::vector<std::string>{"sgd"}
                                       : std::vector<std::string>{};
    case v1::OptimizerSpec::kAdamw:
      return {"adamw_m", "adamw_v"};
    case v1::OptimizerSpec::KIND_NOT_SET:
      break;
  }
  return {};
}

double BaseLearningRate(const v1::OptimizerSpec& spec, uint64_t step, uint32_t epoch) {
  if (spec.has_sgd()) return spec.sgd().learning_rate();
  if (spec.has_adamw()) return spec.adamw().learning_rate();
  const v1::RmspropSpec& rmsprop = spec.rmsprop();
  double rate = rmsprop.learning_rate();
  for (const v1::RateDrop& drop : rmsprop.drops()) {
    if (epoch >= drop.epoch()) rate = drop.learning_rate();
  }
  return rate / (1 + rmsprop.decay() * static_cast<double>(step));
}

void OptimizerStep(const v1::OptimizerSpec& spec, double rate, uint64_t step, bool decayed,
                   const float* gradient, uint64_t n, float* weights,
                   absl::Span<float* const> slots) {
  const float rate32 = static_cast<float>(rate);
  switch (spec.kind_case()) {
    case v1::OptimizerSpec::kRmsprop: {
      const v1::RmspropSpec& s = spec.rmsprop();
      const double lambda = decayed ? s.weight_decay() : s.other_weight_decay();
      Rmsprop(gradient, n, static_cast<float>(s.alpha()), static_cast<float>(1 - s.alpha()), rate32,
              static_cast<float>(s.epsilon()), static_cast<float>(2 * lambda), weights, slots[0]);
      return;
    }
    case v1::OptimizerSpec::kSgd: {
      const v1::SgdSpec& s = spec.sgd();
      const float lambda = static_cast<float>(decayed ? s.weight_decay() : s.other_weight_decay());
      const float momentum = static_cast<float>(s.momentum());
      if (slots.empty()) return Sgd(gradient, n, rate32, lambda, weights);
      // A buffer of zeros makes the first step b = g.
      return (s.nesterov() ? Nesterov : Momentum)(gradient, n, rate32, lambda, momentum, weights,
                                                  slots[0]);
    }
    case v1::OptimizerSpec::kAdamw: {
      const v1::AdamwSpec& s = spec.adamw();
      const double lambda = decayed ? s.weight_decay() : s.other_weight_decay();
      const double t = static_cast<double>(step + 1);
      const double correction1 = 1 - std::pow(s.beta1(), t),
                   correction2 = 1 - std::pow(s.beta2(), t);
      Adamw(gradient, n, static_cast<float>(1 - rate * lambda), static_cast<float>(1 - s.beta1()),
            static_cast<float>(s.beta2()), static_cast<float>(1 - s.beta2()),
            static_cast<float>(rate / correction1), static_cast<float>(std::sqrt(correction2)),
            static_cast<float>(s.epsilon()), weights, slots[0], slots[1]);
      return;
    }
    case v1::OptimizerSpec::KIND_NOT_SET:
      return;
  }
}

void ClipNorm(double max_norm, float* gradient, uint64_t n) {
  const double norm = std::sqrt(SumOfSquares(gradient, n));
  const double factor = max_norm / (norm + 1e-6);
  // A norm that is not finite clips nothing: what it stands for must show, not be hidden.
  if (factor < 1) Scale(static_cast<float>(factor), gradient, n);
}

void Blend(double decay, const float* now, uint64_t n, float* average) {
  // One rounded factor: with two the average would shrink, they do not add up to 1.
  BlendLoop(static_cast<float>(1 - decay), now, n, average);
}

}  // namespace dermis
