#include "tools/report/augmented.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

#include "common/resize.h"
#include "common/split.h"
#include "common/status_macros.h"
#include "tools/report/picture.h"
#include "tools/report/plot.h"
#include "worker/training/augmentation.h"

namespace dermis {
namespace {

constexpr int kEpochs = 5;
// A larger input is shown reduced: 24 pictures of 224 pixels would outweigh the rest of the report.
constexpr int kShown = 128;

// "rotation ±15°", each range that moves anything.
std::string RangesText(const AugmentationRanges& r) {
  std::vector<std::string> parts;
  const auto either_side = [&](double range, const char* name, double times, const char* unit) {
    if (range != 0) parts.push_back(absl::StrFormat("%s ±%g%s", name, range * times, unit));
  };
  either_side(r.rotation, "rotation", 1, "°");
  either_side(r.shift, "shifts", 100, " %");
  either_side(r.scale, "scale", 100, " %");
  either_side(r.shear, "shear", 1, "°");
  if (r.horizontal_flip) parts.push_back("horizontal flip");
  if (r.vertical_flip) parts.push_back("vertical flip");
  if (r.crop) {
    parts.push_back(absl::StrFormat("crop to %g – %g %% of the area at aspects %.3g – %.3g",
                                    100 * r.min_area, 100 * r.max_area, r.min_aspect,
                                    r.max_aspect));
  }
  either_side(r.brightness, "brightness", 100, " %");
  either_side(r.contrast, "contrast", 100, " %");
  either_side(r.saturation, "saturation", 100, " %");
  either_side(r.hue, "hue", 360, "°");
  return parts.empty() ? "nothing" : absl::StrJoin(parts, ", ");
}

// Images of all classes in turn, each class's first: neighbours in the set, so that few of its
// chunks have to be fetched.
std::vector<uint32_t> Chosen(const Split& split, const v1::ImageSetManifest& manifest) {
  const auto classes = static_cast<uint32_t>(manifest.classes_size());
  const size_t count = std::clamp<size_t>(classes, 4, 8);
  std::vector<std::vector<uint32_t>> of_class(classes);
  for (uint32_t image : split.training) {
    const uint32_t label = manifest.images(static_cast<int>(image)).label();
    if (label < classes && of_class[label].size() < count) of_class[label].push_back(image);
  }
  std::vector<uint32_t> chosen;
  for (size_t round = 0; round < count; ++round) {
    for (const std::vector<uint32_t>& members : of_class) {
      if (round < members.size() && chosen.size() < count) chosen.push_back(members[round]);
    }
  }
  return chosen;
}

std::string Picture(const std::vector<float>& values, int size, const std::string& what) {
  const int shown = std::min(size, kShown);
  std::vector<float> reduced(size_t{3} * shown * shown);
  AreaResize(values.data(), size, size, 3, reduced.data(), shown, shown);
  Raster raster{shown, shown, 3, {}};
  for (float v : reduced) raster.data.push_back(static_cast<uint8_t>(std::lround(v)));
  return absl::StrCat("<img class=\"sample\" alt=\"", what, "\" src=\"", PngUri(raster), "\">");
}

// One image's row: as it is, then epoch by epoch.
absl::StatusOr<std::string> Row(const v1::StudySpec& spec, const ImageSet& images, uint32_t image,
                                int epochs) {
  const v1::ImageSetManifest& manifest = images.manifest();
  const v1::ImageEntry& entry = manifest.images(static_cast<int>(image));
  const auto size = static_cast<int>(spec.images().size());
  ASSIGN_OR_RETURN(const std::string_view pixels, images.Pixels(image));
  std::vector<uint8_t> input(size_t{3} * size * size);
  AreaResizeBytes(reinterpret_cast<const uint8_t*>(pixels.data()),
                  static_cast<int>(manifest.height()), static_cast<int>(manifest.width()), 3,
                  input.data(), size, size);
  const std::string name = Escape(entry.name());
  std::string html = absl::StrCat(
      "<p>", absl::StrReplaceAll(name, {{"/", "/<wbr>"}, {"_", "_<wbr>"}}), "<small>",
      Escape(manifest.classes(static_cast<int>(entry.label()))), "</small></p>",
      Picture(std::vector<float>(input.begin(), input.end()), size, name + ", as it is"));
  const AugmentationRanges ranges = RangesOf(spec.training().augmentation());
  std::vector<float> out(input.size());
  for (int epoch = 1; epoch <= epochs; ++epoch) {
    AugmentImage(input.data(), spec.images().size(),
                 DrawAugmentation(ranges, spec.seed(), static_cast<uint32_t>(epoch), image,
                                  spec.images().size()),
                 Normalisation{.mean = 0, .inverse_deviation = 1}, out.data());
    html += Picture(out, size, absl::StrCat(name, ", epoch ", epoch));
  }
  return html;
}

absl::StatusOr<std::string> Figure(const v1::StudySpec& spec, const ImageSet& images) {
  const v1::ImageSetManifest& manifest = images.manifest();
  if (absl::Status status = CheckModelSize(spec.images().size(), manifest); !status.ok())
    return status;
  ASSIGN_OR_RETURN(const Split split, MakeSplit(manifest, spec.images().split(), spec.seed()));
  const int epochs = static_cast<int>(std::min<uint32_t>(kEpochs, spec.training().epochs()));
  std::string html = absl::StrFormat(
      "<figure class=\"panel augmented\" style=\"--columns:%d\"><div><p></p><b>as it is</b>",
      1 + epochs);
  for (int epoch = 1; epoch <= epochs; ++epoch) absl::StrAppend(&html, "<b>epoch ", epoch, "</b>");
  for (uint32_t image : Chosen(split, manifest)) {
    ASSIGN_OR_RETURN(const std::string row, Row(spec, images, image, epochs));
    html += row;
  }
  const uint32_t size = spec.images().size();
  return absl::StrCat(
      html, "</div><figcaption>Training images as the network sees them, ", size, " × ", size,
      " pixels", size > kShown ? absl::StrCat(" (shown at ", kShown, ")") : "",
      ", before normalisation: these are the very draws of the epochs. Varied by ",
      RangesText(RangesOf(spec.training().augmentation())), ".</figcaption></figure>");
}

}  // namespace

std::string RenderAugmented(const v1::StudySpec& spec, const ImageSet& images) {
  if (!spec.training().augment()) {
    return "<p class=\"note\">No augmentation: each epoch sees the training images as they "
           "are.</p>";
  }
  const absl::StatusOr<std::string> figure = Figure(spec, images);
  if (figure.ok()) return *figure;
  return absl::StrCat("<p class=\"missing\">Augmented samples cannot be shown: ",
                      Escape(std::string(figure.status().message())), "</p>");
}

}  // namespace dermis
