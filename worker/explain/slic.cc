#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "common/simd.h"
#include "worker/explain/lab.h"
#include "worker/pictures/smooth.h"
#include "worker/explain/superpixels.h"

namespace dermis {
namespace {

// skimage.util.regular_grid over (1, height, width): where centres start and how far they are
// apart.
struct Grid {
  int start_y = 0, step_y = 1, start_x = 0, step_x = 1;
};

Grid RegularGrid(int height, int width, int points) {
  if (double(height) * width <= points) return {};
  // Sorted dimensions: depth 1 first, then the smaller side.
  std::array<double, 3> sides = {1.0, double(std::min(height, width)),
                                 double(std::max(height, width))};
  std::array<double, 3> steps;
  steps.fill(std::pow(sides[0] * sides[1] * sides[2] / points, 1.0 / 3));
  const auto fits = [&](int i) { return sides[i] >= steps[i]; };
  if (!(fits(0) && fits(1) && fits(2))) {
    for (int d = 0; d < 3; ++d) {
      steps[d] = sides[d];
      double space = 1;
      for (int i = d + 1; i < 3; ++i) space *= sides[i];
      for (int i = d + 1; i < 3; ++i) steps[i] = std::pow(space / points, 1.0 / (3 - d - 1));
      if (fits(0) && fits(1) && fits(2)) break;
    }
  }
  const auto start = [&](int i) { return static_cast<int>(std::floor(steps[i] / 2)); };
  const auto step = [&](int i) { return std::max(1, static_cast<int>(std::nearbyint(steps[i]))); };
  const int y = height <= width ? 1 : 2, x = 3 - y;
  return {start(y), step(y), start(x), step(x)};
}

struct Center {
  double y = 0, x = 0, color[3] = {0, 0, 0};
  size_t size = 1;
};

// Pixels [first, last) of a row: `number` becomes the nearest centre of those that it is nearer to
// than to any before. Numbers are doubles, so that all lanes of a vector are alike.
DERMIS_SIMD void Claim(const double* __restrict l, const double* __restrict a,
                       const double* __restrict b, int first, int last, Center center, double dy2,
                       double place, double number, double* __restrict distance,
                       double* __restrict nearest) {
  for (int x = first; x < last; ++x) {
    const double dx = center.x - x, t0 = l[x] - center.color[0], t1 = a[x] - center.color[1],
                 t2 = b[x] - center.color[2];
    const double d = (dy2 + dx * dx) * place + (t0 * t0 + t1 * t1 + t2 * t2);
    const double before = distance[x], was = nearest[x];
    nearest[x] = d < before ? number : was;
    distance[x] = d < before ? d : before;
  }
}

std::vector<int> KMeans(const LabPlanes& image, int height, int width, std::vector<Center> centers,
                        int step) {
  const Grid grid = RegularGrid(height, width, static_cast<int>(centers.size()));
  const int reach_y = 2 * grid.step_y, reach_x = 2 * grid.step_x;
  const double place = 1.0 / (double(step) * step);
  std::vector<double> nearest(size_t(height) * width, 0.0), distance(nearest.size());
  for (int round = 0; round < 10; ++round) {
    std::fill(distance.begin(), distance.end(), std::numeric_limits<double>::max());
    for (size_t k = 0; k < centers.size(); ++k) {
      const Center& center = centers[k];
      if (center.size == 0) continue;  // Lost all its pixels: has no place any more.
      const int y0 = static_cast<int>(std::max(center.y - reach_y, 0.0));
      const int y1 = static_cast<int>(std::min(center.y + reach_y + 1, double(height)));
      const int x0 = static_cast<int>(std::max(center.x - reach_x, 0.0));
      const int x1 = static_cast<int>(std::min(center.x + reach_x + 1, double(width)));
      for (int y = y0; y < y1; ++y) {
        const size_t row = size_t(y) * width;
        Claim(&image[0][row], &image[1][row], &image[2][row], x0, x1, center,
              (center.y - y) * (center.y - y), place, static_cast<double>(k), &distance[row],
              &nearest[row]);
      }
    }
    for (Center& center : centers) {
      center = Center();
      center.size = 0;
    }
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const size_t i = size_t(y) * width + x;
        Center& center = centers[static_cast<size_t>(nearest[i])];
        ++center.size;
        center.y += y;
        center.x += x;
        for (int c = 0; c < 3; ++c) center.color[c] += image[c][i];
      }
    }
    for (Center& center : centers) {
      if (center.size == 0) continue;
      const double n = static_cast<double>(center.size);
      center.y /= n;
      center.x /= n;
      for (double& c : center.color) c /= n;
    }
  }
  return {nearest.begin(), nearest.end()};
}

