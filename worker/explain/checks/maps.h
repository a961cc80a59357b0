// Any attribution as numbers on superpixels: what the checks judge. A new kind of attribution is
// one case in MapsOf.
#ifndef DERMIS_WORKER_EXPLAIN_CHECKS_MAPS_H_
#define DERMIS_WORKER_EXPLAIN_CHECKS_MAPS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "dermis/v1/task.pb.h"
#include "worker/explain/superpixels.h"

namespace dermis {

// What a map's numbers are measured in, which decides how its infidelity is defined.
enum class MapUnits {
  kOutput,    // Shares of f: they include the difference to what hides (Shapley values, LIME,
              // DeepSHAP).
  kGradient,  // f per pixel, from 0 to 1.
  kNone,      // Only their order and ratios mean something (CAMs, priors).
  kMean,      // A mean of f, whose zero means nothing either: only order and differences (RISE).
};

struct SuperpixelMap {
  std::string name;            // Of the attribution's maps: a layer. Empty: it has one.
  std::vector<double> values;  // One a superpixel, towards the positive class.
  MapUnits units = MapUnits::kNone;
};

// The maps of an attribution's result on `common`. `own`: the superpixels that a fit's values are
// of; null for other kinds; `fit_units`: those of a fit's values. INVALID_ARGUMENT: values and
// superpixels that do not fit, a result that is no attribution.
absl::StatusOr<std::vector<SuperpixelMap>> MapsOf(const v1::Payload& attribution,
                                                  const Segmentation* own,
                                                  const Segmentation& common,
                                                  MapUnits fit_units = MapUnits::kOutput);

// Values of `from`'s superpixels, spread evenly over their pixels, summed on those of `to` (same
// height and width).
std::vector<double> Regrid(absl::Span<const double> values, const Segmentation& from,
                           const Segmentation& to);

// The mean over the pixels of each of `to`'s superpixels: for values that are no shares of a sum.
std::vector<double> RegridMeans(absl::Span<const double> values, const Segmentation& from,
                                const Segmentation& to);

// The map, drawn over the segmentation's picture (bilinear, half-pixel centres, edges repeated),
// summed on superpixels.
std::vector<double> SumOnSuperpixels(absl::Span<const float> map, int height, int width,
                                     const Segmentation& segmentation);

// Values of pixels (height x width x channels), each spread evenly over the part of the picture
// that it covers, summed on superpixels: the total stays. The picture is at least as large.
std::vector<double> SpreadOnSuperpixels(absl::Span<const float> values, int height, int width,
                                        int channels, const Segmentation& segmentation);

// Each pixel's superpixel's value: the map as it is drawn, height x width.
std::vector<float> Paint(absl::Span<const double> values, const Segmentation& segmentation);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_CHECKS_MAPS_H_
