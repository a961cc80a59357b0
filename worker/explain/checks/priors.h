// Orders of superpixels that have not seen the model. An explanation that is no better says nothing about the model.
#ifndef DERMIS_WORKER_EXPLAIN_CHECKS_PRIORS_H_
#define DERMIS_WORKER_EXPLAIN_CHECKS_PRIORS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "worker/explain/checks/maps.h"
#include "worker/explain/superpixels.h"

namespace dermis {

// The random order number `draw` of an image: superpixels 0 .. count - 1.
std::vector<uint32_t> RandomOrder(uint64_t seed, uint32_t image, uint32_t draw, uint32_t count);

// The map whose largest value comes first in the order: count, count - 1, ...
std::vector<double> ValuesOfOrder(absl::Span<const uint32_t> order);

// exp(-r^2 / 2 s^2) around the image's centre, s a quarter of its side. size x size.
std::vector<float> CentrePrior(uint32_t size);

// Sobel's gradient magnitude of the grey image (weights .2989, .587, .114), edges repeated: an edge detector.
// pixels: size x size x 3. Gives size x size.
std::vector<float> EdgeMagnitude(absl::Span<const float> pixels, uint32_t size);

// The three, by the names of common/checks.h in that order; "random" is the order of draw 0. pixels: what the model
// sees, size x size x 3 in 0..255.
std::vector<SuperpixelMap> PriorMaps(absl::Span<const float> pixels, uint32_t size,
                                     const Segmentation& segmentation, uint64_t seed,
                                     uint32_t image);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_CHECKS_PRIORS_H_