// Connected pieces in raster order become superpixels; pieces below `least` pixels join a neighbour
// found on the way; a piece ends at `most` pixels.
std::vector<uint32_t> EnforceConnectivity(const std::vector<int>& nearest, int height, int width,
                                          size_t least, size_t most) {
  constexpr int kNone = -1;
  constexpr int kDx[4] = {1, -1, 0, 0}, kDy[4] = {0, 0, 1, -1};
  std::vector<int> piece(nearest.size(), kNone);
  std::vector<size_t> queue;
  int next = 0;
  for (size_t start = 0; start < nearest.size(); ++start) {
    if (piece[start] != kNone) continue;
    int adjacent = 0;
    piece[start] = next;
    queue.assign(1, start);
    for (size_t visited = 0; visited < queue.size() && queue.size() < most; ++visited) {
      const int y = static_cast<int>(queue[visited] / width);
      const int x = static_cast<int>(queue[visited] % width);
      for (int d = 0; d < 4; ++d) {
        const int yy = y + kDy[d], xx = x + kDx[d];
        if (yy < 0 || xx < 0 || yy >= height || xx >= width) continue;
        const size_t i = size_t(yy) * width + xx;
        if (nearest[i] == nearest[start] && piece[i] == kNone) {
          piece[i] = next;
          queue.push_back(i);
          if (queue.size() >= most) break;
        } else if (piece[i] != kNone && piece[i] != next) {
          adjacent = piece[i];
        }
      }
    }
    if (queue.size() < least) {
      for (size_t i : queue) piece[i] = adjacent;
    } else {
      ++next;
    }
  }
  return {piece.begin(), piece.end()};
}

}  // namespace

Segmentation Slic(const uint8_t* rgb, int height, int width, const SlicParameters& parameters) {
  const size_t pixels = size_t(height) * width;
  const auto [low, high] = std::minmax_element(rgb, rgb + pixels * 3);
  LabPlanes image = RgbToLab(rgb, pixels, *low, *high);
  const double ratio = 1.0 / parameters.compactness;
  for (std::vector<double>& plane : image) {
    if (parameters.sigma > 0) Smooth(plane, height, width, parameters.sigma);
    for (double& v : plane) v *= ratio;
  }

  const Grid grid = RegularGrid(height, width, parameters.count);
  std::vector<Center> centers;
  for (int y = grid.start_y; y < height; y += grid.step_y) {
    for (int x = grid.start_x; x < width; x += grid.step_x) {
      Center center;  // Colour zero at the start, as there: place alone decides the first round's
                      // ties.
      center.y = y;
      center.x = x;
      centers.push_back(center);
    }
  }
  const double size = static_cast<double>(pixels) / static_cast<double>(centers.size());
  const std::vector<int> nearest =
      KMeans(image, height, width, std::move(centers), std::max(grid.step_y, grid.step_x));
  Segmentation result{height, width, 0, {}};
  result.labels = EnforceConnectivity(nearest, height, width, static_cast<size_t>(0.5 * size),
                                      static_cast<size_t>(3 * size));
  CompactLabels(result);
  return result;
}

}  // namespace dermis
