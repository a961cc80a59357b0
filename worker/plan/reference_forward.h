// The model's graph written out plainly, in double: what an inference plan is held against. Slow.
#ifndef DERMIS_WORKER_PLAN_REFERENCE_FORWARD_H_
#define DERMIS_WORKER_PLAN_REFERENCE_FORWARD_H_

#include <cstdint>
#include <vector>

#include "worker/plan/seed_cnn_weights.h"

namespace dermis {

// input: count x size x size x 3, size = 8 * weights.cells. Gives count x classes logits.
std::vector<double> ReferenceForward(const SeedCnnWeights& weights, uint32_t count,
                                     const float* input);

}  // namespace dermis

#endif  // DERMIS_WORKER_PLAN_REFERENCE_FORWARD_H_
