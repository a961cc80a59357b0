#include "worker/training/augmentation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "common/philox.h"
#include "tests/unit/worker/training/toy_data.h"

namespace dermis {
namespace {

constexpr Normalisation kNormalise{.mean = 100, .inverse_deviation = 0.02f};
constexpr Normalisation kNone{.mean = 0, .inverse_deviation = 1};

TEST(AugmentationTest, Identity_IsExactlyTheNormalisedImage) {
  const auto data = ToyData(4, 0);
  std::vector<float> out(16 * 16 * 3);
  AugmentImage(data->image(1), 16, Augmentation(), kNormalise, out.data());
  for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], kNormalise(data->image(1)[i]));
  // The general path, too: a rotation too small to move anything by a representable amount.
  AugmentImage(data->image(1), 16, Augmentation{.angle = 1e-30}, kNormalise, out.data());
  for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], kNormalise(data->image(1)[i]));
}

TEST(AugmentationTest, Draws_StayWithinTheirRangesAndFillThem) {
  double angle = 0, shift = 0;
  int flips = 0;
  constexpr int kDraws = 2000;
  for (int i = 0; i < kDraws; ++i) {
    const Augmentation a = DrawAugmentation(AugmentationRanges(), 3, 1, i, 32);
    ASSERT_LE(std::abs(a.angle), 15 * M_PI / 180 + 1e-12);
    ASSERT_LE(std::abs(a.shift_x), 3.2 + 1e-12);
    ASSERT_LE(std::abs(a.shift_y), 3.2 + 1e-12);
    angle = std::max(angle, std::abs(a.angle));
    shift = std::max(shift, std::abs(a.shift_y));
    flips += a.flip;
  }
  EXPECT_GT(angle, 14.5 * M_PI / 180);
  EXPECT_GT(shift, 3.1);
  EXPECT_NEAR(flips, kDraws / 2, 150);
}

TEST(AugmentationTest, Draws_AreKeyedBySeedEpochAndImage) {
  const double base = DrawAugmentation(AugmentationRanges(), 1, 1, 1, 32).angle;
  EXPECT_EQ(DrawAugmentation(AugmentationRanges(), 1, 1, 1, 32).angle, base);
  EXPECT_NE(DrawAugmentation(AugmentationRanges(), 2, 1, 1, 32).angle, base);
  EXPECT_NE(DrawAugmentation(AugmentationRanges(), 1, 2, 1, 32).angle, base);
  EXPECT_NE(DrawAugmentation(AugmentationRanges(), 1, 1, 2, 32).angle, base);
}

TEST(AugmentationTest, WholePixelShift_MovesAndFillsWithTheNearest) {
  const auto data = ToyData(4, 0);
  const uint8_t* in = data->image(0);
  std::vector<float> out(16 * 16 * 3);
  AugmentImage(in, 16, Augmentation{.shift_y = 2, .shift_x = -1}, kNone, out.data());
  for (int y = 0; y < 16; ++y) {
    for (int x = 0; x < 16; ++x) {
      const int sy = std::min(y + 2, 15), sx = std::max(x - 1, 0);
      for (int c = 0; c < 3; ++c) {
        ASSERT_NEAR(out[(y * 16 + x) * 3 + c], in[(sy * 16 + sx) * 3 + c], 1e-3) << y << " " << x;
      }
    }
  }
}

TEST(AugmentationTest, QuarterTurn_IsExact) {
  const auto data = ToyData(4, 0);
  const uint8_t* in = data->image(0);
  std::vector<float> out(16 * 16 * 3);
  AugmentImage(in, 16, Augmentation{.angle = M_PI / 2}, kNone, out.data());
  // Input coordinates: (-dx, dy) about the centre.
  for (int y = 0; y < 16; ++y) {
    for (int x = 0; x < 16; ++x) {
      ASSERT_NEAR(out[(y * 16 + x) * 3], in[((15 - x) * 16 + y) * 3], 0.01) << y << " " << x;
    }
  }
}

TEST(AugmentationTest, Flip_MirrorsColumns) {
  const auto data = ToyData(4, 0);
  const uint8_t* in = data->image(2);
  std::vector<float> out(16 * 16 * 3);
  AugmentImage(in, 16, Augmentation{.flip = true}, kNone, out.data());
  for (int y = 0; y < 16; ++y) {
    for (int x = 0; x < 16; ++x) {
      for (int c = 0; c < 3; ++c)
        ASSERT_EQ(out[(y * 16 + x) * 3 + c], in[(y * 16 + 15 - x) * 3 + c]);
    }
  }
}

