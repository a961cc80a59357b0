#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "worker/explain/lab.h"
#include "worker/explain/superpixels.h"

namespace dermis {

Segmentation Quickshift(const uint8_t* rgb, int height, int width,
                        const QuickshiftParameters& parameters) {
  const size_t pixels = size_t(height) * width;
  std::vector<double> image = RgbToLab(rgb, pixels, 0, 255);
  for (double& v : image) v *= parameters.ratio;
  const int reach = static_cast<int>(std::ceil(3 * parameters.kernel_size));
  const auto squared = [&](size_t i, size_t j, int dy, int dx) {
    double d = 0;
    for (int c = 0; c < 3; ++c) {
      const double t = image[3 * i + c] - image[3 * j + c];
      d += t * t;
    }
    return d + double(dy) * dy + double(dx) * dx;
  };

  // Density of each pixel; each pair is computed once. A pixel counts itself (exp 0 = 1).
  std::vector<double> density(pixels, 1.0);
  const double scale = -0.5 / (parameters.kernel_size * parameters.kernel_size);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const size_t i = size_t(y) * width + x;
      for (int dy = 0; dy <= reach && y + dy < height; ++dy) {
        const int from = dy == 0 ? 1 : -std::min(reach, x);
        for (int dx = from; dx <= reach && x + dx < width; ++dx) {
          const size_t j = i + size_t(dy) * width + dx;
          const double weight = std::exp(squared(i, j, dy, dx) * scale);
          density[i] += weight;
          density[j] += weight;
        }
      }
    }
  }

  // Pairs of equal distance: the first in raster order, as there.
  std::vector<size_t> parent(pixels);
  const double limit = parameters.max_dist * parameters.max_dist;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const size_t i = size_t(y) * width + x;
      double closest = std::numeric_limits<double>::max();
      parent[i] = i;
      for (int yy = std::max(y - reach, 0); yy <= std::min(y + reach, height - 1); ++yy) {
        for (int xx = std::max(x - reach, 0); xx <= std::min(x + reach, width - 1); ++xx) {
          const size_t j = size_t(yy) * width + xx;
          const bool denser = density[j] > density[i] || (density[j] == density[i] && j < i);
          if (!denser) continue;
          const double d = squared(i, j, yy - y, xx - x);
          if (d < closest) {
            closest = d;
            parent[i] = j;
          }
        }
      }
      if (closest > limit) parent[i] = i;
    }
  }

  // Follow parents to the roots. Chains have no cycles: (density, -index) rises along them.
  Segmentation result{height, width, 0, {}};
  result.labels.resize(pixels);
  for (size_t i = 0; i < pixels; ++i) {
    size_t root = i;
    while (parent[root] != root) root = parent[root];
    for (size_t at = i; parent[at] != root;) {
      const size_t up = parent[at];
      parent[at] = root;
      at = up;
    }
    result.labels[i] = static_cast<uint32_t>(root);
  }
  CompactLabels(result);
  return result;
}

}  // namespace dermis
