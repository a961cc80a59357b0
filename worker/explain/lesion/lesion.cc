#include "worker/explain/lesion/lesion.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/bootstrap.h"
#include "common/metrics.h"
#include "common/philox.h"
#include "common/status_macros.h"
#include "worker/explain/lesion/statistics.h"
#include "worker/explain/masked_model.h"
#include "worker/pictures/lesion_zones.h"

namespace dermis {
namespace {

// A partner with all four zones is looked for so often.
constexpr uint32_t kTries = 64;

absl::Status Invalid(uint32_t image, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("lesion test of image ", image, ": ", why));
}

// 0 .. n - 1.
uint32_t Draw(const std::array<uint32_t, 4>& block, uint64_t n) {
  return static_cast<uint32_t>(ToUnitDouble(block[0], block[1]) * static_cast<double>(n));
}

absl::StatusOr<std::vector<uint8_t>> ZonesOf(const ImageData& data, uint32_t image, double band) {
  const v1::ImageSetManifest& manifest = data.set->manifest();
  ASSIGN_OR_RETURN(const std::string_view bytes, data.set->Mask(image));
  const std::vector<uint8_t> mask(bytes.begin(), bytes.end());
  return LesionZones(mask, static_cast<int>(manifest.height()), static_cast<int>(manifest.width()),
                     band);
}

// Test images with a mask whose lesion is another one than the image's.
absl::StatusOr<std::vector<uint32_t>> PartnersOf(const ImageData& data, uint32_t image) {
  const v1::ImageSetManifest& manifest = data.set->manifest();
  const std::string& group = manifest.images(static_cast<int>(image)).group();
  std::vector<uint32_t> partners;
  for (const uint32_t other : data.split.test) {
    const v1::ImageEntry& entry = manifest.images(static_cast<int>(other));
    if (!entry.has_mask() || other == image || (!group.empty() && entry.group() == group)) continue;
    partners.push_back(other);
  }
  if (partners.empty()) return Invalid(image, "no other test image has a lesion mask");
  return partners;
}

absl::StatusOr<std::vector<uint8_t>> Exchanged(const v1::LesionTask& task, const ImageData& data,
                                               absl::Span<const uint32_t> partners,
                                               uint32_t placement) {
  std::vector<uint8_t> zones;
  for (uint32_t attempt = 0; attempt < kTries; ++attempt) {
    const auto block =
        PhiloxBlock(task.seed(), Purpose::kLesionPartner, placement, task.image(), attempt);
    ASSIGN_OR_RETURN(zones, ZonesOf(data, partners[Draw(block, partners.size())], task.band()));
    const std::vector<uint32_t> sizes = ZoneSizes(zones);
    if (std::find(sizes.begin(), sizes.end(), 0u) == sizes.end()) break;
  }
  return zones;
}

// The model on the subsets of these zones.
absl::StatusOr<v1::LesionPlacement> Evaluate(const v1::LesionTask& task, v1::LesionNull kind,
                                             const std::vector<uint8_t>& zones,
                                             const ImageData& data, InferencePlan& plan,
                                             uint64_t* evaluations) {
  const v1::ImageSetManifest& manifest = data.set->manifest();
  const Segmentation segmentation{static_cast<int>(manifest.height()),
                                  static_cast<int>(manifest.width()),
                                  kZones,
                                  {zones.begin(), zones.end()}};
  ASSIGN_OR_RETURN(const MaskedImage masked,
                   MaskedImageOf(task.images(), task.image(), task.hidden(), task.hiding(),
                                 segmentation, data, plan));
  std::vector<Mask> masks;
  for (int subset = 0; subset < 1 << kZones; ++subset) {
    Mask& mask = masks.emplace_back(kZones, uint8_t{0});
    for (int z = 0; z < kZones; ++z) mask[z] = subset >> z & 1;
  }
  v1::LesionPlacement placement;
  placement.set_kind(kind);
  for (const uint32_t size : ZoneSizes(zones)) {
    placement.add_areas(static_cast<double>(size) / static_cast<double>(zones.size()));
  }
  placement.mutable_logits()->Resize(static_cast<int>(masks.size() * plan.classes()), 0);
  RETURN_IF_ERROR(RunMasks(masks, masked, plan, placement.mutable_logits()->mutable_data()));
  *evaluations += masks.size() * masked.composers.size();
  return placement;
}

}  // namespace

