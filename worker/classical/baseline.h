// The task that fits a baseline: which images, which labels, and the numbers as they are stored.
#ifndef DERMIS_WORKER_CLASSICAL_BASELINE_H_
#define DERMIS_WORKER_CLASSICAL_BASELINE_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"

#include "common/split.h"
#include "dermis/v1/task.pb.h"
#include "worker/classical/gram.h"
#include "worker/data/image_source.h"

namespace dermis {

// The products of all images of a set, by index. Called where a fit needs them.
using GramReader = std::function<absl::StatusOr<std::shared_ptr<const Gram>>()>;

// `data`: the task's images, whatever their split; all in memory. `split`: the task's own.
// INVALID_ARGUMENT: other than two classes, a training split of one class.
absl::StatusOr<v1::BaselineOutput> RunBaseline(const v1::BaselineTask& task, const ImageData& data,
                                               const Split& split, const GramReader& gram);

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_BASELINE_H_