TEST(AugmentationTest, Values_StayWithinTheImagesRange) {
  const auto data = ToyData(4, 0);
  const auto [low, high] = std::minmax_element(data->pixels.begin(), data->pixels.end());
  std::vector<float> out(16 * 16 * 3);
  for (uint32_t i = 0; i < 200; ++i) {
    AugmentImage(data->image(i % 4), 16, DrawAugmentation(AugmentationRanges(), 1, 1, i, 16), kNone,
                 out.data());
    for (float v : out) {
      ASSERT_GE(v, *low - 1e-3);
      ASSERT_LE(v, *high + 1e-3);
    }
  }
}

AugmentationRanges AllRanges() {
  AugmentationRanges r;
  r.scale = 0.3;
  r.shear = 20;
  r.vertical_flip = true;
  r.crop = true;
  r.brightness = 0.4;
  r.contrast = 1.5;
  r.saturation = 0.2;
  r.hue = 0.25;
  return r;
}

TEST(AugmentationTest, AddedRanges_ChangeNoOtherDraw) {
  for (uint32_t i = 0; i < 100; ++i) {
    const Augmentation seeds = DrawAugmentation(AugmentationRanges(), 3, 2, i, 32);
    Augmentation all = DrawAugmentation(AllRanges(), 3, 2, i, 32);
    EXPECT_NE(all, seeds);
    all.scale = 1;
    all.shear = 0;
    all.crop_y = all.crop_x = 0;
    all.crop_height = all.crop_width = 1;
    all.flip_vertical = false;
    all.brightness = all.contrast = all.saturation = 1;
    all.hue = 0;
    EXPECT_EQ(all, seeds);
  }
}

struct Extent {
  double low = 1e9, high = -1e9;
  void Add(double v) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  // Within [from, to], and reaching to both of its ends but for 2 %.
  void ExpectFills(double from, double to, const char* what) const {
    EXPECT_GE(low, from - 1e-9) << what;
    EXPECT_LE(high, to + 1e-9) << what;
    EXPECT_LT(low, from + 0.02 * (to - from)) << what;
    EXPECT_GT(high, to - 0.02 * (to - from)) << what;
  }
};

TEST(AugmentationTest, NewDraws_StayWithinTheirRangesAndFillThem) {
  Extent scale, shear, brightness, contrast, saturation, hue;
  int flips = 0;
  for (uint32_t i = 0; i < 2000; ++i) {
    const Augmentation a = DrawAugmentation(AllRanges(), 3, 1, i, 32);
    scale.Add(a.scale);
    shear.Add(a.shear * 180 / M_PI);
    brightness.Add(a.brightness);
    contrast.Add(a.contrast);
    saturation.Add(a.saturation);
    hue.Add(a.hue);
    flips += a.flip_vertical;
  }
  scale.ExpectFills(0.7, 1.3, "scale");
  shear.ExpectFills(-20, 20, "shear");
  brightness.ExpectFills(0.6, 1.4, "brightness");
  contrast.ExpectFills(0, 2.5, "contrast");  // Never below 0.
  saturation.ExpectFills(0.8, 1.2, "saturation");
  hue.ExpectFills(-0.25, 0.25, "hue");
  EXPECT_NEAR(flips, 1000, 150);
}

