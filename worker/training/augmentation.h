// Augmentation of a training image in one pass from bytes to the network's input: rotation, shift,
// scale, shear, random resized crop, flips (one affine map, bilinear, nearest fill), colour jitter,
// normalisation. Draws are keyed by (seed, epoch, image): the same bits whatever batch, shard or
// thread an image falls into.
#ifndef DERMIS_WORKER_TRAINING_AUGMENTATION_H_
#define DERMIS_WORKER_TRAINING_AUGMENTATION_H_

#include <cstdint>

#include "dermis/v1/spec.pb.h"
#include "worker/data/image_source.h"
#include "worker/training/augment_pixel.h"

namespace dermis {

// From what an image's draws come. The values here are the defaults: the seed's augmentation, which
// is Keras' ImageDataGenerator's.
struct AugmentationRanges {
  double rotation = 15, shear = 0;  // Degrees, to either side.
  double shift = 0.1;               // Fraction of the side, to either side.
  double scale = 0;                 // Factor 1 - scale .. 1 + scale.
  bool horizontal_flip = true, vertical_flip = false;
  bool crop = false;
  double min_area = 0.08, max_area = 1, min_aspect = 3.0 / 4, max_aspect = 4.0 / 3;
  double brightness = 0, contrast = 0, saturation = 0;  // b: factor max(0, 1 - b) .. 1 + b.
  double hue = 0;                                       // Fraction of the circle, to either side.
};

// A field that is absent has its default. What ResolveSpec lets pass is valid.
AugmentationRanges RangesOf(const v1::AugmentationSpec& spec);

// One image's draws. Applied in the order of the members; as it stands it changes nothing.
struct Augmentation {
  double shear = 0;  // Radians, along x: x moves by tan(shear) a pixel of y.
  double scale = 1;
  double angle = 0;    // Radians; positive turns the image clockwise.
  double shift_y = 0;  // Pixels; positive moves the image up ...
  double shift_x = 0;  // ... and to the left.
  // The part that is stretched to the whole, in fractions of the side.
  double crop_y = 0, crop_x = 0, crop_height = 1, crop_width = 1;
  bool flip = false;  // Left-right.
  bool flip_vertical = false;
  double brightness = 1, contrast = 1, saturation = 1;  // Factors.
  double hue = 0;                                       // Fraction of the circle.

  bool operator==(const Augmentation&) const = default;
};

// epoch: first = 1. What a range leaves out draws nothing, and each draw has its own words: a range
// that is added changes no other draw.
Augmentation DrawAugmentation(const AugmentationRanges& ranges, uint64_t seed, uint32_t epoch,
                              uint32_t image, uint32_t size);

// pixels: size x size x 3 bytes (HWC). out: size x size x 3 floats (HWC). Without a crop, scale and
// shear an output pixel reads the input at R(angle) (p - centre + shift) + centre (Keras' order:
// the shift is applied before the rotation); torchvision's affine has the same map with the same
// angle, scale and shear and with translate = -shift. Contrast is about the mean grey of the whole
// source image times the brightness: known before the pass, where torchvision's would need another
// one over the moved, clamped pixels. The identity gives exactly normalise(pixel).
void AugmentImage(const uint8_t* pixels, uint32_t size, const Augmentation& augmentation,
                  const Normalisation& normalise, float* out);

// The loop body of AugmentImage; apply it to every (y, x). Reads the whole image once where the
// contrast changes.
AugmentPixel MakeAugmentPixel(const uint8_t* pixels, uint32_t size,
                              const Augmentation& augmentation, const Normalisation& normalise,
                              float* out);

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_AUGMENTATION_H_
