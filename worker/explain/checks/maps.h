// Any attribution as numbers on superpixels: what the checks judge. A new kind of attribution is one case in MapsOf.
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
  kOutput,  // Shares of f: they include the difference to what hides (Shapley values, LIME).
  kNone,    // Only their order and ratios mean something (CAMs, priors).
};

struct SuperpixelMap {
  std::string name;            // Of the attribution's maps: a layer. Empty: it has one.
  std::vector<double> values;  // One a superpixel, towards the positive class.
  MapUnits units = MapUnits::kNone;
};

// The maps of an attribution's result on `common`. `own`: the superpixels that a fit's values are of; null for other
// kinds. INVALID_ARGUMENT: values and superpixels that do not fit, a result that is no attribution.
absl::StatusOr<std::vector<SuperpixelMap>> MapsOf(const v1::Payload& attribution,
                                                  const Segmentation* own,
                                                  const Segmentation& common);

// Values of `from`'s superpixels, spread evenly over their pixels, summed on those of `to` (same height and width).
std::vector<double> Regrid(absl::Span<const double> values, const Segmentation& from,
                           const Segmentation& to);

// The map, drawn over the segmentation's picture (bilinear, half-pixel centres, edges repeated), summed on superpixels.
std::vector<double> SumOnSuperpixels(absl::Span<const float> map, int height, int width,
                                     const Segmentation& segmentation);

// Each pixel's superpixel's value: the map as it is drawn, height x width.
std::vector<float> Paint(absl::Span<const double> values, const Segmentation& segmentation);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_CHECKS_MAPS_H_
