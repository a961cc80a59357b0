// The seed network as fused oneDNN primitives on one CPU thread.
#ifndef DERMIS_WORKER_PLAN_ONEDNN_PLAN_H_
#define DERMIS_WORKER_PLAN_ONEDNN_PLAN_H_

#include <memory>

#include "absl/status/statusor.h"

#include "dermis/v1/spec.pb.h"
#include "worker/plan/inference_plan.h"
#include "worker/plan/seed_cnn_weights.h"

namespace dermis {

// Each convolution with its ELU and the batch norm after it is one primitive; weights are packed
// once. bf16: activations and weights in bf16, sums and post-ops in fp32. Where the CPU has no bf16
// (less than AVX-512), the same roundings are done between fp32 primitives: same meaning, no gain
// in speed.
absl::StatusOr<std::unique_ptr<InferencePlan>> MakeOnednnPlan(const SeedCnnWeights& weights,
                                                              v1::Precision precision);

}  // namespace dermis

#endif  // DERMIS_WORKER_PLAN_ONEDNN_PLAN_H_
