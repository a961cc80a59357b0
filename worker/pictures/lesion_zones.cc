#include "worker/pictures/lesion_zones.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace dermis {
namespace {

constexpr double kFar = std::numeric_limits<double>::infinity();

// The lower envelope of the parabolas (q - p)^2 + f(p): one line of the distance transform.
// `base` and `stride` name the line's n values; `at` and `from` are room for n and n + 1 numbers.
void TransformLine(double* base, size_t stride, int n, std::vector<int>& at,
                   std::vector<double>& from, std::vector<double>& line) {
  for (int q = 0; q < n; ++q) line[q] = base[q * stride];
  int last = -1;  // Of the envelope's parabolas.
  for (int q = 0; q < n; ++q) {
    if (line[q] == kFar) continue;
    double meets = -kFar;
    while (last >= 0) {
      const int p = at[last];
      meets = ((line[q] + double(q) * q) - (line[p] + double(p) * p)) / (2.0 * (q - p));
      if (meets > from[last]) break;
      --last;
    }
    if (last < 0) meets = -kFar;
    at[++last] = q;
    from[last] = meets;
  }
  if (last < 0) return;  // All are far.
  int k = 0;
  for (int q = 0; q < n; ++q) {
    while (k < last && from[k + 1] < q) ++k;
    const double away = q - at[k];
    base[q * stride] = away * away + line[at[k]];
  }
}

}  // namespace

std::vector<double> SquaredDistances(absl::Span<const uint8_t> set, int height, int width) {
  std::vector<double> distances(set.size());
  for (size_t i = 0; i < set.size(); ++i) distances[i] = set[i] ? 0 : kFar;
  const int longest = std::max(height, width);
  std::vector<int> at(longest);
  std::vector<double> from(longest), line(longest);
  for (int x = 0; x < width; ++x) {
    TransformLine(distances.data() + x, width, height, at, from, line);
  }
  for (int y = 0; y < height; ++y) {
    TransformLine(distances.data() + size_t(y) * width, 1, width, at, from, line);
  }
  return distances;
}

std::vector<uint8_t> LesionZones(absl::Span<const uint8_t> mask, int height, int width,
                                 double band) {
  std::vector<uint8_t> lesion(mask.size()), around(mask.size());
  size_t area = 0;
  for (size_t i = 0; i < mask.size(); ++i) {
    lesion[i] = mask[i] != 0;
    around[i] = mask[i] == 0;
    area += lesion[i];
  }
  const double diameter = 2 * std::sqrt(static_cast<double>(area) / M_PI);
  const double thickness = band * diameter;
  const std::vector<double> to_lesion = SquaredDistances(lesion, height, width);
  const std::vector<double> to_around = SquaredDistances(around, height, width);
  std::vector<uint8_t> zones(mask.size());
  for (size_t i = 0; i < mask.size(); ++i) {
    // The edge lies half way between the centres of the two pixels.
    const double from_edge = std::sqrt(lesion[i] ? to_around[i] : to_lesion[i]) - 0.5;
    const bool near = from_edge < thickness;
    zones[i] = lesion[i] ? (near ? kInnerBand : kCore) : (near ? kOuterBand : kSurroundings);
  }
  return zones;
}

std::vector<uint8_t> Shifted(absl::Span<const uint8_t> zones, int height, int width, int down,
                             int right) {
  std::vector<uint8_t> moved(zones.size());
  for (int y = 0; y < height; ++y) {
    const size_t to = static_cast<size_t>((y + down) % height) * width;
    for (int x = 0; x < width; ++x) moved[to + (x + right) % width] = zones[size_t(y) * width + x];
  }
  return moved;
}

std::vector<uint8_t> Turned(absl::Span<const uint8_t> zones, int side, int turn) {
  std::vector<uint8_t> turned(zones.size());
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      int row = y, column = (turn & 4) != 0 ? side - 1 - x : x;
      for (int quarter = 0; quarter < (turn & 3); ++quarter) {
        const int below = row;
        row = column;
        column = side - 1 - below;
      }
      turned[size_t(row) * side + column] = zones[size_t(y) * side + x];
    }
  }
  return turned;
}

std::vector<uint32_t> ZoneSizes(absl::Span<const uint8_t> zones) {
  std::vector<uint32_t> sizes(kZones, 0);
  for (uint8_t zone : zones) ++sizes[zone];
  return sizes;
}

std::vector<uint8_t> BoundingBox(absl::Span<const uint8_t> mask, int height, int width) {
  int top = height, bottom = -1, left = width, right = -1;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      if (mask[size_t(y) * width + x] == 0) continue;
      top = std::min(top, y);
      bottom = std::max(bottom, y);
      left = std::min(left, x);
      right = std::max(right, x);
    }
  }
  std::vector<uint8_t> box(mask.size(), 0);
  for (int y = top; y <= bottom; ++y) {
    std::fill_n(box.begin() + static_cast<ptrdiff_t>(y) * width + left, right - left + 1,
                uint8_t{1});
  }
  return box;
}

}  // namespace dermis