TEST(AugmentationTest, Crops_HaveAnAreaAndAspectOfTheirRangesAndLieWithin) {
  AugmentationRanges ranges;
  ranges.crop = true;
  constexpr int kDraws = 10'000;
  Extent area, aspect, bottom, right;
  double sum = 0;
  for (uint32_t i = 0; i < kDraws; ++i) {
    const Augmentation a = DrawAugmentation(ranges, 3, 1, i, 32);
    area.Add(a.crop_height * a.crop_width);
    aspect.Add(std::log(a.crop_width / a.crop_height));
    ASSERT_GE(a.crop_y, 0);
    ASSERT_GE(a.crop_x, 0);
    bottom.Add(a.crop_y + a.crop_height);
    right.Add(a.crop_x + a.crop_width);
    sum += a.crop_height * a.crop_width;
  }
  area.ExpectFills(0.08, 1, "area");
  aspect.ExpectFills(std::log(3.0 / 4), std::log(4.0 / 3), "aspect");
  EXPECT_LE(bottom.high, 1 + 1e-9);
  EXPECT_LE(right.high, 1 + 1e-9);
  EXPECT_LT(right.low, 0.5);
  EXPECT_NEAR(sum / kDraws, 0.54, 0.01) << "uniform from .08 to 1";
  // An area with which not every aspect fits: the aspect gives way.
  ranges.min_area = ranges.max_area = 0.9;
  for (uint32_t i = 0; i < 1000; ++i) {
    const Augmentation a = DrawAugmentation(ranges, 3, 1, i, 32);
    ASSERT_NEAR(a.crop_height * a.crop_width, 0.9, 1e-9);
    ASSERT_LE(std::max(a.crop_height, a.crop_width), 1);
  }
}

TEST(AugmentationTest, RangesOf_TakesWhatIsGivenAndKeepsTheSeedsForTheRest) {
  v1::AugmentationSpec spec;
  spec.set_rotation(0);
  spec.set_vertical_flip(true);
  spec.mutable_crop()->set_min_area(0.5);
  spec.set_hue(0.1);
  const AugmentationRanges r = RangesOf(spec);
  EXPECT_EQ(r.rotation, 0);
  EXPECT_EQ(r.shift, 0.1);
  EXPECT_TRUE(r.horizontal_flip && r.vertical_flip && r.crop);
  EXPECT_EQ(r.min_area, 0.5);
  EXPECT_EQ(r.max_area, 1);
  EXPECT_EQ(r.hue, 0.1);
  EXPECT_EQ(r.contrast, 0);
  EXPECT_FALSE(RangesOf(v1::AugmentationSpec()).crop);
}

TEST(AugmentationTest, QuarterTurn_MovesAMarkedPixelClockwise) {
  std::vector<uint8_t> in(16 * 16 * 3);
  in[(2 * 16 + 5) * 3] = 200;  // Row 2, column 5.
  std::vector<float> out(in.size());
  AugmentImage(in.data(), 16, Augmentation{.angle = M_PI / 2}, kNone, out.data());
  for (int y = 0; y < 16; ++y) {
    for (int x = 0; x < 16; ++x) {
      ASSERT_NEAR(out[(y * 16 + x) * 3], y == 5 && x == 15 - 2 ? 200 : 0, 0.01) << y << " " << x;
    }
  }
}

TEST(AugmentationTest, VerticalFlip_MirrorsRows) {
  const auto data = ToyData(4, 0);
  const uint8_t* in = data->image(2);
  std::vector<float> out(16 * 16 * 3);
  AugmentImage(in, 16, Augmentation{.flip_vertical = true}, kNone, out.data());
  for (int y = 0; y < 16; ++y) {
    for (int i = 0; i < 16 * 3; ++i) ASSERT_EQ(out[y * 16 * 3 + i], in[(15 - y) * 16 * 3 + i]);
  }
}

// x, y, 1 -> x, y, 1, row-major.
using Matrix = std::array<double, 9>;

Matrix operator*(const Matrix& a, const Matrix& b) {
  Matrix c{};
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 3; ++k) c[3 * i + j] += a[3 * i + k] * b[3 * k + j];
    }
  }
  return c;
}

Matrix Inverse(const Matrix& m) {
  const double d = m[0] * m[4] - m[1] * m[3];
  return {m[4] / d,  -m[1] / d, (m[1] * m[5] - m[4] * m[2]) / d,
          -m[3] / d, m[0] / d,  (m[3] * m[2] - m[0] * m[5]) / d,
          0,         0,         1};
}

Matrix Translation(double x, double y) { return {1, 0, x, 0, 1, y, 0, 0, 1}; }
Matrix Scale(double x, double y) { return {x, 0, 0, 0, y, 0, 0, 0, 1}; }

