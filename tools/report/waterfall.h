// How superpixels add up to an output: from all hidden to the whole image, the strongest first. As
// shap's waterfall; the numbers are those on the picture beside it.
#ifndef DERMIS_TOOLS_REPORT_WATERFALL_H_
#define DERMIS_TOOLS_REPORT_WATERFALL_H_

#include <string>

#include "absl/types/span.h"

#include "dermis/v1/task.pb.h"
#include "tools/report/scene.h"

namespace dermis {

// HTML of one <figure>. fit: of a method whose values add up (Shapley). Empty where nothing is to
// be added up.
std::string RenderWaterfall(const Scene& scene, const v1::Attribution& fit,
                            const std::string& title);

// SVG text that numbers the same superpixels on their picture. labels: one a pixel.
std::string WaterfallNumbers(const Scene& scene, const v1::Attribution& fit,
                             absl::Span<const int> labels);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_WATERFALL_H_
