#ifndef DERMIS_WORKER_PICTURES_INPAINT_H_
#define DERMIS_WORKER_PICTURES_INPAINT_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace dermis {

// The picture that stands in the place of hidden regions when each is painted as a smooth
// continuation of what lies around it. rgb: height x width x 3; labels: height x width, the region
// of each pixel; returns height x width x 3 in 0..255.
//
// Within a region each channel solves Laplace's equation: a pixel is the mean of its neighbours
// (up, down, left, right; those beyond the image do not count), the neighbours in other regions
// being given. So each region depends on its surroundings alone, never on which other regions are
// hidden (what a composition that is linear in the mask needs), nothing of its own texture stays,
// and no value lies outside the range of the surroundings. A region that is the whole image has no
// surroundings: it becomes its mean colour.
std::vector<float> Inpaint(const uint8_t* rgb, absl::Span<const uint32_t> labels, int height,
                           int width);

}  // namespace dermis

#endif  // DERMIS_WORKER_PICTURES_INPAINT_H_
