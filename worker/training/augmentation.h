// Augmentation of a training image in one pass from bytes to the network's input: rotation +-15
// degrees, shifts +-10 %, horizontal flip, nearest fill, normalisation. What Keras'
// ImageDataGenerator does, with draws keyed by (seed, epoch, image): the same bits whatever batch,
// shard or thread an image falls into.
#ifndef DERMIS_WORKER_TRAINING_AUGMENTATION_H_
#define DERMIS_WORKER_TRAINING_AUGMENTATION_H_

#include <cstdint>

#include "worker/data/image_source.h"

namespace dermis {

inline constexpr double kRotationDegrees = 15;
inline constexpr double kShiftFraction = 0.1;

struct Augmentation {
  double angle = 0;    // Radians, +-15 degrees.
  double shift_y = 0;  // Pixels, +-10 % of the size.
  double shift_x = 0;
  bool flip = false;  // Left-right, after rotation and shift.
};

// epoch: first = 1.
Augmentation DrawAugmentation(uint64_t seed, uint32_t epoch, uint32_t image, uint32_t size);

// pixels: size x size x 3 bytes (HWC). out: size x size x 3 floats (HWC). An output pixel reads the
// input at R(angle) (p - centre + shift) + centre, bilinearly, clamped to the border (Keras' order:
// the shift is applied before the rotation). The identity gives exactly normalise(pixel).
void AugmentImage(const uint8_t* pixels, uint32_t size, const Augmentation& augmentation,
                  const Normalisation& normalise, float* out);

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_AUGMENTATION_H_
