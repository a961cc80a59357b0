// What dermatologists look at, against what the network says: asymmetry, border, colour and
// diameter of lesions, from their masks. And whether attribution follows contrast in colour, as the
// seed paper's section 4.5 has it.
#ifndef DERMIS_TOOLS_REPORT_ABCD_H_
#define DERMIS_TOOLS_REPORT_ABCD_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "common/evaluation/subgroups.h"
#include "common/rank.h"
#include "dermis/v1/studies.pb.h"
#include "tools/report/report.h"

namespace dermis {

// Of one lesion: what its mask covers, all its parts together.
struct LesionShape {
  // Mean share of its area that does not fall onto itself when it is mirrored at either of its
  // principal axes, halved: 0 is symmetric.
  double asymmetry = 0;
  double border = 0;    // Perimeter^2 / (4 pi area) of its largest part: 1 is a disc.
  double colour = 0;    // Root mean square distance from its mean colour, in CIELAB.
  double diameter = 0;  // Largest distance between two of its pixels.
  double area = 0;      // Share of the picture.
  bool cut = false;     // It reaches the picture's edge: diameter and border are of what is seen.
};
// pixels: height x width x 3 sRGB; mask: height x width, 0 outside. nullopt: fewer than 16 pixels
// of lesion, or nothing wider than a line.
std::optional<LesionShape> ShapeOf(std::string_view pixels, std::string_view mask, int height,
                                   int width);

// Mean difference in colour (CIELAB) of each pixel to the eight that lie `distance` away from it;
// within the picture.
std::vector<double> LocalContrast(std::string_view pixels, int height, int width, int distance);

struct AbcdCorrelation {
  std::string property;  // "asymmetry"
  std::string among;     // "all", or a class.
  uint64_t images = 0;
  RankCorrelation margin;  // With the network's margin.
};
struct ContrastCorrelation {
  std::string method;
  uint64_t images = 0;
  double mean = 0;    // Over images: Spearman of |attribution| per area and contrast, over
                      // superpixels or pixels.
  Interval interval;  // Bootstrap by lesion; NaN for fewer than five images.
};
struct AbcdReport {
  std::vector<AbcdCorrelation> properties;
  std::vector<ContrastCorrelation> contrast;
  uint64_t images = 0, without_mask = 0, cut = 0;
};

// Of the test images with a mask, and of the explained images. Empty lists where there are none, or
// not two classes. Errors: those of the image set.
absl::StatusOr<AbcdReport> JudgeAbcd(const v1::StudyResults& results, const ReportInputs& inputs);

// Share of the picture that the lesion covers, as a way to part test images; nullopt where none has
// a mask.
absl::StatusOr<std::optional<SubgroupColumn>> LesionSizes(const ImageSet& images,
                                                          absl::Span<const uint32_t> test);

// HTML; empty where there is nothing. The correlations alone: as inline SVG, empty without any, and
// as CSV, property,among,images,spearman,low,high.
std::string RenderAbcd(const AbcdReport& report);
std::string AbcdSvg(const AbcdReport& report);
std::string AbcdCsv(const AbcdReport& report);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_ABCD_H_
