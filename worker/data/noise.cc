#include "worker/data/noise.h"

#include <cstddef>

#include "absl/strings/str_cat.h"

#include "common/philox.h"
#include "common/status_macros.h"

namespace dermis {

absl::StatusOr<std::vector<float>> EvaluatedPixels(const ImageData& data,
                                                   const v1::ImageSource& source, uint32_t image) {
  std::vector<float> pixels;
  {
    ASSIGN_OR_RETURN(const PinnedImage pinned, data.Pin(image));
    pixels.assign(pinned.data(), pinned.data() + data.image_bytes());
  }
  if (!source.has_noise()) return pixels;
  const v1::ImageNoise& noise = source.noise();
  if (!(noise.radius() > 0 && noise.radius() <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("noise of radius ", noise.radius(), "; it must be above 0 and at most 1"));
  }
  for (size_t i = 0; i < pixels.size(); ++i) {
    // A block of four words serves four elements.
    const auto block = PhiloxBlock(noise.seed(), Purpose::kImageNoise, noise.draw(), image,
                                   static_cast<uint32_t>(i / 4));
    const double unit = ToUnitFloat(block[i % 4]);
    pixels[i] += static_cast<float>(255 * noise.radius() * (2 * unit - 1));
  }
  return pixels;
}

}  // namespace dermis
