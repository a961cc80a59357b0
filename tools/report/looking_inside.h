// Figures of the methods that look into the model: attributions of single pixels, class activation
// maps.
#ifndef DERMIS_TOOLS_REPORT_LOOKING_INSIDE_H_
#define DERMIS_TOOLS_REPORT_LOOKING_INSIDE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "dermis/v1/task.pb.h"
#include "tools/report/scene.h"

namespace dermis {

// A layer's map towards the class on the side of `sign` (+1: the positive one): values * sign is
// its evidence.
struct Cam {
  absl::Span<const float> values;
  double sign = 1;
};
Cam CamOf(const v1::LayerMaps& layer, double sign);

// Whether sizes and values fit, or indices would run out.
absl::Status CheckPixels(const v1::PixelAttribution& pixels);

// As shap's image_plot: channels added up, limits at the 99.9th percentile of the magnitude, red
// above 0 and blue below, over the pale grey image. On the grid of the model's input. CheckPixels
// first.
std::string PixelFigure(const Scene& scene, const v1::PixelAttribution& pixels,
                        const std::string& title);

// A row of the table of what they add up to.
std::string PixelNumbersRow(const v1::PixelAttribution& pixels, const std::string& title);
std::string PixelNumbersTable(const std::string& rows);

// All layers' maps of one method, towards the predicted class: bilinear over the image, each on its
// own grid beside. A map without a positive value says so and is not stretched. Maps that do not
// fit are named instead. `open`: unfolded.
std::string CamSection(const Scene& scene, const std::string& title,
                       const v1::ActivationOutput& maps, bool open);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_LOOKING_INSIDE_H_
