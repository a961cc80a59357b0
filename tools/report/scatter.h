// Images as points in the plane: SVG that stands by itself, and a script that shows the image under the
// pointer, or images in the place of points.
#ifndef DERMIS_TOOLS_REPORT_SCATTER_H_
#define DERMIS_TOOLS_REPORT_SCATTER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/image_set.h"
#include "tools/report/picture.h"

namespace dermis {

// What all scatter plots of a page share: names and thumbnails of the images, once. `images` ascending;
// parts[i]: 0 training, 1 validation, 2 test. HTML; errors: those of the image set.
absl::StatusOr<std::string> RenderScatterImages(const ImageSet& set,
                                                absl::Span<const uint32_t> images,
                                                const std::vector<uint8_t>& parts);

struct Scatter {
  std::string title;                  // Above the plot.
  std::string x_label, y_label;
  std::vector<float> points;          // x, y of each image, in the order of RenderScatterImages.
  std::vector<bool> positive;         // The class that is drawn in the second colour.
  std::vector<bool> marked;           // Drawn in full, the others faintly; empty: all in full.
  std::string negative_name, positive_name;
};
std::string RenderScatter(const Scatter& scatter);
// The plot alone, as inline SVG.
std::string ScatterSvg(const Scatter& scatter);
// The same with small images in the place of points, the class by the colour of their frames.
absl::StatusOr<Raster> ScatterOfImages(const Scatter& scatter, const ImageSet& set, absl::Span<const uint32_t> images);

// The one script of the page.
extern const char kScatterScript[];

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_SCATTER_H_
