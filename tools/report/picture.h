// Pictures of a report: the display rules of the explainers and what turns numbers into PNG and SVG.
#ifndef DERMIS_TOOLS_REPORT_PICTURE_H_
#define DERMIS_TOOLS_REPORT_PICTURE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

#include "dermis/v1/task.pb.h"

namespace dermis {

using Colour = std::array<uint8_t, 3>;   // R, G, B.

// A raster of 8-bit samples, row-major, 3 (RGB) or 4 (RGBA, not premultiplied) channels.
struct Raster {
  int width = 0, height = 0, channels = 3;
  std::vector<uint8_t> data;
};

// "data:image/png;base64,...". Empty where encoding fails (never for a raster of fitting size).
std::string PngUri(const Raster& raster);
// "data:image/jpeg;base64,..." of a photograph (RGB): a fifth of the size, and nobody sees the difference.
std::string JpegUri(const Raster& raster);
// Attributes of an <img> that is decoded when it comes into view: its size is known before, so
// nothing jumps.
std::string LazySize(const Raster& raster);

// Perceptually uniform maps of [0, 1], sampled from matplotlib's.
Colour Inferno(double t);
Colour Viridis(double t);

// The borders between different values of `labels` (height x width), the picture's edge left out, as an SVG
// path in pixel units. Values below 0 count as one region without a border of its own.
std::string OutlinePath(absl::Span<const int> labels, int width, int height);

// Little-endian uint16 labels of a SuperpixelOutput.
std::vector<int> LabelsOf(std::string_view bytes);
// The same on a picture of this size, at least as large: superpixels may be of the image as the model sees it. Empty
// where they are of no such picture.
std::vector<int> LabelsOn(const v1::SuperpixelOutput& superpixels, int width, int height);

// Indices of at most `count` values with value * sign > 0, the largest first; ties to the lower index.
std::vector<int> LargestTowards(absl::Span<const double> values, double sign, size_t count);
// The same by |value| > 0.
std::vector<int> LargestByMagnitude(absl::Span<const double> values, size_t count);

// numpy.percentile (linear) of |values[labels[p]]| over all pixels p: shap's colour limit at q = 99.9.
double PixelPercentile(absl::Span<const double> values, absl::Span<const int> labels, double q);

// ReLU, minus minimum, / (1e-7 + maximum): pytorch-grad-cam's scale_cam_image. nullopt: nothing above 0.
std::optional<std::vector<float>> NormaliseCam(absl::Span<const float> cam, double sign);

// Bilinear, half-pixel centres (cv::resize).
std::vector<float> ResizeBilinear(const std::vector<float>& in, int width, int height, int to_width,
                                  int to_height);

// values in [0, 1] through a map, in 64 steps (so that smooth pictures stay small). `veil`: as an overlay whose
// opacity is the value, so that the image stays visible where there is no evidence.
Raster Heat(const std::vector<float>& values, int width, int height, Colour (*map)(double), bool veil = false);

// Superpixel values as shap draws them: red above 0, blue below, opacity |value| / limit.
Raster ShapleyOverlay(absl::Span<const double> values, absl::Span<const int> labels, int width,
                      int height, double limit);

// Pure red where value < 0 and pure green where value > 0 among `shown`, transparent elsewhere. Drawn with
// "lighten" this sets the channel to its maximum, as lime does.
Raster SignOverlay(absl::Span<const double> values, const std::vector<int>& shown, double sign,
                   absl::Span<const int> labels, int width, int height);

// Channels side by side with gaps of one pixel, each scaled to its own range; about twice as wide as high.
Raster Tiles(absl::Span<const float> maps, int channels, int width, int height);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_PICTURE_H_
