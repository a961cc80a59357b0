#include "worker/plan/split_input.h"

#include <bit>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "common/philox.h"

namespace dermis {
namespace {

double Value(uint16_t bf16) { return std::bit_cast<float>(uint32_t{bf16} << 16); }

float Random(uint32_t stream, uint32_t i) {
  return 4 * ToUnitFloat(PhiloxBlock(3, Purpose::kTest, stream, 0, i)[0]) - 2;
}

TEST(SplitInput, ProductsOfWords_AreThoseOfTheNumbers_ToSixteenBits) {
  constexpr size_t kOut = 4, kTaps = 9, kPixels = 100;
  std::vector<float> input(3 * kPixels), weight(kOut * 3 * kTaps);
  for (uint32_t i = 0; i < input.size(); ++i) input[i] = Random(0, i);
  for (uint32_t i = 0; i < weight.size(); ++i) weight[i] = Random(1, i);
  std::vector<uint16_t> pixels(kSplitChannels * kPixels);
  SplitInput(input.data(), kPixels, pixels.data());
  const std::vector<float> weights = SplitWeights(weight, kOut);
  ASSERT_EQ(weights.size(), kOut * kSplitChannels * kTaps);
  for (const float w : weights)
    EXPECT_EQ(std::bit_cast<uint32_t>(w) & 0xFFFFu, 0u) << w << " is no number of bf16";
  for (size_t p = 0; p < kPixels; ++p) {
    for (size_t o = 0; o < kOut; ++o) {
      for (size_t t = 0; t < kTaps; ++t) {
        for (size_t c = 0; c < 3; ++c) {
          const double exact = double{input[3 * p + c]} * weight[(o * 3 + c) * kTaps + t];
          double product = 0;
          for (size_t word = 3 * c; word < 3 * c + 3; ++word) {
            product += Value(pixels[kSplitChannels * p + word]) *
                       weights[(o * kSplitChannels + word) * kTaps + t];
          }
          EXPECT_LE(std::abs(product - exact), std::ldexp(std::abs(exact), -15));
        }
      }
    }
  }
}

}  // namespace
}  // namespace dermis
