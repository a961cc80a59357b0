#include "worker/embedding/image_properties.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "worker/explain/lab.h"

namespace dermis {

absl::StatusOr<ImageProperties> PropertiesOf(absl::Span<const uint8_t> rgb,
                                             absl::Span<const uint8_t> mask) {
  const size_t pixels = rgb.size() / 3;
  if (pixels == 0 || rgb.size() != 3 * pixels || (!mask.empty() && mask.size() != pixels)) {
    return absl::InvalidArgumentError(absl::StrCat("image properties: ", rgb.size(),
                                                   " bytes of colour and a mask of ", mask.size(),
                                                   ": a pixel has 3 and 1"));
  }
  const LabPlanes lab = RgbToLab(rgb.data(), pixels, 0, 255);
  MeanColour lesion = {}, skin = {};
  size_t inside = 0;
  for (size_t i = 0; i < mask.size(); ++i) inside += mask[i] != 0;
  for (size_t c = 0; c < 3; ++c) {
    for (size_t i = 0; i < pixels; ++i) {
      (!mask.empty() && mask[i] != 0 ? lesion : skin)[c] += lab[c][i];
    }
  }
  ImageProperties result;
  for (size_t c = 0; c < 3; ++c) {
    result.colour[c] = (lesion[c] + skin[c]) / static_cast<double>(pixels);
    lesion[c] /= static_cast<double>(inside);
    skin[c] /= static_cast<double>(pixels - inside);
  }
  if (mask.empty()) return result;
  result.lesion_fraction = static_cast<double>(inside) / static_cast<double>(pixels);
  if (inside > 0) result.lesion_colour = lesion;
  if (inside < pixels) result.skin_colour = skin;
  return result;
}

}  // namespace dermis
