#include "worker/data/hide.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/resize.h"
#include "common/status_macros.h"
#include "worker/pictures/inpaint.h"
#include "worker/pictures/lesion_zones.h"
#include "worker/pictures/smooth.h"

namespace dermis {
namespace {

absl::Status Unknown(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("hidden parts of images: ", what));
}

// 1 where the image stays visible.
absl::StatusOr<std::vector<uint8_t>> ShownOf(v1::LesionRegion show, absl::Span<const uint8_t> mask,
                                             int height, int width) {
  std::vector<uint8_t> shown(mask.begin(), mask.end());
  switch (show) {
    case v1::LESION_REGION_LESION:
      for (uint8_t& value : shown) value = value != 0;
      return shown;
    case v1::LESION_REGION_SURROUNDINGS:
      for (uint8_t& value : shown) value = value == 0;
      return shown;
    case v1::LESION_REGION_BOX:
      return BoundingBox(mask, height, width);
    default:
      return Unknown("no region is named (lesion, surroundings or box)");
  }
}

// The mean colour of what is hidden.
std::vector<float> MeanOfHidden(absl::Span<const uint8_t> rgb, absl::Span<const uint8_t> shown) {
  std::array<uint64_t, 3> sums{};
  uint64_t pixels = 0;
  for (size_t i = 0; i < shown.size(); ++i) {
    if (shown[i]) continue;
    for (int c = 0; c < 3; ++c) sums[c] += rgb[3 * i + c];
    ++pixels;
  }
  std::vector<float> picture(rgb.size());
  for (size_t i = 0; i < picture.size(); ++i) {
    picture[i] = pixels == 0 ? 0 : static_cast<float>(double(sums[i % 3]) / double(pixels));
  }
  return picture;
}

}  // namespace

absl::StatusOr<std::vector<uint8_t>> HidePart(const v1::Hide& hide, absl::Span<const uint8_t> rgb,
                                              absl::Span<const uint8_t> mask, int height, int width,
                                              const std::array<double, 3>& training_mean) {
  ASSIGN_OR_RETURN(const std::vector<uint8_t> shown, ShownOf(hide.show(), mask, height, width));
  std::vector<float> picture;
  switch (hide.hidden()) {
    case v1::HIDDEN_VALUE_TRAINING_MEAN:
      picture.resize(rgb.size());
      for (size_t i = 0; i < picture.size(); ++i) {
        picture[i] = static_cast<float>(training_mean[i % 3]);
      }
      break;
    case v1::HIDDEN_VALUE_SUPERPIXEL_MEAN:
      picture = MeanOfHidden(rgb, shown);
      break;
    case v1::HIDDEN_VALUE_BLUR: {
      if (!(hide.blur() > 0 && hide.blur() <= 1)) return Unknown("a blur in (0, 1] is needed");
      picture = Blurred(rgb.data(), height, width, hide.blur() * std::min(height, width));
      break;
    }
    case v1::HIDDEN_VALUE_INPAINT:
      picture =
          Inpaint(rgb.data(), std::vector<uint32_t>(shown.begin(), shown.end()), height, width);
      break;
    default:
      return Unknown("training_mean, superpixel_mean, blur or inpaint can stand in their place");
  }
  std::vector<uint8_t> out(rgb.begin(), rgb.end());
  for (size_t i = 0; i < out.size(); ++i) {
    if (shown[i / 3]) continue;
    out[i] = static_cast<uint8_t>(std::clamp(std::floor(picture[i] + 0.5f), 0.0f, 255.0f));
  }
  return out;
}

absl::Status HiddenModelImage(const v1::Hide& hide, const ImageSet& set, uint32_t i, uint32_t size,
                              const std::array<double, 3>& training_mean, uint8_t* out) {
  const int height = static_cast<int>(set.manifest().height());
  const int width = static_cast<int>(set.manifest().width());
  ASSIGN_OR_RETURN(const std::string_view pixels, set.Pixels(i));
  ASSIGN_OR_RETURN(const std::string_view mask, set.Mask(i));
  const auto bytes = [](std::string_view text) {
    return absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  };
  ASSIGN_OR_RETURN(const std::vector<uint8_t> hidden,
                   HidePart(hide, bytes(pixels), bytes(mask), height, width, training_mean));
  AreaResizeBytes(hidden.data(), height, width, 3, out, static_cast<int>(size),
                  static_cast<int>(size));
  return absl::OkStatus();
}

}  // namespace dermis
