// Logits of test images by an inference plan: what an EvaluateTask computes.
#ifndef DERMIS_WORKER_EVALUATION_EVALUATE_H_
#define DERMIS_WORKER_EVALUATION_EVALUATE_H_

#include "absl/status/statusor.h"
#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"
#include "worker/plan/inference_plan.h"

namespace dermis {

// Test images [task.first, task.first + task.count) of data.split.test (ascending image index), in
// batches of plan.max_batch(), the last one shorter. The bits do not depend on how the test split
// is cut into tasks: a plan gives equal bits at any batch position and size. `data` is task.images,
// `plan` is task.model in task.precision. Errors: INVALID_ARGUMENT where the range is not in the
// test split, or plan and data differ in input size or classes; what the plan says.
absl::StatusOr<v1::EvaluateOutput> RunEvaluate(const v1::EvaluateTask& task, const ImageData& data,
                                               InferencePlan& plan);

}  // namespace dermis

#endif  // DERMIS_WORKER_EVALUATION_EVALUATE_H_
