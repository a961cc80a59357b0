#include "worker/training/augmentation.h"

#include <algorithm>
#include <cmath>

#include "common/philox.h"

namespace dermis {

Augmentation DrawAugmentation(uint64_t seed, uint32_t epoch, uint32_t image, uint32_t size) {
  const auto words = PhiloxBlock(seed, Purpose::kAugment, epoch, image, 0);
  auto symmetric = [](uint32_t word) { return 2.0 * ToUnitFloat(word) - 1.0; };
  Augmentation a;
  a.angle = symmetric(words[0]) * kRotationDegrees * (M_PI / 180);
  a.shift_y = symmetric(words[1]) * kShiftFraction * size;
  a.shift_x = symmetric(words[2]) * kShiftFraction * size;
  a.flip = (words[3] >> 31) != 0;
  return a;
}

void AugmentImage(const uint8_t* pixels, uint32_t size, const Augmentation& augmentation,
                  const Normalisation& normalise, float* out) {
  const int n = static_cast<int>(size);
  const int row = 3 * n;
  if (augmentation.angle == 0 && augmentation.shift_y == 0 && augmentation.shift_x == 0 &&
      !augmentation.flip) {
    for (int i = 0; i < n * row; ++i) out[i] = normalise(static_cast<float>(pixels[i]));
    return;
  }
  // Coordinates in float from here on: only the sine and cosine need the library, once an image.
  const float cosine = static_cast<float>(std::cos(augmentation.angle));
  const float sine = static_cast<float>(std::sin(augmentation.angle));
  const float centre = 0.5f * static_cast<float>(n - 1);
  const float limit = static_cast<float>(n - 1);
  const float shift_y = static_cast<float>(augmentation.shift_y);
  const float shift_x = static_cast<float>(augmentation.shift_x);
  for (int y = 0; y < n; ++y) {
    const float dy = static_cast<float>(y) - centre + shift_y;
    for (int x = 0; x < n; ++x) {
      const float dx = static_cast<float>(x) - centre + shift_x;
      const float sy = std::clamp(cosine * dy - sine * dx + centre, 0.0f, limit);
      const float sx = std::clamp(sine * dy + cosine * dx + centre, 0.0f, limit);
      const int y0 = static_cast<int>(sy), x0 = static_cast<int>(sx);
      const int y1 = std::min(y0 + 1, n - 1), x1 = std::min(x0 + 1, n - 1);
      const float fy = sy - static_cast<float>(y0), fx = sx - static_cast<float>(x0);
      const uint8_t* p00 = pixels + y0 * row + 3 * x0;
      const uint8_t* p01 = pixels + y0 * row + 3 * x1;
      const uint8_t* p10 = pixels + y1 * row + 3 * x0;
      const uint8_t* p11 = pixels + y1 * row + 3 * x1;
      float* o = out + y * row + 3 * (augmentation.flip ? n - 1 - x : x);
      for (int c = 0; c < 3; ++c) {
        const float a = static_cast<float>(p00[c]), b = static_cast<float>(p10[c]);
        const float top = a + fx * (static_cast<float>(p01[c]) - a);
        const float bottom = b + fx * (static_cast<float>(p11[c]) - b);
        o[c] = normalise(top + fy * (bottom - top));
      }
    }
  }
}

}  // namespace dermis
