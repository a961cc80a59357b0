// An explanation as a picture file of its own: the image, the same with what the method says, and a
// line of text.
#ifndef DERMIS_TOOLS_REPORT_OVERLAY_H_
#define DERMIS_TOOLS_REPORT_OVERLAY_H_

#include <string>

#include "absl/types/span.h"

#include "tools/report/picture.h"

namespace dermis {

struct OverlayText {
  std::string title;    // "shapley, towards malignant". ASCII is what the font has.
  std::string numbers;  // "f(x) = 1.23, f(hidden) = -.4"
};

// PNG bytes. Red superpixels speak for the explained class, blue ones against it, full colour at
// the 99.9th percentile of |value| over the pixels; thin lines are the borders of the superpixels.
// image: RGB; labels: of its pixels, each below values.size().
std::string SuperpixelOverlayPng(const Raster& image, absl::Span<const double> values,
                                 absl::Span<const int> labels, const OverlayText& text,
                                 bool borders = true);

// The same for values of a grid's cells, row by row, without borders.
std::string GridOverlayPng(const Raster& image, absl::Span<const double> values, int width,
                           int height, const OverlayText& text);

// The same for a map of values on a grid of its own; sign: +1, or -1 for what it says of -f. Only
// what is above 0 is shown, the largest brightest; "no positive evidence" where nothing is. What is
// drawn over the image is smooth; where the grid is coarser, a third picture shows its cells.
std::string MapOverlayPng(const Raster& image, absl::Span<const float> map, int width, int height,
                          double sign, const OverlayText& text);

// A raster as a file of PNG.
std::string PngBytes(const Raster& raster);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_OVERLAY_H_
