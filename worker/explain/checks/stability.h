// Stability: what an attribution does when something changes that should not matter (noise, the
// seed, what hides), or that should (the model's weights). Pure, as all task functions.
#ifndef DERMIS_WORKER_EXPLAIN_CHECKS_STABILITY_H_
#define DERMIS_WORKER_EXPLAIN_CHECKS_STABILITY_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"

namespace dermis {

// results: of NeedsOf(the task), in its order (common/checks.h). `data`: of the task's images, for
// the priors alone. INVALID_ARGUMENT: results that do not fit.
absl::StatusOr<v1::StabilityOutput> RunStability(
    const v1::StabilityTask& task, const std::vector<std::shared_ptr<const v1::Payload>>& results,
    const ImageData& data);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_CHECKS_STABILITY_H_
