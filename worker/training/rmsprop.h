// Keras' RMSprop, as the seed uses it, on one flat vector:
//   a <- rho a + (1 - rho) g^2,   w <- w - rate g / (sqrt(a) + epsilon)
// with g = gradient + 2 lambda w where weight decay applies (the gradient of lambda * sum(w^2)).
#ifndef DERMIS_WORKER_TRAINING_RMSPROP_H_
#define DERMIS_WORKER_TRAINING_RMSPROP_H_

#include <cstdint>

#include "dermis/v1/spec.pb.h"

namespace dermis {

// rate / (1 + decay * step). step: optimiser steps done before this one. epoch: first = 1; the last
// drop whose epoch is reached sets the base rate.
double LearningRate(const v1::RmspropSpec& spec, uint64_t step, uint32_t epoch);

// Elementwise in float: the same bits for any vector width. `square` is the state a.
void RmspropStep(const v1::RmspropSpec& spec, double rate, bool decayed, const float* gradient,
                 uint64_t n, float* weights, float* square);

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_RMSPROP_H_
