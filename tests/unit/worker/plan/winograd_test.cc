#include "worker/plan/winograd.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "common/philox.h"

namespace dermis {
namespace {

// In [-1, 1).
std::vector<float> Values(uint32_t what, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] =
        2 * ToUnitFloat(PhiloxBlock(3, Purpose::kTest, what, 0, static_cast<uint32_t>(i))[0]) - 1;
  }
  return values;
}

struct Layer {
  size_t in, out;
  std::vector<float> weight = Values(0, out*in * 9), bias = Values(1, out);

  WinogradConvolution Convolution() const { return {in, out, weight, bias}; }

  std::vector<float> Run(size_t images, size_t side, const std::vector<float>& x, bool add = false,
                         bool relu = false, std::vector<float> y = {}) const {
    y.resize(images * side * side * out);
    std::vector<float> scratch;
    Convolution().Run(images, side, x.data(), add, relu, y.data(), scratch);
    return y;
  }

  // As the definition has it.
  std::vector<double> Defined(size_t images, size_t side, const std::vector<float>& x) const {
    std::vector<double> y;
    for (size_t image = 0; image < images; ++image) {
      for (size_t v = 0; v < side; ++v) {
        for (size_t u = 0; u < side; ++u) {
          for (size_t o = 0; o < out; ++o) {
            double sum = bias[o];
            for (size_t i = 0; i < 9; ++i) {
              const size_t row = v + i / 3, column = u + i % 3;  // One further.
              if (row < 1 || row > side || column < 1 || column > side) continue;
              const float* const pixel = &x[((image * side + row - 1) * side + column - 1) * in];
              for (size_t c = 0; c < in; ++c) {
                sum += double{pixel[c]} * weight[(o * in + c) * 9 + i];
              }
            }
            y.push_back(sum);
          }
        }
      }
    }
    return y;
  }
};

class Winograd : public testing::Test {
  void SetUp() override {
    if (!WinogradConvolution::Supported()) GTEST_SKIP() << "this processor has no AVX-512";
  }
};

TEST_F(Winograd, IsTheConvolution_ForAnySideAndChannels) {
  for (const auto& [in, out] :
       {std::pair<size_t, size_t>{16, 64}, {64, 64}, {48, 192}, {256, 128}}) {
    const Layer layer{in, out};
    for (const size_t side : {1, 2, 3, 4, 5, 7, 8, 14}) {
      const std::vector<float> x = Values(2, 3 * side * side * in);
      const std::vector<double> expected = layer.Defined(3, side, x);
      const std::vector<float> y = layer.Run(3, side, x);
      double squares = 0, largest = 0;
      for (size_t i = 0; i < y.size(); ++i) {
        squares += expected[i] * expected[i];
        const double distance = std::abs(y[i] - expected[i]);
        largest = distance <= largest ? largest : distance;  // NaN stays.
      }
      // A direct sum in fp32 is within about 5e-6 of the values' size.
      EXPECT_LT(largest, 2e-5 * std::sqrt(squares / static_cast<double>(y.size())))
          << in << " to " << out << " channels, " << side << " pixels a side";
    }
  }
}

TEST_F(Winograd, AddsAndCutsOff_AfterTheBias) {
  const Layer layer{16, 64};
  const std::vector<float> x = Values(2, size_t{2} * 6 * 6 * 16),
                           shortcut = Values(3, size_t{2} * 6 * 6 * 64);
  const std::vector<float> plain = layer.Run(2, 6, x);
  const std::vector<float> added = layer.Run(2, 6, x, true, false, shortcut);
  const std::vector<float> cut = layer.Run(2, 6, x, false, true);
  const std::vector<float> both = layer.Run(2, 6, x, true, true, shortcut);
  size_t negative = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_EQ(added[i], plain[i] + shortcut[i]);
    EXPECT_EQ(cut[i], std::max(plain[i], 0.0f));
    EXPECT_EQ(both[i], std::max(plain[i] + shortcut[i], 0.0f));
    negative += plain[i] < 0;
  }
  EXPECT_GT(negative, 100u);
  EXPECT_LT(negative, plain.size() - 100);
}

TEST_F(Winograd, IsBitwiseEqual_AtAnyBatchPositionAndSize) {
  const Layer layer{32, 128};
  // 25 tiles an image: groups of 64 begin and end within images.
  constexpr size_t kSide = 18, kImages = 9, kIn = kSide * kSide * 32, kOut = kSide * kSide * 128;
  const std::vector<float> x = Values(2, kImages * kIn);
  const std::vector<float> all = layer.Run(kImages, kSide, x);
  for (size_t count = 1; count < kImages; ++count) {
    for (size_t first = 0; first + count <= kImages; ++first) {
      const std::vector<float> part(x.begin() + first * kIn, x.begin() + (first + count) * kIn);
      const std::vector<float> y = layer.Run(count, kSide, part);
      EXPECT_EQ(std::memcmp(y.data(), &all[first * kOut], y.size() * sizeof(float)), 0)
          << first << " + " << count;
    }
  }
}

TEST_F(Winograd, NotANumber_StaysInItsImage_AndIsNotCutOff) {
  const Layer layer{16, 64};
  std::vector<float> x = Values(2, size_t{2} * 8 * 8 * 16);
  const std::vector<float> before = layer.Run(2, 8, x, false, true);
  x[5] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> after = layer.Run(2, 8, x, false, true);
  const size_t image = size_t{8} * 8 * 64;
  EXPECT_TRUE(std::isnan(after[0]));
  EXPECT_EQ(std::memcmp(&before[image], &after[image], image * sizeof(float)), 0);
}

TEST_F(Winograd, EqualWeights_AreOneCopy) {
  const Layer layer{16, 64};
  Layer other{16, 64};
  other.weight[17] += 1;
  const WinogradConvolution first = layer.Convolution(), second = layer.Convolution(),
                            third = other.Convolution();
  EXPECT_EQ(first.weights(), second.weights());
  EXPECT_NE(first.weights(), third.weights());
}

}  // namespace
}  // namespace dermis
