// Could the model do without the lesion, or without all else? Its areas under the curve when it
// sees a part of each image.
#ifndef DERMIS_WORKER_EVALUATION_SHORTCUT_H_
#define DERMIS_WORKER_EVALUATION_SHORTCUT_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"

#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"

namespace dermis {

// `outputs`: of ShortcutNeeds (common/lesion_tasks.h), in their order. Areas of the last class's
// probability over the test images with a mask, with 95 % bootstrap intervals by group.
absl::StatusOr<v1::ShortcutOutput> RunShortcut(
    const v1::ShortcutTask& task, const std::vector<std::shared_ptr<const v1::Payload>>& outputs,
    const ImageData& data);

}  // namespace dermis

#endif  // DERMIS_WORKER_EVALUATION_SHORTCUT_H_
