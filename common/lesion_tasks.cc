#include "common/lesion_tasks.h"

#include <algorithm>
#include <utility>

#include "common/tasks.h"

namespace dermis {
namespace {

constexpr v1::LesionRegion kRegions[] = {v1::LESION_REGION_LESION, v1::LESION_REGION_SURROUNDINGS,
                                         v1::LESION_REGION_BOX};

}  // namespace

std::vector<uint32_t> MaskedImages(const v1::ImageSetManifest& manifest,
                                   absl::Span<const uint32_t> images) {
  std::vector<uint32_t> masked;
  for (const uint32_t image : images) {
    if (manifest.images(static_cast<int>(image)).has_mask()) masked.push_back(image);
  }
  return masked;
}

std::optional<v1::Hiding> HidingOf(const v1::ExplanationSpec& explanation, v1::HiddenValue hidden,
                                   uint64_t seed) {
  v1::Hiding hiding;
  switch (hidden) {
    case v1::HIDDEN_VALUE_CONSTANT:
      *hiding.mutable_color() = explanation.hiding().color();
      return hiding;
    case v1::HIDDEN_VALUE_BLUR:
      hiding.set_blur(explanation.hiding().blur());
      return hiding;
    case v1::HIDDEN_VALUE_BACKGROUND:
      hiding.mutable_background()->set_per_class(explanation.hiding().background_per_class());
      hiding.mutable_background()->set_seed(seed);
      hiding.set_probabilities(explanation.output() == v1::OUTPUT_KIND_PROBABILITY);
      return hiding;
    default:
      return std::nullopt;
  }
}

uint64_t InputsOfAMask(const v1::ExplanationSpec& explanation, v1::HiddenValue hidden,
                       uint64_t classes) {
  return hidden == v1::HIDDEN_VALUE_BACKGROUND
             ? classes * explanation.hiding().background_per_class()
             : 1;
}

std::vector<v1::Hide> ShortcutVariants(const v1::ExplanationSpec& explanation) {
  std::vector<v1::Hide> variants;
  for (const v1::LesionRegion region : kRegions) {
    for (const int hidden : explanation.shortcut().hidden()) {
      v1::Hide& hide = variants.emplace_back();
      hide.set_show(region);
      hide.set_hidden(static_cast<v1::HiddenValue>(hidden));
      if (hidden == v1::HIDDEN_VALUE_BLUR) hide.set_blur(explanation.hiding().blur());
    }
  }
  return variants;
}

std::vector<v1::TaskSpec> ShortcutNeeds(const v1::ShortcutTask& task, uint32_t test_images,
                                        uint32_t masked_images, const std::string& numerics_class) {
  std::vector<v1::TaskSpec> needs;
  const auto add = [&](const v1::Hide* hide, uint32_t images) {
    for (uint32_t first = 0; first < images; first += task.batch()) {
      v1::TaskSpec& need = needs.emplace_back();
      v1::EvaluateTask& evaluate = *need.mutable_evaluate();
      *evaluate.mutable_images() = task.images();
      *evaluate.mutable_model() = task.model();
      evaluate.set_precision(task.precision());
      evaluate.set_first(first);
      evaluate.set_count(std::min(task.batch(), images - first));
      if (hide != nullptr) *evaluate.mutable_hide() = *hide;
      need = MakeTask(std::move(need), numerics_class);
    }
  };
  add(nullptr, test_images);
  for (const v1::Hide& hide : task.variants()) add(&hide, masked_images);
  return needs;
}

std::vector<v1::TaskSpec> LesionNeeds(const v1::LesionSummaryTask& task,
                                      const std::string& numerics_class) {
  std::vector<v1::TaskSpec> needs;
  for (const uint32_t image : task.images()) {
    v1::TaskSpec need;
    *need.mutable_lesion() = task.lesion();
    need.mutable_lesion()->set_image(image);
    needs.push_back(MakeTask(std::move(need), numerics_class));
  }
  return needs;
}

LesionSize SizeOfLesions(const v1::ExplanationSpec& explanation, uint64_t masked_images,
                         uint32_t batch) {
  LesionSize size;
  if (explanation.has_lesion_test()) {
    const v1::LesionTestSpec& test = explanation.lesion_test();
    size.tasks += masked_images + 1;
    size.inputs += masked_images * 16 * (1 + 3 * uint64_t{test.placements()}) *
                   InputsOfAMask(explanation, test.hidden(), 2);
  }
  if (explanation.has_shortcut()) {
    const uint64_t variants = ShortcutVariants(explanation).size();
    size.tasks += variants * ((masked_images + batch - 1) / batch) + 1;
    size.inputs += variants * masked_images;
  }
  return size;
}

}  // namespace dermis
