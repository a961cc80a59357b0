// How weights follow their gradient, on one flat vector, elementwise: RMSprop, SGD and AdamW as
// torch.optim has them (a parity test takes twenty steps of each beside PyTorch).
//   rmsprop  a <- rho a + (1 - rho) g^2,  w <- w - rate g / (sqrt(a) + epsilon),  g = gradient + 2
//   lambda w sgd      b <- momentum b + g (the first step: b = g),  w <- w - rate (nesterov ? g +
//   momentum b : b),
//            g = gradient + lambda w
//   adamw    w <- w - rate lambda w,  m <- m + (1 - beta1) (gradient - m),
//            v <- beta2 v + (1 - beta2) gradient^2,
//            w <- w - rate / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon),  t from 1
// lambda is `weight_decay` for weights of convolutions and the last layer, `other_weight_decay` for
// the rest (biases, norms).
#ifndef DERMIS_WORKER_TRAINING_OPTIMIZER_H_
#define DERMIS_WORKER_TRAINING_OPTIMIZER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "dermis/v1/spec.pb.h"
#include "worker/training/optimizer_elements.h"

namespace dermis {

// What it keeps beside the weights: a vector as long as they are for each name, zero at first. The
// names stand in the training state ("rmsprop", "sgd", "adamw_m", ...).
std::vector<std::string> OptimizerSlots(const v1::OptimizerSpec& spec);

// The rate of the step that follows `step` steps, before any schedule. epoch: first = 1.
double BaseLearningRate(const v1::OptimizerSpec& spec, uint64_t step, uint32_t epoch);

// One step, the one after `step` steps. decayed: which weight decay. slots: of OptimizerSlots, each
// n floats. Float arithmetic, elementwise: the same bits for any vector width.
void OptimizerStep(const v1::OptimizerSpec& spec, double rate, uint64_t step, bool decayed,
                   const float* gradient, uint64_t n, float* weights,
                   absl::Span<float* const> slots);

// What optimizer_elements.h takes at the step after `step` steps.
RmspropFactors FactorsOf(const v1::RmspropSpec& spec, double rate);
AdamwFactors FactorsOf(const v1::AdamwSpec& spec, double rate, uint64_t step);
// The element's lambda (rmsprop, sgd) or shrink (adamw).
float PenaltyOf(const v1::OptimizerSpec& spec, double rate, bool decayed);

// Multiplies the gradient so that its Euclidean norm is max_norm at most, as
// torch.nn.utils.clip_grad_norm_ does.
void ClipNorm(double max_norm, float* gradient, uint64_t n);

// average <- average + (1 - decay) (now - average).
void Blend(double decay, const float* now, uint64_t n, float* average);

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_OPTIMIZER_H_
