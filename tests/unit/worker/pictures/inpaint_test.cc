#include "worker/pictures/inpaint.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "common/philox.h"

namespace dermis {
namespace {

constexpr int kHeight = 30, kWidth = 41;

// A ramp in each channel, the same in every row or column.
uint8_t Ramp(int y, int x, int c) {
  return static_cast<uint8_t>(c == 0 ? 10 + 5 * x : c == 1 ? 250 - 5 * x : 20 + 7 * y);
}

std::vector<uint8_t> Picture(uint64_t noise_seed = 0) {
  std::vector<uint8_t> rgb;
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      for (int c = 0; c < 3; ++c) {
        const uint32_t noise =
            noise_seed == 0 ? 0 : PhiloxBlock(noise_seed, Purpose::kTest, y, x, c)[0] % 64;
        rgb.push_back(static_cast<uint8_t>(std::min(255u, Ramp(y, x, c) + noise)));
      }
    }
  }
  return rgb;
}

// Region 1: rows 8..19, columns 10..27. Region 2: beside it.
std::vector<uint32_t> Labels() {
  std::vector<uint32_t> labels(kHeight * kWidth, 0);
  for (int y = 8; y < 20; ++y) {
    for (int x = 10; x < 28; ++x) labels[y * kWidth + x] = x < 20 ? 1 : 2;
  }
  return labels;
}

TEST(Inpaint, ContinuesARampExactly) {
  std::vector<uint8_t> rgb = Picture();
  std::vector<uint32_t> labels = Labels();
  for (uint32_t& label : labels) label = label == 0 ? 0 : 1;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == 1) std::fill_n(rgb.begin() + static_cast<ptrdiff_t>(3 * i), 3, uint8_t{255});
  }
  const std::vector<float> picture = Inpaint(rgb.data(), labels, kHeight, kWidth);
  for (int y = 8; y < 20; ++y) {
    for (int x = 10; x < 28; ++x) {
      for (int c = 0; c < 3; ++c) {
        EXPECT_NEAR(picture[3 * (y * kWidth + x) + c], Ramp(y, x, c), 0.05) << y << " " << x;
      }
    }
  }
}

TEST(Inpaint, APixelIsTheMeanOfItsNeighbours) {
  const std::vector<uint8_t> rgb = Picture(3);
  const std::vector<uint32_t> labels = Labels();
  const std::vector<float> picture = Inpaint(rgb.data(), labels, kHeight, kWidth);
  for (int y = 0; y < kHeight; ++y) {
    for (int x = 0; x < kWidth; ++x) {
      const size_t i = y * kWidth + x;
      double sum = 0;
      int neighbours = 0;
      for (const auto& [dy, dx] : {std::pair(-1, 0), {1, 0}, {0, -1}, {0, 1}}) {
        if (y + dy < 0 || y + dy >= kHeight || x + dx < 0 || x + dx >= kWidth) continue;
        const size_t j = (y + dy) * kWidth + x + dx;
        sum += labels[j] == labels[i] ? picture[3 * j] : static_cast<float>(rgb[3 * j]);
        ++neighbours;
      }
      EXPECT_NEAR(picture[3 * i], sum / neighbours, 5e-3);
    }
  }
}

TEST(Inpaint, DependsOnTheSurroundingsAlone) {
  const std::vector<uint32_t> labels = Labels();
  std::vector<uint8_t> rgb = Picture(3);
  const std::vector<float> before = Inpaint(rgb.data(), labels, kHeight, kWidth);
  // The inside of region 1, away from its neighbours, turns black: nothing of it was in its
  // picture.
  for (int y = 9; y < 19; ++y) {
    for (int x = 11; x < 19; ++x) std::fill_n(rgb.begin() + 3 * (y * kWidth + x), 3, uint8_t{0});
  }
  const std::vector<float> after = Inpaint(rgb.data(), labels, kHeight, kWidth);
  for (size_t i = 0; i < labels.size(); ++i) {
    // The sweeps begin at the mean, so they end within their tolerance of each other.
    for (int c = 0; c < 3; ++c) EXPECT_NEAR(before[3 * i + c], after[3 * i + c], 0.05);
  }
}

TEST(Inpaint, StaysWithinTheRangeOfTheSurroundings) {
  const std::vector<float> picture = Inpaint(Picture(9).data(), Labels(), kHeight, kWidth);
  EXPECT_GE(*std::min_element(picture.begin(), picture.end()), 0);
  EXPECT_LE(*std::max_element(picture.begin(), picture.end()), 255);
}

TEST(Inpaint, AWholeImageBecomesItsMeanColour) {
  const std::vector<uint8_t> rgb = Picture();
  const std::vector<float> picture =
      Inpaint(rgb.data(), std::vector<uint32_t>(kHeight * kWidth, 0), kHeight, kWidth);
  for (const float red : {picture[0], picture[3 * (kHeight * kWidth / 2)]}) {
    EXPECT_NEAR(red, 10 + 5 * (kWidth - 1) / 2.0, 1e-3);
  }
}

}  // namespace
}  // namespace dermis
