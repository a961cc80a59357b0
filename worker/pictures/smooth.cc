#include "worker/pictures/smooth.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>

#include "common/simd.h"

namespace dermis {
namespace {

// One line of a convolution with a symmetric kernel: from[x - k] to from[x + k] are there, `stride`
// apart.
DERMIS_SIMD void SmoothLine(const double* from, ptrdiff_t stride, int n,
                            const double* __restrict kernel, int radius, double* __restrict to) {
  for (int x = 0; x < n; ++x) to[x] = from[x] * kernel[0];
  for (int k = radius; k > 0; --k) {
    const double *left = from - k * stride, *right = from + k * stride;
    for (int x = 0; x < n; ++x) to[x] += (left[x] + right[x]) * kernel[k];
  }
}

}  // namespace

void Smooth(std::vector<double>& plane, int height, int width, double sigma) {
  const int radius = static_cast<int>(4.0 * sigma + 0.5);
  std::vector<double> kernel(radius + 1);
  double total = 0;
  for (int i = -radius; i <= radius; ++i) {
    const double weight = std::exp(-0.5 / (sigma * sigma) * i * i);
    kernel[std::abs(i)] = weight;
    total += weight;
  }
  for (double& weight : kernel) weight /= total;
  const auto mirror = [](int i, int n) {
    const int period = 2 * n;
    i = ((i % period) + period) % period;
    return i < n ? i : period - 1 - i;
  };
  // Down the columns, then along the rows; each with its border written out.
  std::vector<double> padded(size_t(height + 2 * radius) * width);
  for (int y = -radius; y < height + radius; ++y) {
    std::copy_n(&plane[size_t(mirror(y, height)) * width], width,
                &padded[size_t(y + radius) * width]);
  }
  for (int y = 0; y < height; ++y) {
    SmoothLine(&padded[size_t(y + radius) * width], width, width, kernel.data(), radius,
               &plane[size_t(y) * width]);
  }
  std::vector<double> line(width + 2 * radius);
  for (int y = 0; y < height; ++y) {
    double* const row = &plane[size_t(y) * width];
    for (int x = -radius; x < width + radius; ++x) line[x + radius] = row[mirror(x, width)];
    SmoothLine(line.data() + radius, 1, width, kernel.data(), radius, row);
  }
}

std::vector<float> Blurred(const uint8_t* rgb, int height, int width, double sigma) {
  std::vector<double> plane(static_cast<size_t>(height) * static_cast<size_t>(width));
  std::vector<float> picture(plane.size() * 3);
  for (size_t c = 0; c < 3; ++c) {
    for (size_t p = 0; p < plane.size(); ++p) plane[p] = rgb[3 * p + c];
    Smooth(plane, height, width, sigma);
    for (size_t p = 0; p < plane.size(); ++p) picture[3 * p + c] = static_cast<float>(plane[p]);
  }
  return picture;
}

}  // namespace dermis
