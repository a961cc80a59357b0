// Synthetic dermoscopy images whose label is *caused* by a known region, so that explanations can be checked
// against the truth.
//
// Each image shows skin, a lesion with an irregular border and uneven colour, perhaps hairs and a ruler. Inside
// the lesion lies one square region of stripes: horizontal ones make the image benign, vertical ones malignant.
// Everything else (lesion, hair, ruler; the region's size, position, mean colour, contrast and phase) follows the
// same law in both classes, independent of the label.
#ifndef DERMIS_TOOLS_SYNTH_SYNTH_H_
#define DERMIS_TOOLS_SYNTH_SYNTH_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "common/image_set.h"

namespace dermis {

// Values of a synthetic image's mask.
inline constexpr uint8_t kOutside = 0;
inline constexpr uint8_t kLesion = 1;
inline constexpr uint8_t kPlanted = 2;   // The region that causes the label; lies inside the lesion.

struct SynthOptions {
  uint64_t seed = 1;
  uint32_t count = 600;
  uint32_t size = 224;              // Pixels a side, 64 .. 1024.
  bool exchange_region = false;     // Each image carries the other class's pattern; all else, the recorded
                                    // label included, stays: for tests of the cause.
};

// Image `index` of the set: a pure function of (seed, index, size, exchange_region).
PackedImage MakeSynthImage(const SynthOptions& options, uint32_t index);

// Writes the whole set; classes benign, malignant, alternating by index.
absl::Status WriteSynthSet(const SynthOptions& options, const std::string& path);

}  // namespace dermis

#endif  // DERMIS_TOOLS_SYNTH_SYNTH_H_
