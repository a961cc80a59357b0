// The lesion test's tasks: the model on the zones of one image, and the test over all images.
#ifndef DERMIS_WORKER_EXPLAIN_LESION_LESION_H_
#define DERMIS_WORKER_EXPLAIN_LESION_LESION_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"

#include "common/image_set.h"
#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"
#include "worker/plan/inference_plan.h"

namespace dermis {

// Zones as they are and as the nulls lay them, each with the model's outputs on the 16 subsets.
// Nulls leave sizes as they are but for the exchange, whose partner is a test image with a mask and
// of another group, with all four zones where one is found. `evaluations`: masked inputs that were
// run. INVALID_ARGUMENT: an image without a mask, a set that is not square or has no partner.
absl::StatusOr<v1::LesionOutput> RunLesion(const v1::LesionTask& task, const ImageData& data,
                                           InferencePlan& plan, uint64_t* evaluations);

// `outputs`: of task.images(), in order.
absl::StatusOr<v1::LesionSummary> RunLesionSummary(
    const v1::LesionSummaryTask& task,
    const std::vector<std::shared_ptr<const v1::Payload>>& outputs, const ImageSet& set);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_LESION_LESION_H_