absl::StatusOr<v1::LesionOutput> RunLesion(const v1::LesionTask& task, const ImageData& data,
                                           InferencePlan& plan, uint64_t* evaluations) {
  const v1::ImageSetManifest& manifest = data.set->manifest();
  const uint32_t image = task.image();
  if (image >= static_cast<uint32_t>(manifest.images_size())) {
    return Invalid(image, absl::StrCat("the set has ", manifest.images_size(), " images"));
  }
  if (!(task.band() > 0 && task.band() <= 1) || task.placements() == 0 || task.placements() > 7) {
    return Invalid(image, "needs a band in (0, 1] and 1 to 7 placements");
  }
  if (manifest.height() != manifest.width()) {
    return Invalid(image, "images that are not square cannot be turned");
  }
  if (plan.size() != data.size) {
    return Invalid(image, absl::StrCat("the model takes ", plan.size(),
                                       " pixels a side, the data have ", data.size));
  }
  const int side = static_cast<int>(manifest.height());
  ASSIGN_OR_RETURN(const std::vector<uint8_t> zones, ZonesOf(data, image, task.band()));
  ASSIGN_OR_RETURN(const std::vector<uint32_t> partners, PartnersOf(data, image));
  v1::LesionOutput output;
  output.set_classes(plan.classes());
  *evaluations = 0;
  const auto add = [&](v1::LesionNull kind, const std::vector<uint8_t>& laid) -> absl::Status {
    ASSIGN_OR_RETURN(*output.add_placements(), Evaluate(task, kind, laid, data, plan, evaluations));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(add(v1::LESION_NULL_UNSPECIFIED, zones));
  for (uint32_t p = 0; p < task.placements(); ++p) {
    // Any shift but none at all.
    const auto block = PhiloxBlock(task.seed(), Purpose::kLesionShift, p, image, 0);
    const uint32_t shift = 1 + Draw(block, uint64_t(side) * side - 1);
    RETURN_IF_ERROR(
        add(v1::LESION_NULL_SHIFTED, Shifted(zones, side, side, static_cast<int>(shift) / side,
                                             static_cast<int>(shift) % side)));
  }
  const std::vector<uint32_t> turns =
      PhiloxPermutation(task.seed(), Purpose::kLesionTurn, image, 7);
  for (uint32_t p = 0; p < task.placements(); ++p) {
    RETURN_IF_ERROR(
        add(v1::LESION_NULL_ROTATED, Turned(zones, side, static_cast<int>(turns[p]) + 1)));
  }
  for (uint32_t p = 0; p < task.placements(); ++p) {
    ASSIGN_OR_RETURN(const std::vector<uint8_t> others, Exchanged(task, data, partners, p));
    RETURN_IF_ERROR(add(v1::LESION_NULL_EXCHANGED, others));
  }
  return output;
}

absl::StatusOr<v1::LesionSummary> RunLesionSummary(
    const v1::LesionSummaryTask& task,
    const std::vector<std::shared_ptr<const v1::Payload>>& outputs, const ImageSet& set) {
  const v1::ImageSetManifest& manifest = set.manifest();
  if (outputs.size() != static_cast<size_t>(task.images_size()) || outputs.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("lesion test: ", outputs.size(), " results for ",
                                                   task.images_size(), " images"));
  }
  std::vector<LesionImage> images;
  std::optional<std::string> origin;
  const std::vector<uint32_t> groups = GroupsOf(manifest, {task.images().data(), outputs.size()});
  for (size_t i = 0; i < outputs.size(); ++i) {
    const uint32_t index = task.images(static_cast<int>(i));
    if (index >= static_cast<uint32_t>(manifest.images_size())) {
      return Invalid(index, absl::StrCat("the set has ", manifest.images_size(), " images"));
    }
    const v1::ImageEntry& entry = manifest.images(static_cast<int>(index));
    if (!origin) origin = entry.mask_origin();
    if (*origin != entry.mask_origin()) origin = "mixed";
    const v1::LesionOutput& output = outputs[i]->lesion();
    const uint32_t classes = output.classes();
    LesionImage& image = images.emplace_back();
    image.group = groups[i];
    image.label = entry.label();
    for (const v1::LesionPlacement& placement : output.placements()) {
      if (placement.areas_size() != kZones ||
          static_cast<uint64_t>(placement.logits_size()) != uint64_t{classes} << kZones) {
        return Invalid(index, "its result is not one of a lesion task");
      }
      std::array<double, 1 << kZones> f;
      for (size_t subset = 0; subset < f.size(); ++subset) {
        f[subset] =
            OutputOf(task.output(),
                     absl::MakeConstSpan(placement.logits().data() + subset * classes, classes));
      }
      image.placements.push_back(PlacedOf(placement.kind(), {placement.areas().data(), kZones}, f));
    }
  }
  LesionPlan plan;
  plan.primary = task.primary();
  plan.null = task.null();
  plan.draws = task.draws();
  plan.seed = task.lesion().seed();
  plan.classes = static_cast<uint32_t>(manifest.classes_size());
  ASSIGN_OR_RETURN(v1::LesionSummary summary, TestLesions(images, plan));
  summary.set_mask_origin(*origin);
  return summary;
}

}  // namespace dermis
