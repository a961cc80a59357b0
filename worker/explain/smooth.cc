#include "worker/explain/smooth.h"

#include <cmath>
#include <cstddef>
#include <cstdlib>

namespace dermis {

void Smooth(std::vector<double>& image, int height, int width, double sigma) {
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
  const auto pass = [&](int lines, int n, size_t line_stride, size_t stride) {
    std::vector<double> line(n + 2 * radius);
    for (int l = 0; l < lines; ++l) {
      for (int c = 0; c < 3; ++c) {
        double* const base = image.data() + l * line_stride + c;
        for (int i = -radius; i < n + radius; ++i) line[i + radius] = base[mirror(i, n) * stride];
        for (int i = 0; i < n; ++i) {
          double sum = line[i + radius] * kernel[0];
          for (int k = radius; k > 0; --k) {
            sum += (line[i + radius - k] + line[i + radius + k]) * kernel[k];
          }
          base[i * stride] = sum;
        }
      }
    }
  };
  pass(width, height, 3, size_t{3} * width);
  pass(height, width, size_t{3} * width, 3);
}

}  // namespace dermis
