#include "worker/training/optimizer.h"

#include <cmath>

#include "common/simd.h"
#include "worker/training/optimizer_elements.h"

namespace dermis {
namespace {

DERMIS_SIMD void Rmsprop(const float* __restrict gradient, uint64_t n, RmspropFactors factors,
                         float lambda, float* __restrict weights, float* __restrict square) {
  for (uint64_t i = 0; i < n; ++i) {
    RmspropElement(factors, lambda, gradient[i], weights[i], square[i]);
  }
}

DERMIS_SIMD void Sgd(const float* __restrict gradient, uint64_t n, float rate, float lambda,
                     float* __restrict weights) {
  for (uint64_t i = 0; i < n; ++i) SgdElement(rate, lambda, gradient[i], weights[i]);
}

DERMIS_SIMD void Momentum(const float* __restrict gradient, uint64_t n, float rate, float lambda,
                          float momentum, float* __restrict weights, float* __restrict buffer) {
  for (uint64_t i = 0; i < n; ++i) {
    MomentumElement(rate, momentum, lambda, gradient[i], weights[i], buffer[i]);
  }
}

DERMIS_SIMD void Nesterov(const float* __restrict gradient, uint64_t n, float rate, float lambda,
                          float momentum, float* __restrict weights, float* __restrict buffer) {
  for (uint64_t i = 0; i < n; ++i) {
    NesterovElement(rate, momentum, lambda, gradient[i], weights[i], buffer[i]);
  }
}

DERMIS_SIMD void Adamw(const float* __restrict gradient, uint64_t n, AdamwFactors factors,
                       float shrink, float* __restrict weights, float* __restrict m,
                       float* __restrict v) {
  for (uint64_t i = 0; i < n; ++i) {
    AdamwElement(factors, shrink, gradient[i], weights[i], m[i], v[i]);
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
  for (uint64_t i = 0; i < n; ++i) BlendElement(share, now[i], average[i]);
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

RmspropFactors FactorsOf(const v1::RmspropSpec& spec, double rate) {
  return {static_cast<float>(spec.alpha()), static_cast<float>(1 - spec.alpha()),
          static_cast<float>(rate), static_cast<float>(spec.epsilon())};
}

AdamwFactors FactorsOf(const v1::AdamwSpec& spec, double rate, uint64_t step) {
  const double t = static_cast<double>(step + 1);
  const double correction1 = 1 - std::pow(spec.beta1(), t),
               correction2 = 1 - std::pow(spec.beta2(), t);
  return {static_cast<float>(1 - spec.beta1()), static_cast<float>(spec.beta2()),
          static_cast<float>(1 - spec.beta2()), static_cast<float>(rate / correction1),
          static_cast<float>(std::sqrt(correction2)), static_cast<float>(spec.epsilon())};
}

float PenaltyOf(const v1::OptimizerSpec& spec, double rate, bool decayed) {
  const auto lambda = [decayed](const auto& s) {
    return decayed ? s.weight_decay() : s.other_weight_decay();
  };
  switch (spec.kind_case()) {
    case v1::OptimizerSpec::kRmsprop:
      return static_cast<float>(2 * lambda(spec.rmsprop()));
    case v1::OptimizerSpec::kSgd:
      return static_cast<float>(lambda(spec.sgd()));
    case v1::OptimizerSpec::kAdamw:
      return static_cast<float>(1 - rate * lambda(spec.adamw()));
    case v1::OptimizerSpec::KIND_NOT_SET:
      break;
  }
  return 0;
}

void OptimizerStep(const v1::OptimizerSpec& spec, double rate, uint64_t step, bool decayed,
                   const float* gradient, uint64_t n, float* weights,
                   absl::Span<float* const> slots) {
  const float rate32 = static_cast<float>(rate), penalty = PenaltyOf(spec, rate, decayed);
  switch (spec.kind_case()) {
    case v1::OptimizerSpec::kRmsprop:
      return Rmsprop(gradient, n, FactorsOf(spec.rmsprop(), rate), penalty, weights, slots[0]);
    case v1::OptimizerSpec::kSgd: {
      const float momentum = static_cast<float>(spec.sgd().momentum());
      if (slots.empty()) return Sgd(gradient, n, rate32, penalty, weights);
      // A buffer of zeros makes the first step b = g.
      return (spec.sgd().nesterov() ? Nesterov : Momentum)(gradient, n, rate32, penalty, momentum,
                                                           weights, slots[0]);
    }
    case v1::OptimizerSpec::kAdamw:
      return Adamw(gradient, n, FactorsOf(spec.adamw(), rate, step), penalty, weights, slots[0],
                   slots[1]);
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
