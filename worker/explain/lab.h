// sRGB bytes to CIE Lab (D65, 2 degrees), as skimage.color.rgb2lab computes it.
#ifndef DERMIS_WORKER_EXPLAIN_LAB_H_
#define DERMIS_WORKER_EXPLAIN_LAB_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dermis {

// One value a pixel, in planes L, a, b: loops along a row become vectors.
using LabPlanes = std::array<std::vector<double>, 3>;

// rgb: pixels x 3. Value v becomes (v - low) / (high - low) in 0..1 first; low = 0, high = 255 is
// the plain conversion (high == low: all zero).
LabPlanes RgbToLab(const uint8_t* rgb, size_t pixels, uint8_t low, uint8_t high);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_LAB_H_
