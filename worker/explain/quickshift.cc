#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

#include "common/simd.h"
#include "worker/explain/lab.h"
#include "worker/explain/superpixels.h"

namespace dermis {
namespace {

// n pixels of a row, each beside its neighbour at one and the same offset. Every loop runs along a
// row, so that it becomes vectors; a pixel's sums keep the order of the offsets.
struct Plane {
  const double *l, *a, *b;
  Plane At(ptrdiff_t offset) const { return {l + offset, a + offset, b + offset}; }
};

DERMIS_INLINE double Squared(const Plane& i, const Plane& j, int x, double dy2, double dx2) {
  const double l = i.l[x] - j.l[x], a = i.a[x] - j.a[x], b = i.b[x] - j.b[x];
  return l * l + a * a + b * b + dy2 + dx2;
}

// weight[x] = exp(scale * d^2), scale <= 0.
DERMIS_SIMD void Weights(Plane i, Plane j, int n, double dy2, double dx2, double scale,
                         double* __restrict weight) {
  for (int x = 0; x < n; ++x) {
    weight[x] = ExpNonPositive(Squared(i, j, x, dy2, dx2) * scale);
  }
}

DERMIS_SIMD void Add(const double* __restrict weight, int n, double* __restrict sum) {
  for (int x = 0; x < n; ++x) sum[x] += weight[x];
}

// Keeps for each pixel the nearest denser one so far, by its number. kBefore: the neighbour's index
// is lower, so that it counts as denser where densities are equal. Without branches, or it would
// not become vectors.
template <bool kBefore>
DERMIS_INLINE void Nearest(Plane i, Plane j, const double* __restrict density,
                           const double* __restrict other, int n, double dy2, double dx2,
                           double number, double* __restrict closest, double* __restrict parent) {
  for (int x = 0; x < n; ++x) {
    const double d = Squared(i, j, x, dy2, dx2), before = closest[x], was = parent[x];
    const double below = (kBefore ? other[x] >= density[x] : other[x] > density[x]) ? before : -1.0;
    closest[x] = d < below ? d : before;
    parent[x] = d < below ? number + x : was;
  }
}

DERMIS_SIMD void NearestBefore(Plane i, Plane j, const double* density, const double* other, int n,
                               double dy2, double dx2, double number, double* closest,
                               double* parent) {
  Nearest<true>(i, j, density, other, n, dy2, dx2, number, closest, parent);
}

DERMIS_SIMD void NearestAfter(Plane i, Plane j, const double* density, const double* other, int n,
                              double dy2, double dx2, double number, double* closest,
                              double* parent) {
  Nearest<false>(i, j, density, other, n, dy2, dx2, number, closest, parent);
}

}  // namespace

Segmentation Quickshift(const uint8_t* rgb, int height, int width,
                        const QuickshiftParameters& parameters) {
  const size_t pixels = size_t(height) * width;
  LabPlanes image = RgbToLab(rgb, pixels, 0, 255);
  for (std::vector<double>& plane : image) {
    for (double& v : plane) v *= parameters.ratio;
  }
  const Plane origin{image[0].data(), image[1].data(), image[2].data()};
  const int reach = static_cast<int>(std::ceil(3 * parameters.kernel_size));

  // Density of each pixel; each pair is computed once. A pixel counts itself (exp 0 = 1).
  std::vector<double> density(pixels, 1.0), weight(width);
  const double scale = -0.5 / (parameters.kernel_size * parameters.kernel_size);
  for (int y = 0; y < height; ++y) {
    for (int dy = 0; dy <= reach && y + dy < height; ++dy) {
      const int most = std::min(reach, width - 1);
      for (int dx = dy == 0 ? 1 : -most; dx <= most; ++dx) {
        const int n = width - std::abs(dx);
        const size_t i = size_t(y) * width + std::max(-dx, 0);
        const size_t j = i + size_t(dy) * width + dx;
        Weights(origin.At(i), origin.At(j), n, double(dy) * dy, double(dx) * dx, scale,
                weight.data());
        Add(weight.data(), n, &density[i]);
        Add(weight.data(), n, &density[j]);
      }
    }
  }

  // Pairs of equal distance: the first in raster order, as there.
  std::vector<double> nearest(pixels), closest(width);
  std::vector<size_t> parent(pixels);
  const double limit = parameters.max_dist * parameters.max_dist;
  for (int y = 0; y < height; ++y) {
    std::fill(closest.begin(), closest.end(), std::numeric_limits<double>::max());
    std::iota(&nearest[size_t(y) * width], &nearest[size_t(y) * width] + width, double(y) * width);
    for (int dy = -std::min(reach, y); dy <= std::min(reach, height - 1 - y); ++dy) {
      const int most = std::min(reach, width - 1);
      for (int dx = -most; dx <= most; ++dx) {
        const int x = std::max(-dx, 0);
        const size_t i = size_t(y) * width + x;
        const size_t j = i + ptrdiff_t(dy) * width + dx;
        (dy < 0 || (dy == 0 && dx < 0) ? NearestBefore : NearestAfter)(
            origin.At(i), origin.At(j), &density[i], &density[j], width - std::abs(dx),
            double(dy) * dy, double(dx) * dx, static_cast<double>(j), &closest[x], &nearest[i]);
      }
    }
    for (int x = 0; x < width; ++x) {
      const size_t i = size_t(y) * width + x;
      parent[i] = closest[x] > limit ? i : static_cast<size_t>(nearest[i]);
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
