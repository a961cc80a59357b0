#include "worker/training/augmentation.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"

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
    const Augmentation a = DrawAugmentation(3, 1, i, 32);
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
  const double base = DrawAugmentation(1, 1, 1, 32).angle;
  EXPECT_EQ(DrawAugmentation(1, 1, 1, 32).angle, base);
  EXPECT_NE(DrawAugmentation(2, 1, 1, 32).angle, base);
  EXPECT_NE(DrawAugmentation(1, 2, 1, 32).angle, base);
  EXPECT_NE(DrawAugmentation(1, 1, 2, 32).angle, base);
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
    AugmentImage(data->image(i % 4), 16, DrawAugmentation(1, 1, i, 16), kNone, out.data());
    for (float v : out) {
      ASSERT_GE(v, *low - 1e-3);
      ASSERT_LE(v, *high + 1e-3);
    }
  }
}

}  // namespace
}  // namespace dermis
