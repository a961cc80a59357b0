// The explanation engine's task functions. Pure: same bits anywhere in a numerics class.
#ifndef DERMIS_WORKER_EXPLAIN_EXPLAIN_H_
#define DERMIS_WORKER_EXPLAIN_EXPLAIN_H_

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"
#include "worker/plan/inference_plan.h"

namespace dermis {

absl::StatusOr<v1::SuperpixelOutput> RunSuperpixels(const v1::SuperpixelTask& task, const ImageSet& set);

// `superpixels`: the result of the SuperpixelTask of this image and parameters.
absl::StatusOr<v1::PerturbOutput> RunPerturb(const v1::PerturbTask& task, const ImageData& data,
                                             const v1::SuperpixelOutput& superpixels, InferencePlan& plan);

// Of a perturbation by `partition`, whose masks depend on outputs: runs the model itself.
absl::StatusOr<v1::Attribution> RunPartition(const v1::FitTask& task, const ImageData& data,
                                             const v1::SuperpixelOutput& superpixels, InferencePlan& plan);

// `runs`: outputs of the first RunsOfUnits (common/estimators.h) runs of the perturbation, in order of run; what lies
// beyond `units` is ignored. One thread, double.
absl::StatusOr<v1::Attribution> RunFit(const v1::FitTask& task, uint32_t superpixel_count,
                                       const std::vector<v1::PerturbOutput>& runs);

// Mask row -> S bits, as the runs of all methods use them (for shapley, row r of the whole perturbation; for Shapley rows of pair p
// are: the S - 1 proper prefixes of the order, then of its reverse; the two end points f(x), f(hidden)
// are rows 0 and 1 of run 0, before its pairs).
std::vector<std::vector<uint8_t>> MasksOfRun(const v1::Perturbation& perturbation, uint32_t run,
                                             uint32_t superpixel_count);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_EXPLAIN_H_
