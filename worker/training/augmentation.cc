#include "worker/training/augmentation.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "common/philox.h"
#include "common/simd.h"

namespace dermis {
namespace {

constexpr double kRadians = M_PI / 180;

// Element of the counter: which draws a block of four words holds. Part of the bits.
enum Block : uint32_t { kSeedsMoves = 0, kCrop = 1, kColours = 2, kMoves = 3 };

double Symmetric(uint32_t word) { return 2.0 * ToUnitFloat(word) - 1.0; }
double Between(uint32_t word, double low, double high) {
  return low + (high - low) * ToUnitFloat(word);
}
double Factor(uint32_t word, double range) {
  return range == 0 ? 1 : Between(word, std::max(0.0, 1 - range), 1 + range);
}

// The area first, then an aspect with which it fits: nothing has to be drawn twice.
void DrawCrop(const AugmentationRanges& ranges, const std::array<uint32_t, 4>& words,
              Augmentation& a) {
  const double area = Between(words[0], ranges.min_area, ranges.max_area);
  const double low = std::max(ranges.min_aspect, area),
               high = std::min(ranges.max_aspect, 1 / area);
  const double aspect = std::exp(Between(words[1], std::log(low), std::log(high)));
  a.crop_height = std::min(1.0, std::sqrt(area / aspect));
  a.crop_width = std::min(1.0, std::sqrt(area * aspect));
  a.crop_y = Between(words[2], 0, 1 - a.crop_height);
  a.crop_x = Between(words[3], 0, 1 - a.crop_width);
}

// Of the whole image; sums of bytes are exact in any order.
double MeanGrey(const uint8_t* pixels, uint32_t count) {
  uint32_t r = 0, g = 0, b = 0;  // 255 * 4096^2 fits.
  for (uint32_t p = 0; p < count; ++p) {
    r += pixels[3 * p];
    g += pixels[3 * p + 1];
    b += pixels[3 * p + 2];
  }
  return (0.2989 * r + 0.587 * g + 0.114 * b) / count;
}

Affine AffineOf(const Augmentation& a, uint32_t size) {
  const double n = size;
  Affine affine;
  affine.centre = 0.5f * static_cast<float>(size - 1);
  affine.step_y = static_cast<float>(a.flip_vertical ? -a.crop_height : a.crop_height);
  affine.step_x = static_cast<float>(a.flip ? -a.crop_width : a.crop_width);
  // The crop's centre, seen from the image's.
  affine.shift_y = static_cast<float>((a.crop_y + a.crop_height / 2 - 0.5) * n + a.shift_y);
  affine.shift_x = static_cast<float>((a.crop_x + a.crop_width / 2 - 0.5) * n + a.shift_x);
  const double cosine = std::cos(a.angle), sine = std::sin(a.angle);
  const double tangent = std::sin(a.shear) / std::cos(a.shear);
  affine.yy = static_cast<float>(cosine / a.scale);
  affine.yx = static_cast<float>(-sine / a.scale);
  affine.xy = static_cast<float>((sine + tangent * cosine) / a.scale);
  affine.xx = static_cast<float>((cosine - tangent * sine) / a.scale);
  return affine;
}

// A run of pixels of one row, one array a value: what the stages of a pixel hand on, laid out so
// that all but the look-up of bytes become vectors.
constexpr int kRun = 32;

struct Run {
  int offset[4][kRun];  // Taps.
  float down[kRun], right[kRun];
  uint8_t tap[4][3][kRun];  // Bytes at the taps, by channel.
  float colour[3][kRun];
};

DERMIS_SIMD void LocateRun(const AugmentPixel& pixel, int y, int first, Run& run) {
  for (int i = 0; i < kRun; ++i) {
    const Taps taps = pixel.Locate(y, first + i);
    run.offset[0][i] = taps.top_left;
    run.offset[1][i] = taps.top_right;
    run.offset[2][i] = taps.bottom_left;
    run.offset[3][i] = taps.bottom_right;
    run.down[i] = taps.down;
    run.right[i] = taps.right;
  }
}

DERMIS_SIMD void ColourRun(const AugmentPixel& pixel, Run& run) {
  for (int c = 0; c < 3; ++c) {
    for (int i = 0; i < kRun; ++i) {
      run.colour[c][i] = AugmentPixel::Between(
          static_cast<float>(run.tap[0][c][i]), static_cast<float>(run.tap[1][c][i]),
          static_cast<float>(run.tap[2][c][i]), static_cast<float>(run.tap[3][c][i]), run.down[i],
          run.right[i]);
    }
  }
  if (pixel.coloured) {
    for (int i = 0; i < kRun; ++i) {
      Jitter(pixel.jitter, run.colour[0][i], run.colour[1][i], run.colour[2][i]);
    }
  }
  for (int c = 0; c < 3; ++c) {
    for (int i = 0; i < kRun; ++i) run.colour[c][i] = pixel.Normalise(run.colour[c][i]);
  }
}

// pixel(y, x) for all x.
void AugmentRow(const AugmentPixel& pixel, int y, Run& run) {
  for (int first = 0; first < pixel.size; first += kRun) {
    const int count = std::min(kRun, pixel.size - first);
    LocateRun(pixel, y, first, run);
    for (int i = 0; i < count; ++i) {
      for (int k = 0; k < 4; ++k) {
        const uint8_t* p = pixel.pixels + run.offset[k][i];
        for (int c = 0; c < 3; ++c) run.tap[k][c][i] = p[c];
      }
    }
    ColourRun(pixel, run);
    float* out = pixel.out + 3 * (y * pixel.size + first);
    for (int i = 0; i < count; ++i) {
      for (int c = 0; c < 3; ++c) out[3 * i + c] = run.colour[c][i];
    }
  }
}

}  // namespace

AugmentationRanges RangesOf(const v1::AugmentationSpec& spec) {
  AugmentationRanges r;
  if (spec.has_rotation()) r.rotation = spec.rotation();
  if (spec.has_shear()) r.shear = spec.shear();
  if (spec.has_shift()) r.shift = spec.shift();
  if (spec.has_scale()) r.scale = spec.scale();
  if (spec.has_horizontal_flip()) r.horizontal_flip = spec.horizontal_flip();
  if (spec.has_vertical_flip()) r.vertical_flip = spec.vertical_flip();
  r.crop = spec.has_crop();
  if (spec.crop().has_min_area()) r.min_area = spec.crop().min_area();
  if (spec.crop().has_max_area()) r.max_area = spec.crop().max_area();
  if (spec.crop().has_min_aspect()) r.min_aspect = spec.crop().min_aspect();
  if (spec.crop().has_max_aspect()) r.max_aspect = spec.crop().max_aspect();
  if (spec.has_brightness()) r.brightness = spec.brightness();
  if (spec.has_contrast()) r.contrast = spec.contrast();
  if (spec.has_saturation()) r.saturation = spec.saturation();
  if (spec.has_hue()) r.hue = spec.hue();
  return r;
}

Augmentation DrawAugmentation(const AugmentationRanges& ranges, uint64_t seed, uint32_t epoch,
                              uint32_t image, uint32_t size) {
  const auto block = [&](Block which) {
    return PhiloxBlock(seed, Purpose::kAugment, epoch, image, which);
  };
  Augmentation a;
  const auto words = block(kSeedsMoves);
  a.angle = Symmetric(words[0]) * ranges.rotation * kRadians;
  a.shift_y = Symmetric(words[1]) * ranges.shift * size;
  a.shift_x = Symmetric(words[2]) * ranges.shift * size;
  a.flip = ranges.horizontal_flip && (words[3] >> 31) != 0;
  if (ranges.crop) DrawCrop(ranges, block(kCrop), a);
  if (ranges.brightness != 0 || ranges.contrast != 0 || ranges.saturation != 0 || ranges.hue != 0) {
    const auto colours = block(kColours);
    a.brightness = Factor(colours[0], ranges.brightness);
    a.contrast = Factor(colours[1], ranges.contrast);
    a.saturation = Factor(colours[2], ranges.saturation);
    a.hue = Symmetric(colours[3]) * ranges.hue;
  }
  if (ranges.scale != 0 || ranges.shear != 0 || ranges.vertical_flip) {
    const auto moves = block(kMoves);
    a.scale = 1 + Symmetric(moves[0]) * ranges.scale;
    a.shear = Symmetric(moves[1]) * ranges.shear * kRadians;
    a.flip_vertical = ranges.vertical_flip && (moves[2] >> 31) != 0;
  }
  return a;
}

AugmentPixel MakeAugmentPixel(const uint8_t* pixels, uint32_t size,
                              const Augmentation& augmentation, const Normalisation& normalise,
                              float* out) {
  AugmentPixel pixel;
  pixel.pixels = pixels;
  pixel.size = static_cast<int>(size);
  pixel.affine = AffineOf(augmentation, size);
  ColourJitter& jitter = pixel.jitter;
  jitter.brightness = static_cast<float>(augmentation.brightness);
  jitter.contrast = static_cast<float>(augmentation.contrast);
  if (augmentation.contrast != 1) {
    const double grey = std::min(255.0, augmentation.brightness * MeanGrey(pixels, size * size));
    jitter.contrast_offset = static_cast<float>((1 - augmentation.contrast) * grey);
  }
  jitter.saturation = static_cast<float>(augmentation.saturation);
  jitter.hue_sixths = static_cast<float>(6 * augmentation.hue);
  pixel.coloured = augmentation.brightness != 1 || augmentation.contrast != 1 ||
                   augmentation.saturation != 1 || augmentation.hue != 0;
  pixel.mean = normalise.mean;
  pixel.inverse_deviation = normalise.inverse_deviation;
  pixel.out = out;
  return pixel;
}

void AugmentImage(const uint8_t* pixels, uint32_t size, const Augmentation& augmentation,
                  const Normalisation& normalise, float* out) {
  const int n = static_cast<int>(size);
  if (augmentation == Augmentation()) {
    for (int i = 0; i < 3 * n * n; ++i) out[i] = normalise(static_cast<float>(pixels[i]));
    return;
  }
  const AugmentPixel pixel = MakeAugmentPixel(pixels, size, augmentation, normalise, out);
  Run run = {};
  for (int y = 0; y < n; ++y) AugmentRow(pixel, y, run);
}

}  // namespace dermis
