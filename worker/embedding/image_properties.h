// Plain properties of an image that an embedding's axes may turn out to be (the seed's section 4.1:
// "color and size").
#ifndef DERMIS_WORKER_EMBEDDING_IMAGE_PROPERTIES_H_
#define DERMIS_WORKER_EMBEDDING_IMAGE_PROPERTIES_H_

#include <array>
#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace dermis {

// Mean CIELAB colour (D65, worker/explain/lab.h): L* in 0..100; a*: green (-) to red; b*: blue (-)
// to yellow. "More blue" is a lower b*.
using MeanColour = std::array<double, 3>;

struct ImageProperties {
  MeanColour colour = {};                   // Over all pixels.
  std::optional<double> lesion_fraction;    // Of the image's area; nullopt: no mask.
  std::optional<MeanColour> lesion_colour;  // nullopt: no mask, or an empty one.
  std::optional<MeanColour> skin_colour;    // Outside the lesion; nullopt: none, or the lesion is all.
};

// rgb: pixels x 3, sRGB. mask: one byte a pixel, not 0 on the lesion; empty where there is none.
// InvalidArgument: no pixels, or a mask of another size.
absl::StatusOr<ImageProperties> PropertiesOf(absl::Span<const uint8_t> rgb,
                                             absl::Span<const uint8_t> mask);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_IMAGE_PROPERTIES_H_
