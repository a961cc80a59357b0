#include "worker/explain/lab.h"

#include <array>
#include <cmath>
#include <cstddef>

namespace dermis {

LabPlanes RgbToLab(const uint8_t* rgb, size_t pixels, uint8_t low, uint8_t high) {
  std::array<double, 256> linear{};
  for (int v = 0; v < 256; ++v) {
    // In this order: skimage divides by 255 first, then rescales.
    double s = v / 255.0 - low / 255.0;
    if (high != low) s /= high / 255.0 - low / 255.0;
    linear[v] = s > 0.04045 ? std::pow((s + 0.055) / 1.055, 2.4) : s / 12.92;
  }
  constexpr double kXyz[3][3] = {{0.412453, 0.357580, 0.180423},
                                 {0.212671, 0.715160, 0.072169},
                                 {0.019334, 0.119193, 0.950227}};
  constexpr double kWhite[3] = {0.95047, 1.0, 1.08883};
  LabPlanes lab;
  for (std::vector<double>& plane : lab) plane.resize(pixels);
  for (size_t i = 0; i < pixels; ++i) {
    double f[3];
    for (int k = 0; k < 3; ++k) {
      const double t = (linear[rgb[3 * i]] * kXyz[k][0] + linear[rgb[3 * i + 1]] * kXyz[k][1] +
                        linear[rgb[3 * i + 2]] * kXyz[k][2]) /
                       kWhite[k];
      f[k] = t > 0.008856 ? std::cbrt(t) : 7.787 * t + 16.0 / 116.0;
    }
    lab[0][i] = 116.0 * f[1] - 16.0;
    lab[1][i] = 500.0 * (f[0] - f[1]);
    lab[2][i] = 200.0 * (f[1] - f[2]);
  }
  return lab;
}

}  // namespace dermis
