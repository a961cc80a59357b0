#include "worker/pictures/inpaint.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace dermis {
namespace {

// No pixel moves by more than this in the last sweep, in 0..255.
constexpr double kStill = 1e-3;
constexpr int kMostSweeps = 10'000;

struct Extent {
  int top, bottom, left, right;
};

// The longest side of a region, pixels.
int LongestSide(absl::Span<const uint32_t> labels, int height, int width) {
  const uint32_t count = *std::max_element(labels.begin(), labels.end()) + 1;
  std::vector<Extent> extents(count, {height, -1, width, -1});
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      Extent& extent = extents[labels[size_t(y) * width + x]];
      extent.top = std::min(extent.top, y);
      extent.bottom = std::max(extent.bottom, y);
      extent.left = std::min(extent.left, x);
      extent.right = std::max(extent.right, x);
    }
  }
  int longest = 1;
  for (const Extent& e : extents) {
    longest = std::max({longest, e.bottom - e.top + 1, e.right - e.left + 1});
  }
  return longest;
}

// Mean colour of each region, where the sweeps begin.
std::vector<double> Means(const uint8_t* rgb, absl::Span<const uint32_t> labels) {
  std::vector<std::array<double, 4>> sums(*std::max_element(labels.begin(), labels.end()) + 1,
                                          {0, 0, 0, 0});
  for (size_t i = 0; i < labels.size(); ++i) {
    auto& sum = sums[labels[i]];
    for (int c = 0; c < 3; ++c) sum[c] += rgb[3 * i + c];
    ++sum[3];
  }
  std::vector<double> picture(labels.size() * 3);
  for (size_t i = 0; i < labels.size(); ++i) {
    for (int c = 0; c < 3; ++c) picture[3 * i + c] = sums[labels[i]][c] / sums[labels[i]][3];
  }
  return picture;
}

}  // namespace

std::vector<float> Inpaint(const uint8_t* rgb, absl::Span<const uint32_t> labels, int height,
                           int width) {
  std::vector<double> picture = Means(rgb, labels);
  // Successive over-relaxation, at the best factor for a square of the longest side: as many sweeps
  // as it is long, where plain relaxation takes its square.
  const double factor = 2 / (1 + std::sin(M_PI / (LongestSide(labels, height, width) + 1)));
  double moved = 2 * kStill;
  for (int sweep = 0; sweep < kMostSweeps && moved > kStill; ++sweep) {
    moved = 0;
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const size_t i = size_t(y) * width + x;
        std::array<double, 3> sum = {0, 0, 0};
        int neighbours = 0;
        const auto add = [&](size_t j) {
          const bool unknown = labels[j] == labels[i];
          for (int c = 0; c < 3; ++c) sum[c] += unknown ? picture[3 * j + c] : rgb[3 * j + c];
          ++neighbours;
        };
        if (y > 0) add(i - width);
        if (x > 0) add(i - 1);
        if (x + 1 < width) add(i + 1);
        if (y + 1 < height) add(i + width);
        if (neighbours == 0) continue;
        for (int c = 0; c < 3; ++c) {
          const double change = factor * (sum[c] / neighbours - picture[3 * i + c]);
          picture[3 * i + c] += change;
          moved = std::max(moved, std::abs(change));
        }
      }
    }
  }
  return std::vector<float>(picture.begin(), picture.end());
}

}  // namespace dermis
