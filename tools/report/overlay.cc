#include "tools/report/overlay.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "absl/strings/str_format.h"
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

namespace dermis {
namespace {

constexpr int kLeastSide = 384;  // Smaller images are enlarged for the eye.
constexpr int kGap = 8, kLine = 22, kBar = 10;
const cv::Scalar kPaper(255, 255, 255), kInk(60, 60, 60);

// Superpixels and grids keep their edges, pictures are smooth.
cv::Mat Enlarge(const cv::Mat& picture, int factor, int how) {
  cv::Mat large;
  cv::resize(picture, large, cv::Size(), factor, factor, how);
  return large;
}

int FactorOf(const Raster& image) {
  return std::max(1, (kLeastSide + image.width - 1) / std::max(1, image.width));
}

cv::Mat MatOf(const Raster& image) {
  return cv::Mat(image.height, image.width, CV_8UC3, const_cast<uint8_t*>(image.data.data()));
}

// Grey, and light enough for colour to stand out.
cv::Mat Faint(const cv::Mat& rgb) {
  cv::Mat grey, three;
  cv::cvtColor(rgb, grey, cv::COLOR_RGB2GRAY);
  cv::cvtColor(grey, three, cv::COLOR_GRAY2RGB);
  return three * 0.55 + kPaper * 0.45;
}

void Write(cv::Mat& canvas, const std::string& text, int x, int y) {
  cv::putText(canvas, text, {x, y}, cv::FONT_HERSHEY_SIMPLEX, 0.45, kInk, 1, cv::LINE_AA);
}

std::string Encode(const cv::Mat& rgb) {
  cv::Mat bgr;
  cv::cvtColor(rgb, bgr, cv::COLOR_RGB2BGR);
  std::vector<uint8_t> png;
  if (!cv::imencode(".png", bgr, png)) return "";
  return std::string(png.begin(), png.end());
}

// Pictures of one size with gaps: the image, the explanation; beneath them two lines and a scale.
cv::Mat Canvas(const std::vector<cv::Mat>& pictures, const OverlayText& text) {
  const int width = pictures[0].cols, height = pictures[0].rows, top = height + kGap;
  const int count = static_cast<int>(pictures.size());
  cv::Mat canvas(top + 2 * kLine + kGap, count * (width + kGap) - kGap, CV_8UC3, kPaper);
  for (int k = 0; k < count; ++k) {
    pictures[static_cast<size_t>(k)].copyTo(canvas(cv::Rect(k * (width + kGap), 0, width, height)));
  }
  Write(canvas, text.title, kGap, top + 14);
  Write(canvas, text.numbers, kGap, top + kLine + 14);
  return canvas;
}

// A bar of colours from `low` to `high` at the lower right.
template <typename ColourOf>
void Scale(cv::Mat& canvas, int side, int top, const std::string& low, const std::string& high,
           ColourOf colour_of) {
  const int left = side + kGap, width = side - 1;
  for (int x = 0; x < width; ++x) {
    const Colour c = colour_of(static_cast<double>(x) / (width - 1));
    cv::line(canvas, {left + x, top}, {left + x, top + kBar}, cv::Scalar(c[0], c[1], c[2]));
  }
  Write(canvas, low, left, top + kBar + 16);
  int baseline = 0;
  const cv::Size size = cv::getTextSize(high, cv::FONT_HERSHEY_SIMPLEX, 0.45, 1, &baseline);
  Write(canvas, high, left + width - size.width, top + kBar + 16);
}

// -1 blue, 0 white, 1 red.
Colour Signed(double v) {
  const auto faded = [&](int c) {
    return static_cast<uint8_t>(std::lround(255 + (c - 255) * std::min(1.0, std::abs(v))));
  };
  return v >= 0 ? Colour{faded(214), faded(24), faded(50)}
                : Colour{faded(30), faded(96), faded(214)};
}

// A map's cells as they are.
cv::Mat Grid(const std::vector<float>& map, int width, int height, cv::Size size) {
  cv::Mat cells(height, width, CV_8UC3), large;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const Colour c = Inferno(map[static_cast<size_t>(y) * static_cast<size_t>(width) + x]);
      cells.at<cv::Vec3b>(y, x) = {c[0], c[1], c[2]};
    }
  }
  cv::resize(cells, large, size, 0, 0, cv::INTER_NEAREST);
  return large;
}

}  // namespace

