#include "tools/report/overlay.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <opencv2/imgcodecs.hpp>

namespace dermis {
namespace {

constexpr int kWide = 400, kHigh = 300;  // Large enough not to be enlarged.
constexpr int kGap = 8;

Raster Grey() { return {kWide, kHigh, 3, std::vector<uint8_t>(size_t{kWide} * kHigh * 3, 200)}; }

// BGR.
cv::Mat Drawn(const std::vector<float>& map, int width, int height, double sign) {
  const std::string png =
      MapOverlayPng(Grey(), map, width, height, sign, {"grad_cam of conv6", "grid"});
  const cv::Mat picture =
      cv::imdecode(std::vector<uint8_t>(png.begin(), png.end()), cv::IMREAD_COLOR);
  EXPECT_FALSE(picture.empty());
  return picture;
}

int PicturesOf(const cv::Mat& drawn) { return (drawn.cols + kGap) / (kWide + kGap); }

cv::Mat Picture(const cv::Mat& drawn, int number) {
  return drawn(cv::Rect(number * (kWide + kGap), 0, kWide, kHigh));
}

bool HasColour(const cv::Mat& picture) {
  for (int y = 0; y < picture.rows; ++y) {
    for (int x = 0; x < picture.cols; ++x) {
      const auto& p = picture.at<cv::Vec3b>(y, x);
      if (p[0] != p[1] || p[1] != p[2]) return true;
    }
  }
  return false;
}

// Pixels as dark as the ink.
int Dark(const cv::Mat& picture) {
  int dark = 0;
  for (int y = 0; y < picture.rows; ++y) {
    for (int x = 0; x < picture.cols; ++x) dark += picture.at<cv::Vec3b>(y, x)[0] < 120;
  }
  return dark;
}

TEST(MapOverlay, ACoarseMap_IsShownSmooth_AndOnItsOwnGrid) {
  const cv::Mat drawn = Drawn({1, 0, -5, .5f}, 2, 2, 1);
  ASSERT_EQ(PicturesOf(drawn), 3);
  const cv::Mat smooth = Picture(drawn, 1), grid = Picture(drawn, 2);
  // A cell is of one colour, as high as it is, up to its border.
  const std::vector<std::pair<int, double>> cells = {{0, 1}, {1, 0}, {2, 0}, {3, .5}};
  for (const auto& [cell, value] : cells) {
    const Colour expected = Inferno(value);
    const int left = cell % 2 * kWide / 2, top = cell / 2 * kHigh / 2;
    for (const auto& [x, y] : {std::pair(left, top), {left + kWide / 2 - 1, top + kHigh / 2 - 1}}) {
      const auto& p = grid.at<cv::Vec3b>(y, x);
      for (int c = 0; c < 3; ++c) EXPECT_NEAR(p[2 - c], expected[c], 1) << cell;
    }
  }
  // Of the smooth picture neighbours differ little everywhere.
  for (int x = 1; x < kWide; ++x) {
    for (int c = 0; c < 3; ++c) {
      EXPECT_LE(std::abs(smooth.at<cv::Vec3b>(60, x)[c] - smooth.at<cv::Vec3b>(60, x - 1)[c]), 6);
    }
  }
}

TEST(MapOverlay, AMapOfTheImagesOwnSize_NeedsNoGridBesideIt) {
  std::vector<float> map(size_t{kWide} * kHigh, 0.f);
  map[5] = 1;
  EXPECT_EQ(PicturesOf(Drawn(map, kWide, kHigh, 1)), 2);
}

TEST(MapOverlay, OfAMapWithoutPositiveEvidence_SaysSo_AndStretchesNothing) {
  for (const std::vector<float>& map : {std::vector<float>{-1, -2, -3, -.5f}, {0, 0, 0, 0}}) {
    const cv::Mat drawn = Drawn(map, 2, 2, 1);
    ASSERT_EQ(PicturesOf(drawn), 2);
    EXPECT_FALSE(HasColour(Picture(drawn, 1)));
    EXPECT_EQ(Dark(Picture(drawn, 0)), 0);
    EXPECT_GT(Dark(Picture(drawn, 1)), 100) << "the words";
  }
  // Of -f the same map has evidence.
  const cv::Mat other = Drawn({-1, -2, -3, -.5f}, 2, 2, -1);
  EXPECT_EQ(PicturesOf(other), 3);
  EXPECT_TRUE(HasColour(Picture(other, 1)));
}

}  // namespace
}  // namespace dermis
