// Zones of a lesion, and where a null hypothesis lays them instead. Pure geometry.
#ifndef DERMIS_WORKER_PICTURES_LESION_ZONES_H_
#define DERMIS_WORKER_PICTURES_LESION_ZONES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace dermis {

inline constexpr int kZones = 4;
inline constexpr uint8_t kCore = 0, kInnerBand = 1, kOuterBand = 2, kSurroundings = 3;

// The zone of each pixel, row-major. mask: height x width, not 0 on the lesion. The bands are the
// pixels whose distance from the lesion's edge is less than `band` times the lesion's equivalent
// diameter (of the circle of its area), within the lesion and outside; the image's border is no
// edge of the lesion. band 0: core and surroundings alone.
std::vector<uint8_t> LesionZones(absl::Span<const uint8_t> mask, int height, int width,
                                 double band);

// The picture moved down and right; what leaves at one side comes in at the opposite one.
std::vector<uint8_t> Shifted(absl::Span<const uint8_t> zones, int height, int width, int down,
                             int right);

// A square picture turned by turn & 3 quarters clockwise about its centre, after it was mirrored
// left and right where turn & 4. turn: 0 .. 7; 0 leaves it as it is.
std::vector<uint8_t> Turned(absl::Span<const uint8_t> zones, int side, int turn);

// Pixels of each zone.
std::vector<uint32_t> ZoneSizes(absl::Span<const uint8_t> zones);

// 1 in the smallest upright rectangle that holds the lesion, else 0.
std::vector<uint8_t> BoundingBox(absl::Span<const uint8_t> mask, int height, int width);

// Squared Euclidean distance of each pixel from the nearest one that is set, in pixels between
// their centres; infinite where none is (Felzenszwalb & Huttenlocher 2012).
std::vector<double> SquaredDistances(absl::Span<const uint8_t> set, int height, int width);

}  // namespace dermis

#endif  // DERMIS_WORKER_PICTURES_LESION_ZONES_H_
