// The lesion test and the shortcut check as tasks: shared by the planner, which wants them, and the
// worker, which reads their results. Pure functions.
#ifndef DERMIS_COMMON_LESION_TASKS_H_
#define DERMIS_COMMON_LESION_TASKS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// Those of `images` that have a lesion mask.
std::vector<uint32_t> MaskedImages(const v1::ImageSetManifest& manifest,
                                   absl::Span<const uint32_t> images);

// What a hidden value's task names of explanation.hiding; nothing where the value needs none.
// `explanation` resolved.
std::optional<v1::Hiding> HidingOf(const v1::ExplanationSpec& explanation, v1::HiddenValue hidden,
                                   uint64_t seed);

// Inputs that the model runs for one mask: one, or one a background image. `explanation` resolved.
uint64_t InputsOfAMask(const v1::ExplanationSpec& explanation, v1::HiddenValue hidden,
                       uint64_t classes);

// The parts that the shortcut check shows, each with each hidden value. `explanation` resolved.
std::vector<v1::Hide> ShortcutVariants(const v1::ExplanationSpec& explanation);

// Evaluations that a ShortcutTask reads: of all test images as they are (the study's own), then of
// those with a mask under each variant.
std::vector<v1::TaskSpec> ShortcutNeeds(const v1::ShortcutTask& task, uint32_t test_images,
                                        uint32_t masked_images, const std::string& numerics_class);

// The task of each image, in order.
std::vector<v1::TaskSpec> LesionNeeds(const v1::LesionSummaryTask& task,
                                      const std::string& numerics_class);

// Tasks and masked inputs of both, for `masked_images` test images.
struct LesionSize {
  uint64_t tasks = 0, inputs = 0;
};
LesionSize SizeOfLesions(const v1::ExplanationSpec& explanation, uint64_t masked_images,
                         uint32_t batch);

}  // namespace dermis

#endif  // DERMIS_COMMON_LESION_TASKS_H_