// Each step written out as what it does to the image, in order.
Matrix Forward(const Augmentation& a, double size) {
  const Matrix to_centre = Translation(-(size - 1) / 2, -(size - 1) / 2);
  const Matrix shear = {1, -std::tan(a.shear), 0, 0, 1, 0, 0, 0, 1};
  const Matrix turn = {
      std::cos(a.angle), -std::sin(a.angle), 0, std::sin(a.angle), std::cos(a.angle), 0, 0, 0, 1};
  const Matrix moved = Translation(-a.shift_x, -a.shift_y) * Inverse(to_centre) * turn *
                       Scale(a.scale, a.scale) * shear * to_centre;
  // A pixel's area reaches half a pixel around it.
  const Matrix crop = Translation(-0.5, -0.5) * Scale(1 / a.crop_width, 1 / a.crop_height) *
                      Translation(0.5 - a.crop_x * size, 0.5 - a.crop_y * size);
  const Matrix flip =
      Inverse(to_centre) * Scale(a.flip ? -1 : 1, a.flip_vertical ? -1 : 1) * to_centre;
  return flip * crop * moved;
}

// In a picture whose red is the column and green the row, bilinear reading is exact: each output
// pixel says where it was read.
TEST(AugmentationTest, EveryPixel_ReadsWhereTheStepsWrittenOutSay) {
  constexpr int kSize = 40;
  std::vector<uint8_t> in;
  for (int p = 0; p < kSize * kSize; ++p) {
    for (int v : {6 * (p % kSize), 6 * (p / kSize), 0}) in.push_back(static_cast<uint8_t>(v));
  }
  AugmentationRanges ranges = AllRanges();
  ranges.brightness = ranges.contrast = ranges.saturation = ranges.hue = 0;
  ranges.rotation = 180;
  std::vector<float> out(in.size());
  for (uint32_t i = 0; i < 200; ++i) {
    const Augmentation a = DrawAugmentation(ranges, 1, 1, i, kSize);
    const Matrix backward = Inverse(Forward(a, kSize));
    AugmentImage(in.data(), kSize, a, kNone, out.data());
    for (int y = 0; y < kSize; ++y) {
      for (int x = 0; x < kSize; ++x) {
        for (int c = 0; c < 2; ++c) {
          const double at = backward[3 * c] * x + backward[3 * c + 1] * y + backward[3 * c + 2];
          ASSERT_NEAR(out[(y * kSize + x) * 3 + c] / 6, std::clamp(at, 0.0, kSize - 1.0), 1e-4)
              << i << ": " << y << " " << x;
        }
      }
    }
  }
}

TEST(AugmentationTest, PlaceThatIsNone_StaysWithinTheImage) {
  const auto data = ToyData(4, 0);
  std::vector<float> out(16 * 16 * 3);
  for (const Augmentation& a : {Augmentation{.angle = std::nan("")}, Augmentation{.scale = 0},
                                Augmentation{.shift_y = INFINITY, .shift_x = -INFINITY}}) {
    AugmentImage(data->image(0), 16, a, kNone, out.data());
    for (float v : out) ASSERT_TRUE(v >= 0 && v <= 255) << v;
  }
}

using Rgb = std::array<double, 3>;

double GreyOf(const Rgb& v) { return 0.2989 * v[0] + 0.587 * v[1] + 0.114 * v[2]; }

Rgb Blend(const Rgb& v, double with, double ratio) {
  Rgb out;
  for (int c = 0; c < 3; ++c) out[c] = std::clamp(ratio * v[c] + (1 - ratio) * with, 0.0, 255.0);
  return out;
}

// By way of HSV and its six cases, as textbooks and torchvision have it.
Rgb TurnedHue(const Rgb& v, double by) {
  const auto [low, high] = std::minmax({v[0], v[1], v[2]});
  if (high == low) return v;
  const double range = high - low, saturation = range / high;
  double hue = v[0] == high   ? (v[1] - v[2]) / range
               : v[1] == high ? 2 + (v[2] - v[0]) / range
                              : 4 + (v[0] - v[1]) / range;
  hue = hue / 6 + by;
  hue -= std::floor(hue);
  const double sector = std::floor(hue * 6), f = hue * 6 - sector;
  const double p = high * (1 - saturation), q = high * (1 - saturation * f),
               t = high * (1 - saturation * (1 - f));
  switch (static_cast<int>(sector) % 6) {
    case 0:
      return {high, t, p};
    case 1:
      return {q, high, p};
    case 2:
      return {p, high, t};
    case 3:
      return {p, q, high};
    case 4:
      return {t, p, high};
    default:
      return {high, p, q};
  }
}

