#include "worker/explain/checks/maps.h"

#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace dermis {
namespace {

// height x width, in columns of the given labels.
Segmentation Columns(int height, const std::vector<uint32_t>& labels, uint32_t count) {
  Segmentation segmentation{height, static_cast<int>(labels.size()), count, {}};
  for (int y = 0; y < height; ++y) {
    segmentation.labels.insert(segmentation.labels.end(), labels.begin(), labels.end());
  }
  return segmentation;
}

TEST(Regrid, SpreadsAValueEvenlyOverItsPixels_AndKeepsTheSum) {
  const Segmentation halves = Columns(2, {0, 0, 1, 1}, 2);
  const Segmentation other = Columns(2, {0, 1, 1, 1}, 2);
  EXPECT_EQ(Regrid({4.0, 8.0}, halves, other), (std::vector<double>{2, 10}));
  EXPECT_EQ(Regrid({4.0, 8.0}, halves, halves), (std::vector<double>{4, 8}));
}

TEST(RegridMeans, IsTheMeanOverASuperpixelsPixels) {
  const Segmentation halves = Columns(2, {0, 0, 1, 1}, 2);
  const Segmentation other = Columns(2, {0, 1, 1, 1}, 2);
  EXPECT_EQ(RegridMeans({4.0, 10.0}, halves, other), (std::vector<double>{4, 8}));
  EXPECT_EQ(RegridMeans({4.0, 10.0}, halves, halves), (std::vector<double>{4, 10}));
}

TEST(SumOnSuperpixels, OfAMapOfThePicturesSize_IsTheSumOfItsPixels) {
  const Segmentation segmentation = Columns(2, {0, 1, 1}, 2);
  EXPECT_EQ(SumOnSuperpixels({1.f, 2.f, 3.f, 4.f, 5.f, 6.f}, 2, 3, segmentation),
            (std::vector<double>{5, 16}));
}

TEST(SumOnSuperpixels, OfASmallerMap_IsBilinearBetweenCentres) {
  // Two cells over four columns: centres at 1 and 3; pixels' centres at .5, 1.5, 2.5, 3.5.
  const Segmentation each = Columns(1, {0, 1, 2, 3}, 4);
  EXPECT_EQ(SumOnSuperpixels({0.f, 8.f}, 1, 2, each), (std::vector<double>{0, 2, 6, 8}));
  // A map of one cell is the same everywhere.
  EXPECT_EQ(SumOnSuperpixels({3.f}, 1, 1, each), (std::vector<double>{3, 3, 3, 3}));
}

TEST(MapsOf, AFit_IsOneMapInTheOutputsUnits_OnTheCommonSuperpixels) {
  const Segmentation own = Columns(2, {0, 0, 1, 1}, 2), common = Columns(2, {0, 1, 1, 1}, 2);
  v1::Payload payload;
  payload.mutable_fit()->add_values(4);
  payload.mutable_fit()->add_values(8);
  const auto maps = MapsOf(payload, &own, common);
  ASSERT_TRUE(maps.ok()) << maps.status();
  ASSERT_EQ(maps->size(), 1u);
  EXPECT_EQ((*maps)[0].values, (std::vector<double>{2, 10}));
  EXPECT_EQ((*maps)[0].units, MapUnits::kOutput);
}

// Superpixels of the image as displayed, and as the model sees it.
TEST(MapsOf, AFit_OnAFinerOrCoarserPictureThanTheCommonSuperpixels) {
  const Segmentation coarse = Columns(1, {0, 1}, 2), fine = Columns(2, {0, 1, 1, 1}, 2);
  v1::Payload payload;
  payload.mutable_fit()->add_values(4);
  payload.mutable_fit()->add_values(8);
  EXPECT_EQ((*MapsOf(payload, &coarse, fine))[0].values, (std::vector<double>{2, 10}));
  // Of the fine ones' second, a third lies in the first half.
  const std::vector<double> back = (*MapsOf(payload, &fine, coarse))[0].values;
  EXPECT_NEAR(back[0], 4 + 8 / 3.0, 1e-12);
  EXPECT_NEAR(back[1], 16 / 3.0, 1e-12);
}

TEST(MapsOf, Activations_AreAMapForEachLayer_WithoutUnits) {
  const Segmentation common = Columns(1, {0, 1}, 2);
  v1::Payload payload;
  for (const char* name : {"conv1", "conv2"}) {
    v1::LayerMaps& layer = *payload.mutable_activations()->add_layers();
    layer.set_layer(name);
    layer.set_height(1);
    layer.set_width(2);
    layer.add_grad_cam(-1);
    layer.add_grad_cam(name[4] == '1' ? 3.f : 7.f);
  }
  const auto maps = MapsOf(payload, nullptr, common);
  ASSERT_TRUE(maps.ok()) << maps.status();
  ASSERT_EQ(maps->size(), 2u);
  EXPECT_EQ((*maps)[1].name, "conv2");
  EXPECT_EQ((*maps)[1].values, (std::vector<double>{-1, 7}));
  EXPECT_EQ((*maps)[1].units, MapUnits::kNone);
}

TEST(MapsOf, ACamThatHasAMapForEachClass_IsTheirDifference) {
  const Segmentation common = Columns(1, {0, 1}, 2);
  v1::Payload payload;
  v1::LayerMaps& layer = *payload.mutable_activations()->add_layers();
  layer.set_layer("conv1");
  layer.set_height(1);
  layer.set_width(2);
  for (const float value : {5.f, 0.f, 1.f, 2.f}) layer.add_cam(value);
  const auto maps = MapsOf(payload, nullptr, common);
  ASSERT_TRUE(maps.ok()) << maps.status();
  EXPECT_EQ((*maps)[0].values, (std::vector<double>{4, -2}));
}

TEST(SpreadOnSuperpixels, KeepsTheTotal_WhereverBordersLie) {
  // Two pixels of two channels over five columns: the first covers three of them, the second two.
  const Segmentation each = Columns(1, {0, 1, 1, 1, 1}, 2);
  EXPECT_EQ(SpreadOnSuperpixels({1.f, 2.f, 10.f, 20.f}, 1, 2, 2, each),
            (std::vector<double>{1, 32}));
}

TEST(MapsOf, PixelAttributions_AreSharesOfTheOutput_OrAGradient) {
  const Segmentation common = Columns(2, {0, 0, 1, 1}, 2);
  v1::Payload payload;
  v1::PixelAttribution& pixels = *payload.mutable_gradient();
  pixels.set_height(1);
  pixels.set_width(2);
  pixels.set_channels(1);
  pixels.add_values(2);
  pixels.add_values(-3);
  auto maps = MapsOf(payload, nullptr, common);
  ASSERT_TRUE(maps.ok()) << maps.status();
  EXPECT_EQ((*maps)[0].values, (std::vector<double>{2, -3}));
  EXPECT_EQ((*maps)[0].units, MapUnits::kGradient);
  pixels.set_reference(0.5);
  maps = MapsOf(payload, nullptr, common);
  ASSERT_TRUE(maps.ok()) << maps.status();
  EXPECT_EQ((*maps)[0].units, MapUnits::kOutput);
  pixels.add_values(1);
  EXPECT_FALSE(MapsOf(payload, nullptr, common).ok());
}

TEST(MapsOf, WhatDoesNotFit_IsAnError) {
  const Segmentation common = Columns(1, {0, 1}, 2);
  v1::Payload payload;
  payload.mutable_fit()->add_values(1);
  EXPECT_FALSE(MapsOf(payload, &common, common).ok());  // One value for two superpixels.
  payload.mutable_fit()->add_values(1);
  EXPECT_TRUE(MapsOf(payload, &common, common).ok());
  EXPECT_FALSE(MapsOf(payload, nullptr, common).ok());
  v1::Payload other;
  other.mutable_superpixels();
  EXPECT_FALSE(MapsOf(other, nullptr, common).ok());
}

TEST(Paint, GivesEachPixelItsSuperpixelsValue) {
  EXPECT_EQ(Paint({1.0, 2.5}, Columns(2, {1, 0}, 2)), (std::vector<float>{2.5, 1, 2.5, 1}));
}

}  // namespace
}  // namespace dermis