std::string PngBytes(const Raster& raster) { return Encode(MatOf(raster)); }

std::string SuperpixelOverlayPng(const Raster& image, absl::Span<const double> values,
                                 absl::Span<const int> labels, const OverlayText& text,
                                 bool borders) {
  const int factor = FactorOf(image);
  const double limit = std::max(1e-300, PixelPercentile(values, labels, 99.9));
  const cv::Mat original = Enlarge(MatOf(image), factor, cv::INTER_CUBIC);
  cv::Mat shown = Faint(original);
  for (int y = 0; y < shown.rows; ++y) {
    auto* row = shown.ptr<cv::Vec3b>(y);
    const int* const here = labels.data() + static_cast<ptrdiff_t>(y / factor) * image.width;
    const int* const above =
        y == 0 ? here : labels.data() + static_cast<ptrdiff_t>((y - 1) / factor) * image.width;
    for (int x = 0; x < shown.cols; ++x) {
      const int label = here[x / factor];
      const double v = std::clamp(values[label] / limit, -1.0, 1.0);
      const double opacity = 0.75 * std::abs(v);
      const Colour colour = Signed(v < 0 ? -1 : 1);
      const bool border =
          borders && (above[x / factor] != label || (x > 0 && here[(x - 1) / factor] != label));
      for (int c = 0; c < 3; ++c) {
        const double mixed = row[x][c] * (1 - opacity) + colour[c] * opacity;
        row[x][c] = static_cast<uint8_t>(std::lround(border ? mixed * 0.8 + 255 * 0.2 : mixed));
      }
    }
  }
  cv::Mat canvas = Canvas({original, shown}, text);
  Scale(canvas, original.cols, original.rows + kGap, absl::StrFormat("-%.3g", limit),
        absl::StrFormat("+%.3g", limit), [](double t) { return Signed(2 * t - 1); });
  return Encode(canvas);
}

std::string GridOverlayPng(const Raster& image, absl::Span<const double> values, int width,
                           int height, const OverlayText& text) {
  std::vector<int> labels;
  labels.reserve(static_cast<size_t>(image.width) * image.height);
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      labels.push_back(y * height / image.height * width + x * width / image.width);
    }
  }
  return SuperpixelOverlayPng(image, values, labels, text, /*borders=*/false);
}

std::string MapOverlayPng(const Raster& image, absl::Span<const float> map, int width, int height,
                          double sign, const OverlayText& text) {
  const int factor = FactorOf(image);
  const cv::Mat original = Enlarge(MatOf(image), factor, cv::INTER_CUBIC);
  cv::Mat shown = Faint(original);
  std::vector<cv::Mat> pictures = {original, shown};  // A cv::Mat refers to its pixels.
  const std::optional<std::vector<float>> cam = NormaliseCam(map, sign);
  if (cam) {
    if (width < image.width || height < image.height) {
      pictures.push_back(Grid(*cam, width, height, shown.size()));
    }
    const std::vector<float> smooth = ResizeBilinear(*cam, width, height, shown.cols, shown.rows);
    for (int y = 0; y < shown.rows; ++y) {
      auto* row = shown.ptr<cv::Vec3b>(y);
      for (int x = 0; x < shown.cols; ++x) {
        const double v = smooth[static_cast<size_t>(y) * shown.cols + x];
        const Colour colour = Inferno(v);
        const double opacity = std::min(0.85, 1.2 * v);
        for (int c = 0; c < 3; ++c) {
          row[x][c] =
              static_cast<uint8_t>(std::lround(row[x][c] * (1 - opacity) + colour[c] * opacity));
        }
      }
    }
  } else {
    Write(shown, "no positive evidence", shown.cols / 2 - 80, shown.rows / 2);
  }
  cv::Mat canvas = Canvas(pictures, text);
  const float most =
      map.empty() ? 0 : *std::max_element(map.begin(), map.end(), [&](float a, float b) {
        return a * sign < b * sign;
      });
  Scale(canvas, original.cols, original.rows + kGap, "0",
        absl::StrFormat("%.3g", std::max(0.0, most * sign)), Inferno);
  return Encode(canvas);
}

}  // namespace dermis
