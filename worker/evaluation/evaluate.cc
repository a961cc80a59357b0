#include "worker/evaluation/evaluate.h"

#include <algorithm>
#include <array>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

#include "common/lesion_tasks.h"
#include "common/progress.h"
#include "common/status_macros.h"
#include "worker/data/hide.h"
#include "worker/plan/model_pixels.h"

namespace dermis {

absl::StatusOr<v1::EvaluateOutput> RunEvaluate(const v1::EvaluateTask& task, const ImageData& data,
                                               InferencePlan& plan) {
  const std::vector<uint32_t>& part =
      task.part() == v1::SPLIT_PART_VALIDATION ? data.split.validation : data.split.test;
  const std::vector<uint32_t> listed =
      task.has_hide() ? MaskedImages(data.set->manifest(), part) : part;
  if (task.count() == 0 || uint64_t{task.first()} + task.count() > listed.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "evaluate: images [", task.first(), ", ", uint64_t{task.first()} + task.count(),
        ") of a split's part of ", listed.size(), " images", task.has_hide() ? " with a mask" : ""));
  }
  if (plan.size() != data.size || plan.classes() != data.classes) {
    return absl::InvalidArgumentError(
        absl::StrCat("evaluate: the model takes ", plan.size(), " x ", plan.size(),
                     " pixels and has ", plan.classes(), " classes, the images have ", data.size,
                     " x ", data.size, " pixels and ", data.classes, " classes"));
  }
  // One normalised float a byte value: the same bits as computing each, and several times faster.
  const Normalisation normalise = NormalisationOf(data, plan);
  std::array<float, 256> value;
  for (int v = 0; v < 256; ++v) value[v] = normalise(static_cast<float>(v));

  v1::EvaluateOutput output;
  output.set_classes(data.classes);
  output.mutable_images()->Add(listed.begin() + task.first(),
                               listed.begin() + task.first() + task.count());
  output.mutable_logits()->Resize(static_cast<int>(task.count() * data.classes), 0);
  float* logits = output.mutable_logits()->mutable_data();
  const size_t image_values = size_t{data.size} * data.size * 3;
  for (uint32_t done = 0; done < task.count();) {
    const uint32_t count = std::min(plan.max_batch(), task.count() - done);
    float* input = plan.input();
    if (!task.has_hide()) data.Expect(absl::MakeConstSpan(listed).subspan(task.first() + done));
    for (uint32_t k = 0; k < count; ++k) {
      const uint32_t index = output.images(static_cast<int>(done + k));
      if (task.has_hide()) {
        std::vector<uint8_t> image(image_values);
        RETURN_IF_ERROR(HiddenModelImage(task.hide(), *data.set, index, data.size,
                                         MeanColorOf(data, plan), image.data()));
        for (size_t i = 0; i < image_values; ++i) *input++ = value[image[i]];
        continue;
      }
      ASSIGN_OR_RETURN(const PinnedImage pinned, data.Pin(index));
      const uint8_t* image = pinned.data();
      for (size_t i = 0; i < image_values; ++i) *input++ = value[image[i]];
    }
    if (absl::Status status = plan.Run(count, logits + size_t{done} * data.classes); !status.ok()) {
      return absl::Status(status.code(), absl::StrCat("evaluate: images from ",
                                                      task.first() + done, ": ", status.message()));
    }
    done += count;
    NoteProgress();
  }
  return output;
}

}  // namespace dermis
