// Fidelity: does the output follow what an attribution says of it? Pure, as all task functions.
#ifndef DERMIS_WORKER_EXPLAIN_CHECKS_FIDELITY_H_
#define DERMIS_WORKER_EXPLAIN_CHECKS_FIDELITY_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"
#include "worker/explain/masks.h"
#include "worker/plan/inference_plan.h"

namespace dermis {

// Superpixels by falling sign * value; ties to the lower index.
std::vector<uint32_t> OrderOf(absl::Span<const double> values, double sign);

// Mask k of 0 .. S: without the first k of the order (deletion), or with only these (insertion).
std::vector<Mask> DeletionMasks(absl::Span<const uint32_t> order);
std::vector<Mask> InsertionMasks(absl::Span<const uint32_t> order);

// The results that the task names, in the order of NeedsOf (common/checks.h), each once.
struct FidelityInputs {
  const v1::SuperpixelOutput* superpixels = nullptr;
  const v1::Payload* attribution = nullptr;               // Null: the priors are judged.
  const v1::SuperpixelOutput* own_superpixels = nullptr;  // Of a fit.
};

// Deletion by the task's hidden value and insertion from the blurred image, both towards the
// predicted class (the positive one where f(x)'s margin is not below 0); the random prior's curves
// are means over its orders. Infidelity of a fit is judged on its own superpixels and hidden value,
// of other maps on the common ones; draws are the same for all. RISE's values are means of f: on
// the common superpixels they are averaged, not summed, and judged after the best scale and offset.
// `plan`: of the task's model. *evaluations = inputs that were run.
absl::StatusOr<v1::FidelityOutput> RunFidelity(const v1::FidelityTask& task,
                                               const FidelityInputs& inputs, const ImageData& data,
                                               InferencePlan& plan, uint64_t* evaluations);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_CHECKS_FIDELITY_H_
