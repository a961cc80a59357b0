#include "common/resize.h"

#include <vector>

#include "common/philox.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

std::vector<uint8_t> RandomBytes(size_t n) {
  std::vector<uint8_t> bytes(n);
  for (size_t i = 0; i < n; ++i) {
    bytes[i] = static_cast<uint8_t>(PhiloxBlock(3, Purpose::kTest, i, 0, 0)[0]);
  }
  return bytes;
}

// The definition in double, pixel by pixel.
double Mean(const std::vector<uint8_t>& in, int h, int w, int channels, int oh, int ow, int oy,
            int ox, int c) {
  double sum = 0;
  for (int y = 0; y < h; ++y) {
    for (int x = 0; x < w; ++x) {
      const double top = std::max<double>(y, double(oy) * h / oh);
      const double bottom = std::min<double>(y + 1, double(oy + 1) * h / oh);
      const double left = std::max<double>(x, double(ox) * w / ow);
      const double right = std::min<double>(x + 1, double(ox + 1) * w / ow);
      if (bottom > top && right > left) {
        sum += (bottom - top) * (right - left) * in[(size_t(y) * w + x) * channels + c];
      }
    }
  }
  return sum * oh * ow / (double(h) * w);
}

void CheckAgainstDefinition(int h, int w, int oh, int ow) {
  const std::vector<uint8_t> in = RandomBytes(size_t(h) * w * 3);
  const std::vector<float> in_float(in.begin(), in.end());
  std::vector<uint8_t> bytes(size_t(oh) * ow * 3);
  std::vector<float> floats(bytes.size());
  AreaResizeBytes(in.data(), h, w, 3, bytes.data(), oh, ow);
  AreaResize(in_float.data(), h, w, 3, floats.data(), oh, ow);
  for (int y = 0; y < oh; ++y) {
    for (int x = 0; x < ow; ++x) {
      for (int c = 0; c < 3; ++c) {
        const double mean = Mean(in, h, w, 3, oh, ow, y, x, c);
        const size_t k = (size_t(y) * ow + x) * 3 + c;
        ASSERT_NEAR(floats[k], mean, 1e-3);
        ASSERT_NEAR(bytes[k], mean, .5 + 1e-9);
      }
    }
  }
}

TEST(AreaResize, IsTheMeanOfTheCoveredArea) {
  CheckAgainstDefinition(224, 224, 32, 32);  // Whole ratio.
  CheckAgainstDefinition(37, 50, 32, 32);    // Fractions on both axes.
  CheckAgainstDefinition(10, 7, 3, 5);
  CheckAgainstDefinition(5, 5, 1, 1);
}

TEST(AreaResize, ToTheSameSize_ChangesNothing) {
  const std::vector<uint8_t> in = RandomBytes(9 * 11 * 3);
  std::vector<uint8_t> out(in.size());
  AreaResizeBytes(in.data(), 9, 11, 3, out.data(), 9, 11);
  EXPECT_EQ(in, out);
  std::vector<float> real(in.size());
  for (size_t i = 0; i < in.size(); ++i) real[i] = 0.1f + static_cast<float>(in[i]) / 7;
  std::vector<float> same(in.size());
  AreaResize(real.data(), 9, 11, 3, same.data(), 9, 11);
  EXPECT_EQ(real, same);
}

TEST(AreaResizeBytes, RoundsHalfUp) {
  const uint8_t in[2] = {1, 2};
  uint8_t out = 0;
  AreaResizeBytes(in, 1, 2, 1, &out, 1, 1);
  EXPECT_EQ(out, 2);
  const uint8_t white[4] = {255, 255, 255, 255};
  AreaResizeBytes(white, 2, 2, 1, &out, 1, 1);
  EXPECT_EQ(out, 255);
}

TEST(AreaResize, OfBytes_AgreesWithTheFloats_AtWholeRatios) {
  // At 224 -> 32 all float sums are exact, so both ways differ by the rounding alone.
  const std::vector<uint8_t> in = RandomBytes(224 * 224 * 3);
  const std::vector<float> in_float(in.begin(), in.end());
  std::vector<uint8_t> bytes(32 * 32 * 3);
  std::vector<float> floats(bytes.size());
  AreaResizeBytes(in.data(), 224, 224, 3, bytes.data(), 32, 32);
  AreaResize(in_float.data(), 224, 224, 3, floats.data(), 32, 32);
  for (size_t k = 0; k < bytes.size(); ++k) {
    EXPECT_EQ(bytes[k], static_cast<uint8_t>(floats[k] + .5f));
  }
}

}  // namespace
}  // namespace dermis
