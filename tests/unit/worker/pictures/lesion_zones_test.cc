#include "worker/pictures/lesion_zones.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/philox.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;

constexpr int kSide = 101;

std::vector<uint8_t> Disc(double radius, double cy = 50, double cx = 50) {
  std::vector<uint8_t> mask;
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) mask.push_back(std::hypot(y - cy, x - cx) < radius);
  }
  return mask;
}

TEST(SquaredDistances, AreThoseOfEveryPairOfPixels) {
  constexpr int kHeight = 13, kWidth = 17;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::vector<uint8_t> set;
    for (int i = 0; i < kHeight * kWidth; ++i) {
      set.push_back(PhiloxBlock(seed, Purpose::kTest, i, 0, 0)[0] % (2 * seed) == 0);
    }
    const std::vector<double> distances = SquaredDistances(set, kHeight, kWidth);
    for (int i = 0; i < kHeight * kWidth; ++i) {
      double least = std::numeric_limits<double>::infinity();
      for (int j = 0; j < kHeight * kWidth; ++j) {
        const int dy = i / kWidth - j / kWidth, dx = i % kWidth - j % kWidth;
        if (set[j]) least = std::min(least, double(dy * dy + dx * dx));
      }
      EXPECT_EQ(distances[i], least) << "seed " << seed << ", pixel " << i;
    }
  }
}

TEST(LesionZones, ADiscHasBandsOfATenthOfItsDiameter) {
  const std::vector<uint8_t> zones = LesionZones(Disc(30), kSide, kSide, 0.1);
  // Along the middle row, from the centre: radius 30, bands of 6 to either side.
  std::vector<int> lengths(kZones, 0);
  for (int x = 50; x < kSide; ++x) ++lengths[zones[50 * kSide + x]];
  EXPECT_THAT(lengths, ElementsAre(24, 6, 6, 15));
}

TEST(LesionZones, HoldTheMask) {
  const std::vector<uint8_t> mask = Disc(22, 12, 70);  // Beyond the image's border.
  const std::vector<uint8_t> zones = LesionZones(mask, kSide, kSide, 0.1);
  for (size_t i = 0; i < mask.size(); ++i) {
    EXPECT_EQ(mask[i] != 0, zones[i] == kCore || zones[i] == kInnerBand);
  }
  // The image's border is no edge: the first row's middle is core.
  EXPECT_EQ(zones[70], kCore);
}

TEST(LesionZones, WithoutABandAreLesionAndSurroundings) {
  const std::vector<uint32_t> sizes = ZoneSizes(LesionZones(Disc(30), kSide, kSide, 0));
  EXPECT_EQ(sizes[kInnerBand] + sizes[kOuterBand], 0u);
  EXPECT_GT(sizes[kCore], 0u);
}

TEST(LesionZones, OfNoOrNothingButLesionAreOneZone) {
  const std::vector<uint8_t> none(kSide * kSide, 0), all(kSide * kSide, 1);
  EXPECT_THAT(ZoneSizes(LesionZones(none, kSide, kSide, 0.1)), ElementsAre(0, 0, 0, kSide * kSide));
  EXPECT_THAT(ZoneSizes(LesionZones(all, kSide, kSide, 0.1)), ElementsAre(kSide * kSide, 0, 0, 0));
}

TEST(Shifted, GoesOnAtTheOppositeSide) {
  const std::vector<uint8_t> picture = {0, 1, 2,  //
                                        3, 4, 5};
  EXPECT_THAT(Shifted(picture, 2, 3, 1, 2), ElementsAre(4, 5, 3, 1, 2, 0));
}

TEST(Turned, AreTheEightWaysToLayASquare) {
  const std::vector<uint8_t> picture = {1, 2,  //
                                        3, 4};
  EXPECT_THAT(Turned(picture, 2, 0), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(Turned(picture, 2, 1), ElementsAre(3, 1, 4, 2)) << "a quarter clockwise";
  EXPECT_THAT(Turned(picture, 2, 4), ElementsAre(2, 1, 4, 3)) << "mirrored";
  std::set<std::vector<uint8_t>> all;
  for (int turn = 0; turn < 8; ++turn) all.insert(Turned(picture, 2, turn));
  EXPECT_EQ(all.size(), 8u);
}

TEST(Placements, LeaveSizesAsTheyAre) {
  const std::vector<uint8_t> zones = LesionZones(Disc(17, 30, 60), kSide, kSide, 0.1);
  const std::vector<uint32_t> sizes = ZoneSizes(zones);
  EXPECT_EQ(ZoneSizes(Shifted(zones, kSide, kSide, 77, 13)), sizes);
  EXPECT_EQ(ZoneSizes(Turned(zones, kSide, 6)), sizes);
}

TEST(BoundingBox, HoldsTheLesionAndTouchesIt) {
  std::vector<uint8_t> mask(5 * 6, 0);
  mask[1 * 6 + 2] = mask[3 * 6 + 4] = 1;
  const std::vector<uint8_t> box = BoundingBox(mask, 5, 6);
  for (int y = 0; y < 5; ++y) {
    for (int x = 0; x < 6; ++x) EXPECT_EQ(box[y * 6 + x], y >= 1 && y <= 3 && x >= 2 && x <= 4);
  }
  EXPECT_EQ(BoundingBox(std::vector<uint8_t>(30, 0), 5, 6), std::vector<uint8_t>(30, 0));
}

}  // namespace
}  // namespace dermis
