#include "worker/plan/max_pool.h"

#include <algorithm>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "common/philox.h"
#include "common/simd.h"

namespace dermis {
namespace {

constexpr size_t kImages = 2;

// As the definition has it, of values that bf16 holds.
std::vector<float> Defined(PoolWindow window, size_t side, size_t channels,
                           const std::vector<float>& in) {
  const int64_t out_side = static_cast<int64_t>(side / 2),
                first = window == PoolWindow::kThree ? -1 : 0;
  std::vector<float> out;
  for (size_t image = 0; image < kImages; ++image) {
    for (int64_t y = 0; y < out_side; ++y) {
      for (int64_t x = 0; x < out_side; ++x) {
        for (size_t c = 0; c < channels; ++c) {
          float most = -std::numeric_limits<float>::infinity();
          for (int64_t v = std::max<int64_t>(2 * y + first, 0); v < 2 * y + 2; ++v) {
            for (int64_t u = std::max<int64_t>(2 * x + first, 0); u < 2 * x + 2; ++u) {
              most = std::max(most, in[((image * side + v) * side + u) * channels + c]);
            }
          }
          out.push_back(most);
        }
      }
    }
  }
  return out;
}

TEST(MaxPool, IsTheLargestOfEachWindow_InBothFormats_ForAnySides) {
  for (const PoolWindow window : {PoolWindow::kTwo, PoolWindow::kThree}) {
    for (const size_t side : {2, 3, 8, 13}) {
      for (const size_t channels : {1, 5, 32, 64}) {
        std::vector<float> in(kImages * side * side * channels);
        std::vector<uint16_t> words;
        for (uint32_t i = 0; i < in.size(); ++i) {
          // Negative ones and small ones, too.
          const auto random = PhiloxBlock(5, Purpose::kTest, static_cast<uint32_t>(side), 0, i);
          in[i] = Bf16ToFloat(FloatToBf16((2 * ToUnitFloat(random[0]) - 1.5f) *
                                          (random[1] % 3 == 0 ? 1e-30f : 10)));
          words.push_back(FloatToBf16(in[i]));
        }
        const std::vector<float> expected = Defined(window, side, channels, in);
        std::vector<float> out(expected.size());
        MaxPool(window, kImages, side, channels, in.data(), out.data());
        EXPECT_EQ(out, expected) << side << " " << channels;
        std::vector<uint16_t> pooled(expected.size());
        MaxPool(window, kImages, side, channels, words.data(), pooled.data());
        std::transform(pooled.begin(), pooled.end(), out.begin(),
                       [](uint16_t value) { return Bf16ToFloat(value); });
        EXPECT_EQ(out, expected) << side << " " << channels;
      }
    }
  }
}

}  // namespace
}  // namespace dermis
