// Standard normal draws from the words of a Philox block. No Torch.
#ifndef DERMIS_WORKER_MODELS_NORMALS_H_
#define DERMIS_WORKER_MODELS_NORMALS_H_

#include <cmath>
#include <cstdint>
#include <numbers>
#include <utility>

namespace dermis {

// Two from two words (Box and Muller), in double.
inline std::pair<double, double> Normals(uint32_t a, uint32_t b) {
  const double u = (static_cast<double>(a) + 0.5) * 0x1.0p-32;  // In (0, 1): its logarithm exists.
  const double radius = std::sqrt(-2 * std::log(u));
  const double angle = 2 * std::numbers::pi * static_cast<double>(b) * 0x1.0p-32;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_NORMALS_H_
