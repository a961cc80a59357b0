// One output pixel of an augmented image, from bytes to the network's input: the body of a loop on
// the CPU and of a kernel on the GPU. It reads the source and writes its own pixel, so any order
// and any number of threads gives the same bits (on a GPU: compiled without fused multiply-add,
// --fmad=false).
#ifndef DERMIS_WORKER_TRAINING_AUGMENT_PIXEL_H_
#define DERMIS_WORKER_TRAINING_AUGMENT_PIXEL_H_

#include <cstdint>

#include "common/host_device.h"

namespace dermis {

// Of NaN and b these give b.
DERMIS_HOST_DEVICE inline float Min(float a, float b) { return a < b ? a : b; }
DERMIS_HOST_DEVICE inline float Max(float a, float b) { return a > b ? a : b; }
// NaN gives `low`: a place that is none still lies within the image.
DERMIS_HOST_DEVICE inline float Clamp(float v, float low, float high) {
  return Min(Max(v, low), high);
}

// Where an output pixel (y, x) reads the source: with d = step * (p - centre) + shift,
//   source_y = yy dy + yx dx + centre,   source_x = xy dy + xx dx + centre.
// This is one 2 x 3 matrix, kept in two factors: flips, crop and shift lie along the axes,
// rotation, scale and shear do not. Multiplied out, an identity, a flip and a whole shift would no
// longer hit their pixels exactly, nor the seed's augmentation its bits.
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

// Torchvision's weights.
inline constexpr float kGreyRed = 0.2989f, kGreyGreen = 0.587f, kGreyBlue = 0.114f;

// Without branches on what the pixel holds, so that a loop over pixels becomes vectors.
DERMIS_HOST_DEVICE inline void TurnHue(float sixths, float& r, float& g, float& b) {
  const float high = Max(Max(r, g), b);
  const float chroma = high - Min(Min(r, g), b);
  const float difference = high == r ? g - b : high == g ? b - r : r - g;
  const float sector = high == r ? 0.0f : high == g ? 2.0f : 4.0f;
  // Grey has no hue: any will do, times a chroma of 0.
  const float hue = sector + difference / (chroma > 0 ? chroma : 1) + sixths;
  // A channel is high - chroma * max(0, min(k, 4 - k, 1)), k = (5, 3 or 1 + hue) mod 6: HSV to RGB
  // without its six cases. Here hue lies in -4..8, so k in -3..13.
  const auto channel = [=](float offset) {
    float k = offset + hue;
    k = k < 0 ? k + 6 : k;
    k = k >= 6 ? k - 6 : k;
    k = k >= 6 ? k - 6 : k;
    return high - chroma * Clamp(Min(k, 4 - k), 0.0f, 1.0f);
  };
  r = channel(5);
  g = channel(3);
  b = channel(1);
}

DERMIS_HOST_DEVICE inline void Jitter(const ColourJitter& jitter, float& r, float& g, float& b) {
  const auto tone = [&](float v) {
    v = Clamp(jitter.brightness * v, 0.0f, 255.0f);
    return Clamp(jitter.contrast * v + jitter.contrast_offset, 0.0f, 255.0f);
  };
  r = tone(r);
  g = tone(g);
  b = tone(b);
  const float grey = (1 - jitter.saturation) * (kGreyRed * r + kGreyGreen * g + kGreyBlue * b);
  r = Clamp(jitter.saturation * r + grey, 0.0f, 255.0f);
  g = Clamp(jitter.saturation * g + grey, 0.0f, 255.0f);
  b = Clamp(jitter.saturation * b + grey, 0.0f, 255.0f);
  if (jitter.hue_sixths != 0) TurnHue(jitter.hue_sixths, r, g, b);
}

// The four source pixels around a place and where between them it lies.
struct Taps {
  int top_left, top_right, bottom_left, bottom_right;  // Offsets in bytes.
  float down, right;                                   // 0..1
};

struct AugmentPixel {
  const uint8_t* pixels = nullptr;  // size x size x 3 (HWC).
  int size = 0;
  Affine affine;
  bool coloured = false;  // Whether `jitter` does anything.
  ColourJitter jitter;
  float mean = 0, inverse_deviation = 1;  // Normalisation, after the colours.
  float* out = nullptr;                   // size x size x 3 (HWC).

  DERMIS_HOST_DEVICE void operator()(int y, int x) const {
    const Taps taps = Locate(y, x);
    float rgb[3];
    for (int c = 0; c < 3; ++c) {
      rgb[c] = Between(static_cast<float>(pixels[taps.top_left + c]),
                       static_cast<float>(pixels[taps.top_right + c]),
                       static_cast<float>(pixels[taps.bottom_left + c]),
                       static_cast<float>(pixels[taps.bottom_right + c]), taps.down, taps.right);
    }
    if (coloured) Jitter(jitter, rgb[0], rgb[1], rgb[2]);
    for (int c = 0; c < 3; ++c) out[3 * (y * size + x) + c] = Normalise(rgb[c]);
  }

  // The parts, for a loop that does each of them for many pixels at once.

  // What lies beyond the border is its nearest pixel.
  DERMIS_HOST_DEVICE Taps Locate(int y, int x) const {
    const int last = size - 1;
    const float limit = static_cast<float>(last);
    const float dy = affine.step_y * (static_cast<float>(y) - affine.centre) + affine.shift_y;
    const float dx = affine.step_x * (static_cast<float>(x) - affine.centre) + affine.shift_x;
    const float sy = Clamp(affine.yy * dy + affine.yx * dx + affine.centre, 0.0f, limit);
    const float sx = Clamp(affine.xy * dy + affine.xx * dx + affine.centre, 0.0f, limit);
    const int top = static_cast<int>(sy), left = static_cast<int>(sx);
    const int bottom = top < last ? top + 1 : last, right = left < last ? left + 1 : last;
    Taps taps;
    taps.top_left = 3 * (top * size + left);
    taps.top_right = 3 * (top * size + right);
    taps.bottom_left = 3 * (bottom * size + left);
    taps.bottom_right = 3 * (bottom * size + right);
    taps.down = sy - static_cast<float>(top);
    taps.right = sx - static_cast<float>(left);
    return taps;
  }

  DERMIS_HOST_DEVICE static float Between(float top_left, float top_right, float bottom_left,
                                          float bottom_right, float down, float right) {
    const float top = top_left + right * (top_right - top_left);
    const float bottom = bottom_left + right * (bottom_right - bottom_left);
    return top + down * (bottom - top);
  }

  DERMIS_HOST_DEVICE float Normalise(float v) const { return (v - mean) * inverse_deviation; }
};

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_AUGMENT_PIXEL_H_