TEST(AugmentationTest, Colours_FollowTheDefinitionsInDouble) {
  std::vector<uint8_t> in(16 * 16 * 3);
  double grey = 0;
  for (uint32_t p = 0; p < 256; ++p) {
    const auto words = PhiloxBlock(9, Purpose::kTest, 0, 0, p);
    for (int c = 0; c < 3; ++c) in[3 * p + c] = static_cast<uint8_t>(words[c]);
    if (p == 0) in[0] = in[1] = in[2] = 77;  // No hue.
    if (p == 1) in[3] = in[4] = in[5] = 0;
    grey += GreyOf({double(in[3 * p]), double(in[3 * p + 1]), double(in[3 * p + 2])}) / 256;
  }
  std::vector<Augmentation> cases = {{.brightness = 0.3}, {.brightness = 1.8}, {.contrast = 0},
                                     {.contrast = 0.4},   {.contrast = 2.5},   {.saturation = 0},
                                     {.saturation = 0.6}, {.saturation = 1.9}, {.hue = 0.5},
                                     {.hue = -0.5},       {.hue = 0.07},       {.hue = -0.31}};
  for (uint32_t i = 0; i < 100; ++i) {
    AugmentationRanges ranges = AllRanges();
    ranges.hue = 0.5;
    const Augmentation a = DrawAugmentation(ranges, 1, 1, i, 16);
    cases.push_back({.brightness = a.brightness,
                     .contrast = a.contrast,
                     .saturation = a.saturation,
                     .hue = a.hue});
  }
  std::vector<float> out(in.size());
  for (const Augmentation& a : cases) {
    AugmentImage(in.data(), 16, a, kNone, out.data());
    for (int p = 0; p < 256; ++p) {
      Rgb v = {double(in[3 * p]), double(in[3 * p + 1]), double(in[3 * p + 2])};
      v = Blend(v, 0, a.brightness);
      v = Blend(v, std::min(255.0, a.brightness * grey), a.contrast);
      v = Blend(v, GreyOf(v), a.saturation);
      v = TurnedHue(v, a.hue);
      for (int c = 0; c < 3; ++c) {
        ASSERT_NEAR(out[3 * p + c], v[c], 2e-3) << a.brightness << " " << a.contrast << " "
                                                << a.saturation << " " << a.hue << " pixel " << p;
      }
    }
  }
}

TEST(AugmentationTest, ThirdOfTheCircle_TurnsRedToGreen) {
  std::vector<uint8_t> in(16 * 16 * 3);
  for (size_t p = 0; p < in.size(); p += 3) in[p] = 210;
  std::vector<float> out(in.size());
  AugmentImage(in.data(), 16, Augmentation{.hue = 1.0 / 3}, kNone, out.data());
  for (size_t p = 0; p < in.size(); p += 3) {
    ASSERT_NEAR(out[p], 0, 1e-3);
    ASSERT_NEAR(out[p + 1], 210, 1e-3);
    ASSERT_NEAR(out[p + 2], 0, 1e-3);
  }
}

// Pixel by pixel from the last to the first, rows dealt out to threads, or image after image: one
// answer. Sizes that fill a run of vectors and such that do not.
TEST(AugmentationTest, Augmentation_GivesTheSameBits_InAnyOrder) {
  for (uint32_t size : {16u, 32u, 72u}) {
    const auto data = ToyData(8, 0, size);
    for (uint32_t i = 0; i < 16; ++i) {
      const Augmentation a =
          DrawAugmentation(i % 2 ? AllRanges() : AugmentationRanges(), 1, 1 + i / 8, i % 8, size);
      std::vector<float> whole(size * size * 3), apart(whole.size(), -1);
      AugmentImage(data->image(i % 8), size, a, kNormalise, whole.data());
      const AugmentPixel pixel =
          MakeAugmentPixel(data->image(i % 8), size, a, kNormalise, apart.data());
      std::vector<std::thread> threads;
      for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&pixel, t, n = static_cast<int>(size)] {
          for (int p = n * n - 1 - t; p >= 0; p -= 3) pixel(p / n, p % n);
        });
      }
      for (std::thread& thread : threads) thread.join();
      ASSERT_EQ(std::memcmp(whole.data(), apart.data(), whole.size() * sizeof(float)), 0)
          << size << " " << i;
    }
  }
}

}  // namespace
}  // namespace dermis
