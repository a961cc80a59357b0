#include "worker/explain/checks/similarity.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "common/rank.h"
#include "worker/explain/checks/maps.h"

namespace dermis {
namespace {

constexpr int kWindow = 7;

// Sums over every window that lies within the picture, (height - 6) x (width - 6).
std::vector<double> WindowSums(const std::vector<double>& picture, int height, int width) {
  const int columns = width - kWindow + 1, rows = height - kWindow + 1;
  std::vector<double> along(static_cast<size_t>(height) * columns), sums(static_cast<size_t>(rows) * columns);
  // Each window is summed by itself: no error is carried from one to the next.
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < columns; ++x) {
      double sum = 0;
      for (int i = 0; i < kWindow; ++i) sum += picture[static_cast<size_t>(y) * width + x + i];
      along[static_cast<size_t>(y) * columns + x] = sum;
    }
  }
  for (int y = 0; y < rows; ++y) {
    for (int x = 0; x < columns; ++x) {
      double sum = 0;
      for (int i = 0; i < kWindow; ++i) sum += along[static_cast<size_t>(y + i) * columns + x];
      sums[static_cast<size_t>(y) * columns + x] = sum;
    }
  }
  return sums;
}

std::vector<double> Absolute(absl::Span<const double> values) {
  std::vector<double> absolute(values.begin(), values.end());
  for (double& value : absolute) value = std::abs(value);
  return absolute;
}

bool Varies(const std::vector<double>& values) {
  return std::any_of(values.begin(), values.end(), [&](double v) { return v != values[0]; });
}

std::vector<float> Drawn(std::vector<double> absolute, const Segmentation& segmentation) {
  const double largest = *std::max_element(absolute.begin(), absolute.end());
  for (double& value : absolute) value /= largest;
  return Paint(absolute, segmentation);
}

}  // namespace

std::optional<double> StructuralSimilarity(absl::Span<const float> a, absl::Span<const float> b,
                                           int height, int width) {
  if (height < kWindow || width < kWindow) return std::nullopt;
  std::vector<double> x(a.begin(), a.end()), y(b.begin(), b.end()), xx(x), yy(y), xy(x);
  for (size_t p = 0; p < x.size(); ++p) {
    xx[p] *= x[p];
    yy[p] *= y[p];
    xy[p] *= y[p];
  }
  const std::vector<double> sx = WindowSums(x, height, width), sy = WindowSums(y, height, width),
                            sxx = WindowSums(xx, height, width),
                            syy = WindowSums(yy, height, width),
                            sxy = WindowSums(xy, height, width);
  constexpr double kPixels = kWindow * kWindow, kC1 = 0.01 * 0.01, kC2 = 0.03 * 0.03;
  constexpr double kSample = kPixels / (kPixels - 1);
  double total = 0;
  for (size_t w = 0; w < sx.size(); ++w) {
    const double ux = sx[w] / kPixels, uy = sy[w] / kPixels;
    const double vx = kSample * (sxx[w] / kPixels - ux * ux);
    const double vy = kSample * (syy[w] / kPixels - uy * uy);
    const double vxy = kSample * (sxy[w] / kPixels - ux * uy);
    total += (2 * ux * uy + kC1) * (2 * vxy + kC2) /
             ((ux * ux + uy * uy + kC1) * (vx + vy + kC2));
  }
  return std::clamp(total / static_cast<double>(sx.size()), -1.0, 1.0);
}

v1::Similarity SimilarityOf(absl::Span<const double> a, absl::Span<const double> b,
                            const Segmentation& segmentation) {
  v1::Similarity similarity;
  if (const auto rank = Spearman(a, b)) similarity.set_rank(*rank);
  const std::vector<double> absolute_a = Absolute(a), absolute_b = Absolute(b);
  if (const auto rank = Spearman(absolute_a, absolute_b)) similarity.set_absolute_rank(*rank);
  if (!Varies(absolute_a) || !Varies(absolute_b)) return similarity;
  const auto ssim =
      StructuralSimilarity(Drawn(absolute_a, segmentation), Drawn(absolute_b, segmentation),
                           segmentation.height, segmentation.width);
  if (ssim) similarity.set_ssim(*ssim);
  return similarity;
}

std::optional<double> RelativeChange(absl::Span<const double> a, absl::Span<const double> b) {
  double change = 0, size = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    change += (b[k] - a[k]) * (b[k] - a[k]);
    size += a[k] * a[k];
  }
  if (size == 0) return std::nullopt;
  return std::sqrt(change / size);
}

}  // namespace dermis
