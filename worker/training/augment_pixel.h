// One output pixel of an augmented image, from bytes to the network's input: the body of a loop on the
// CPU and of a kernel on the GPU. It reads the source and writes its own pixel, so any order and any
// number of threads gives the same bits (on a GPU: compiled without fused multiply-add, --fmad=false).
#ifndef DERMIS_WORKER_TRAINING_AUGMENT_PIXEL_H_
#define DERMIS_WORKER_TRAINING_AUGMENT_PIXEL_H_

#include <cstdint>

#include "common/host_device.h"

namespace dermis {

template <typename T>
DERMIS_HOST_DEVICE inline T Clamp(T v, T low, T high) {
  return v < low ? low : v > high ? high : v;
}

// Where an output pixel (y, x) reads the source: with d = step * (p - centre) + shift,
//   source_y = yy dy + yx dx + centre,   source_x = xy dy + xx dx + centre.
// This is one 2 x 3 matrix, kept in two factors: flips, crop and shift lie along the axes, rotation,
// scale and shear do not. Multiplied out, an identity, a flip and a whole shift would no longer hit
// their pixels exactly, nor the seed's augmentation its bits.
struct Affine {
  float centre = 0;
  float step_y = 1, step_x = 1, shift_y = 0, shift_x = 0;
  float yy = 1, yx = 0, xy = 0, xx = 1;
};

// Colour jitter as torchvision's ColorJitter defines its four parts, in this order, on values in
// 0..255: v * brightness; contrast * v + contrast_offset; saturation * v + (1 - saturation) * grey;
// each clamped to the range of bytes; then the hue is turned by hue_sixths sixths of the circle.
struct ColourJitter {
  float brightness = 1;
  float contrast = 1, contrast_offset = 0;  // (1 - contrast) * mean grey.
  float saturation = 1;
  float hue_sixths = 0;  // -3..3
};

// A pixel's grey with torchvision's weights.
DERMIS_HOST_DEVICE inline float Grey(float r, float g, float b) {
  return 0.2989f * r + 0.587f * g + 0.114f * b;
}

DERMIS_HOST_DEVICE inline void TurnHue(float sixths, float (&rgb)[3]) {
  const float r = rgb[0], g = rgb[1], b = rgb[2];
  float high = r > g ? r : g, low = r > g ? g : r;
  high = b > high ? b : high;
  low = b < low ? b : low;
  const float chroma = high - low;
  if (!(chroma > 0)) return;  // Grey has no hue.
  float hue = high == r ? (g - b) / chroma : high == g ? 2 + (b - r) / chroma : 4 + (r - g) / chroma;
  hue += sixths;
  // Channel c is high - chroma * max(0, min(k, 4 - k, 1)) with k = (offset + hue) mod 6: HSV to RGB
  // without its six cases. hue lies in -4..8, so one turn more or less is enough for the remainder.
  const float offset[3] = {5, 3, 1};
  for (int c = 0; c < 3; ++c) {
    float k = offset[c] + hue;
    k = k >= 6 ? k - 6 : k;
    k = k >= 6 ? k - 6 : k;
    k = k < 0 ? k + 6 : k;
    rgb[c] = high - chroma * Clamp(k < 4 - k ? k : 4 - k, 0.0f, 1.0f);
  }
}

DERMIS_HOST_DEVICE inline void Jitter(const ColourJitter& jitter, float (&rgb)[3]) {
  for (float& v : rgb) {
    v = Clamp(jitter.brightness * v, 0.0f, 255.0f);
    v = Clamp(jitter.contrast * v + jitter.contrast_offset, 0.0f, 255.0f);
  }
  const float grey = (1 - jitter.saturation) * Grey(rgb[0], rgb[1], rgb[2]);
  for (float& v : rgb) v = Clamp(jitter.saturation * v + grey, 0.0f, 255.0f);
  if (jitter.hue_sixths != 0) TurnHue(jitter.hue_sixths, rgb);
}

struct AugmentPixel {
  const uint8_t* pixels = nullptr;  // size x size x 3 (HWC).
  int size = 0;
  Affine affine;
  bool coloured = false;  // Whether `jitter` does anything.
  ColourJitter jitter;
  float mean = 0, inverse_deviation = 1;  // Normalisation, after the colours.
  float* out = nullptr;                   // size x size x 3 (HWC).

  // Bilinear, beyond the border its nearest pixel.
  DERMIS_HOST_DEVICE void operator()(int y, int x) const {
    const int last = size - 1, row = 3 * size;
    const float limit = static_cast<float>(last);
    const float dy = affine.step_y * (static_cast<float>(y) - affine.centre) + affine.shift_y;
    const float dx = affine.step_x * (static_cast<float>(x) - affine.centre) + affine.shift_x;
    const float sy = Clamp(affine.yy * dy + affine.yx * dx + affine.centre, 0.0f, limit);
    const float sx = Clamp(affine.xy * dy + affine.xx * dx + affine.centre, 0.0f, limit);
    const int y0 = static_cast<int>(sy), x0 = static_cast<int>(sx);
    const int y1 = y0 < last ? y0 + 1 : last, x1 = x0 < last ? x0 + 1 : last;
    const float fy = sy - static_cast<float>(y0), fx = sx - static_cast<float>(x0);
    const uint8_t* p00 = pixels + y0 * row + 3 * x0;
    const uint8_t* p01 = pixels + y0 * row + 3 * x1;
    const uint8_t* p10 = pixels + y1 * row + 3 * x0;
    const uint8_t* p11 = pixels + y1 * row + 3 * x1;
    float rgb[3];
    for (int c = 0; c < 3; ++c) {
      const float a = static_cast<float>(p00[c]), b = static_cast<float>(p10[c]);
      const float top = a + fx * (static_cast<float>(p01[c]) - a);
      const float bottom = b + fx * (static_cast<float>(p11[c]) - b);
      rgb[c] = top + fy * (bottom - top);
    }
    if (coloured) Jitter(jitter, rgb);
    float* o = out + y * row + 3 * x;
    for (int c = 0; c < 3; ++c) o[c] = (rgb[c] - mean) * inverse_deviation;
  }
};

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_AUGMENT_PIXEL_H_
