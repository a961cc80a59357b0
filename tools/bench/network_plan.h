// An inference plan of a network with made-up weights (speed does not depend on them), its inputs
// filled.
#ifndef DERMIS_TOOLS_BENCH_NETWORK_PLAN_H_
#define DERMIS_TOOLS_BENCH_NETWORK_PLAN_H_

#include <memory>
#include <string>

#include "tools/bench/training.h"
#include "worker/plan/inference_plan.h"

namespace dermis::bench {

// A model file.
std::string MakeWeights(const Network& network);
std::unique_ptr<InferencePlan> MakePlan(const Network& network, v1::Precision precision);

}  // namespace dermis::bench

#endif  // DERMIS_TOOLS_BENCH_NETWORK_PLAN_H_
