#include "tools/report/picture.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace dermis {
namespace {

// matplotlib's maps at 0, 1/8, ..., 1; between them straight lines.
constexpr Colour kInferno[] = {{0, 0, 4},     {31, 12, 72},   {85, 15, 109},  {136, 34, 106}, {186, 54, 85},
                               {227, 89, 51}, {249, 140, 10}, {249, 201, 50}, {252, 255, 164}};
constexpr Colour kViridis[] = {{68, 1, 84},   {71, 44, 122},  {59, 81, 139},   {44, 113, 142}, {33, 144, 141},
                               {39, 173, 129}, {92, 200, 99}, {170, 220, 50}, {253, 231, 37}};

Colour Between(const Colour* table, double t) {
  if (!(t > 0)) return table[0];   // NaN, too.
  if (t >= 1) return table[8];
  const int i = static_cast<int>(t * 8);
  const double f = t * 8 - i;
  Colour colour;
  for (int c = 0; c < 3; ++c) {
    colour[c] = static_cast<uint8_t>(std::lround(table[i][c] * (1 - f) + table[i + 1][c] * f));
  }
  return colour;
}

std::vector<int> Largest(std::vector<std::pair<double, int>> scored, size_t count) {
  std::stable_sort(scored.begin(), scored.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<int> indices;
  for (const auto& [score, index] : scored) {
    if (score > 0 && indices.size() < count) indices.push_back(index);
  }
  return indices;
}

}  // namespace

namespace {

// Empty where encoding fails.
std::string UriOf(const Raster& raster, const char* extension, const char* type, const std::vector<int>& parameters) {
  const size_t size = static_cast<size_t>(raster.width) * raster.height * raster.channels;
  if (size == 0 || raster.data.size() != size) return "";
  const bool alpha = raster.channels == 4;
  const cv::Mat rgb(raster.height, raster.width, alpha ? CV_8UC4 : CV_8UC3,
                    const_cast<uint8_t*>(raster.data.data()));
  cv::Mat bgr;
  cv::cvtColor(rgb, bgr, alpha ? cv::COLOR_RGBA2BGRA : cv::COLOR_RGB2BGR);
  std::vector<uint8_t> bytes;
  if (!cv::imencode(extension, bgr, bytes, parameters)) return "";
  return absl::StrCat("data:image/", type, ";base64,",
                      absl::Base64Escape({reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
}

}  // namespace

std::string PngUri(const Raster& raster) { return UriOf(raster, ".png", "png", {cv::IMWRITE_PNG_COMPRESSION, 9}); }

std::string JpegUri(const Raster& raster) { return UriOf(raster, ".jpg", "jpeg", {cv::IMWRITE_JPEG_QUALITY, 92}); }

std::string LazySize(const Raster& raster) {
  return absl::StrCat("loading=\"lazy\" width=\"", raster.width, "\" height=\"", raster.height,
                      "\"");
}

Colour Inferno(double t) { return Between(kInferno, t); }
Colour Viridis(double t) { return Between(kViridis, t); }

std::string OutlinePath(absl::Span<const int> labels, int width, int height) {
  std::string path;
  const auto at = [&](int x, int y) { return std::max(-1, labels[static_cast<size_t>(y) * width + x]); };
  for (int y = 1; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const int first = x;
      while (x < width && at(x, y - 1) != at(x, y)) ++x;
      if (x > first) absl::StrAppend(&path, "M", first, " ", y, "h", x - first);
    }
  }
  for (int x = 1; x < width; ++x) {
    for (int y = 0; y < height; ++y) {
      const int first = y;
      while (y < height && at(x - 1, y) != at(x, y)) ++y;
      if (y > first) absl::StrAppend(&path, "M", x, " ", first, "v", y - first);
    }
  }
  return path;
}

std::vector<int> LabelsOf(std::string_view bytes) {
  std::vector<int> labels(bytes.size() / 2);
  for (size_t i = 0; i < labels.size(); ++i) {
    labels[i] = static_cast<uint8_t>(bytes[2 * i]) | static_cast<uint8_t>(bytes[2 * i + 1]) << 8;
  }
  return labels;
}

std::vector<int> LabelsOn(const v1::SuperpixelOutput& superpixels, int width, int height) {
  const std::vector<int> labels = LabelsOf(superpixels.labels());
  const auto rows = static_cast<int64_t>(superpixels.height());
  const auto columns = static_cast<int64_t>(superpixels.width());
  if (rows == 0 || columns == 0 || rows > height || columns > width ||
      labels.size() != static_cast<size_t>(rows * columns)) {
    return {};
  }
  std::vector<int> large;
  for (int64_t y = 0; y < height; ++y) {
    const int64_t row = (2 * y + 1) * rows / (2 * height);
    for (int64_t x = 0; x < width; ++x) {
      large.push_back(labels[row * columns + (2 * x + 1) * columns / (2 * width)]);
    }
  }
  return large;
}

std::vector<int> LargestTowards(absl::Span<const double> values, double sign, size_t count) {
  std::vector<std::pair<double, int>> scored;
  for (size_t k = 0; k < values.size(); ++k) scored.emplace_back(values[k] * sign, static_cast<int>(k));
  return Largest(std::move(scored), count);
}

std::vector<int> LargestByMagnitude(absl::Span<const double> values, size_t count) {
  std::vector<std::pair<double, int>> scored;
  for (size_t k = 0; k < values.size(); ++k) scored.emplace_back(std::abs(values[k]), static_cast<int>(k));
  return Largest(std::move(scored), count);
}

double PixelPercentile(absl::Span<const double> values, absl::Span<const int> labels, double q) {
  std::vector<double> sorted;
  sorted.reserve(labels.size());
  for (int label : labels) sorted.push_back(std::abs(values[label]));
  if (sorted.empty()) return 0;
  std::sort(sorted.begin(), sorted.end());
  const double position = q / 100 * static_cast<double>(sorted.size() - 1);
  const size_t low = static_cast<size_t>(position);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (position - static_cast<double>(low));
}

std::optional<std::vector<float>> NormaliseCam(absl::Span<const float> cam, double sign) {
  std::vector<float> out(cam.size());
  float least = INFINITY, most = 0;
  for (size_t i = 0; i < cam.size(); ++i) {
    out[i] = std::max(0.f, static_cast<float>(cam[i] * sign));
    least = std::min(least, out[i]);
    most = std::max(most, out[i]);
  }
  if (!(most > 0)) return std::nullopt;
  for (float& v : out) v = (v - least) / (1e-7f + (most - least));
  return out;
}

std::vector<float> ResizeBilinear(const std::vector<float>& in, int width, int height, int to_width,
                                  int to_height) {
  const cv::Mat source(height, width, CV_32F, const_cast<float*>(in.data()));
  cv::Mat target;
  cv::resize(source, target, cv::Size(to_width, to_height), 0, 0, cv::INTER_LINEAR);
  return std::vector<float>(target.begin<float>(), target.end<float>());
}

Raster Heat(const std::vector<float>& values, int width, int height, Colour (*map)(double), bool veil) {
  Raster raster{width, height, veil ? 4 : 3, {}};
  raster.data.reserve(values.size() * 4);
  for (float v : values) {
    const double t = std::round(v * 63) / 63;
    const Colour colour = map(t);
    raster.data.insert(raster.data.end(), colour.begin(), colour.end());
    if (veil) raster.data.push_back(static_cast<uint8_t>(std::lround(std::clamp(t, 0.0, 1.0) * 255)));
  }
  return raster;
}

Raster ShapleyOverlay(absl::Span<const double> values, absl::Span<const int> labels, int width,
                      int height, double limit) {
  Raster raster{width, height, 4, {}};
  raster.data.reserve(labels.size() * 4);
  for (int label : labels) {
    const double t = limit > 0 ? std::clamp(values[label] / limit, -1.0, 1.0) : 0;
    const Colour colour = t > 0 ? Colour{255, 0, 81} : Colour{0, 139, 251};   // shap's red and blue.
    raster.data.insert(raster.data.end(), colour.begin(), colour.end());
    raster.data.push_back(static_cast<uint8_t>(std::lround(std::abs(t) * 255)));
  }
  return raster;
}

Raster SignOverlay(absl::Span<const double> values, const std::vector<int>& shown, double sign,
                   absl::Span<const int> labels, int width, int height) {
  std::vector<int8_t> kind(values.size());
  for (int k : shown) kind[k] = values[k] * sign > 0 ? 1 : -1;
  Raster raster{width, height, 4, std::vector<uint8_t>(labels.size() * 4)};
  for (size_t p = 0; p < labels.size(); ++p) {
    const int8_t here = kind[labels[p]];
    if (here == 0) continue;
    raster.data[4 * p + (here > 0 ? 1 : 0)] = 255;
    raster.data[4 * p + 3] = 255;
  }
  return raster;
}

Raster Tiles(absl::Span<const float> maps, int channels, int width, int height) {
  int columns = 1;
  while (columns * columns < 2 * channels) ++columns;
  // A divisor near it makes a full rectangle: 32 -> 8 x 4, 128 -> 16 x 8.
  for (int c = columns; c <= columns * 3 / 2; ++c) {
    if (channels % c == 0) {
      columns = c;
      break;
    }
  }
  columns = std::min(columns, channels);
  const int rows = (channels + columns - 1) / columns;
  Raster raster{columns * (width + 1) - 1, rows * (height + 1) - 1, 4, {}};
  raster.data.resize(static_cast<size_t>(raster.width) * raster.height * 4);   // Gaps: transparent.
  const size_t pixels = static_cast<size_t>(width) * height;
  for (int k = 0; k < channels; ++k) {
    const absl::Span<const float> map = maps.subspan(k * pixels, pixels);
    const auto [least, most] = std::minmax_element(map.begin(), map.end());
    const double range = *most - *least;
    for (size_t p = 0; p < pixels; ++p) {
      const double t = range > 0 ? (map[p] - *least) / range : 0;
      const Colour colour = Viridis(std::round(t * 31) / 31);
      const int x = (k % columns) * (width + 1) + static_cast<int>(p) % width;
      const int y = (k / columns) * (height + 1) + static_cast<int>(p) / width;
      uint8_t* out = &raster.data[(static_cast<size_t>(y) * raster.width + x) * 4];
      std::copy(colour.begin(), colour.end(), out);
      out[3] = 255;
    }
  }
  return raster;
}

}  // namespace dermis
