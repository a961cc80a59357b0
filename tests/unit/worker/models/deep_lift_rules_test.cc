#include "worker/models/deep_lift_rules.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

#include "common/metrics.h"
#include "common/philox.h"
#include "worker/models/quadrature.h"

namespace dermis {
namespace {

// U(-2, 2), another vector for each seed.
std::vector<float> Draw(uint64_t seed, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] =
        4 * ToUnitFloat(PhiloxBlock(seed, Purpose::kTest, 0, 0, static_cast<uint32_t>(i))[0]) - 2;
  }
  return values;
}

std::vector<float> Apply(Activation kind, std::vector<float> values) {
  for (float& v : values) v = v > 0 ? v : kind == Activation::kElu ? std::expm1(v) : 0;
  return values;
}

TEST(RescaleRuleTest, MultiplierTimesChange_IsTheOutputsChange) {
  const std::vector<float> x = Draw(1, 999), r = Draw(2, 999), m = Draw(3, 999);
  for (const Activation kind : {Activation::kElu, Activation::kRelu}) {
    const std::vector<float> out_x = Apply(kind, x), out_r = Apply(kind, r);
    std::vector<float> result(x.size());
    RescaleRule(kind, x.data(), out_x.data(), r.data(), out_r.data(), x.size(), m.data(),
                result.data());
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_NEAR(result[i] * (x[i] - r[i]), m[i] * (out_x[i] - out_r[i]), 2e-6) << i;
    }
  }
}

TEST(RescaleRuleTest, EqualInputs_GetTheDerivative) {
  const std::vector<float> x = {1.5f, -0.5f, 0.25f}, m = {2, 2, 2};
  std::vector<float> result(3);
  const std::vector<float> elu = Apply(Activation::kElu, x);
  RescaleRule(Activation::kElu, x.data(), elu.data(), x.data(), elu.data(), 3, m.data(),
              result.data());
  EXPECT_FLOAT_EQ(result[0], 2);
  EXPECT_FLOAT_EQ(result[1], 2 * std::exp(-0.5f));
  const std::vector<float> relu = Apply(Activation::kRelu, x);
  RescaleRule(Activation::kRelu, x.data(), relu.data(), x.data(), relu.data(), 3, m.data(),
              result.data());
  EXPECT_FLOAT_EQ(result[1], 0);
  EXPECT_FLOAT_EQ(result[2], 2);
}

struct PoolCase {
  PoolWindow window;
  int64_t height, width, channels;
};

class MaxPoolRuleTest : public testing::TestWithParam<PoolCase> {
 protected:
  int64_t Places(int64_t side) const {
    const PoolWindow& w = GetParam().window;
    return (side + 2 * w.padding - w.kernel) / w.stride + 1;
  }
  // Where the window's maximum lies in maps `in`.
  int64_t Best(const std::vector<float>& in, int64_t y, int64_t x, int64_t c) const {
    const auto& [w, height, width, channels] = GetParam();
    int64_t best = -1;
    for (int64_t v = y * w.stride - w.padding; v < y * w.stride - w.padding + w.kernel; ++v) {
      for (int64_t u = x * w.stride - w.padding; u < x * w.stride - w.padding + w.kernel; ++u) {
        if (v < 0 || v >= height || u < 0 || u >= width) continue;
        const int64_t at = (v * width + u) * channels + c;
        if (best < 0 || in[at] > in[best]) best = at;
      }
    }
    return best;
  }
};

// Overlapping windows included: what max_unpool loses.
TEST_P(MaxPoolRuleTest, IsTheScatteredSumOfAllWindows_AndAddsUp) {
  const auto& [window, height, width, channels] = GetParam();
  const auto count = static_cast<size_t>(height * width * channels);
  const std::vector<float> in_x = Draw(1, count), in_r = Draw(2, count);
  const std::vector<float> m =
      Draw(3, static_cast<size_t>(Places(height) * Places(width) * channels));
  std::vector<float> result(count, std::numeric_limits<float>::quiet_NaN());
  MaxPoolRule(window, height, width, channels, in_x.data(), in_r.data(), m.data(), result.data());

  std::vector<double> expected(count, 0.0);
  double change = 0;
  for (int64_t y = 0; y < Places(height); ++y) {
    for (int64_t x = 0; x < Places(width); ++x) {
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t at_x = Best(in_x, y, x, c), at_r = Best(in_r, y, x, c);
        const double g = m[(y * Places(width) + x) * channels + c];
        const double out_x = in_x[at_x], out_r = in_r[at_r], cross = std::max(out_x, out_r);
        expected[at_x] += g * (cross - out_r);
        expected[at_r] += g * (out_x - cross);
        change += g * (out_x - out_r);
      }
    }
  }
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    const double delta = static_cast<double>(in_x[i]) - in_r[i];
    EXPECT_NEAR(result[i] * delta, expected[i], 1e-5) << i;
    sum += result[i] * delta;
  }
  EXPECT_NEAR(sum, change, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Windows, MaxPoolRuleTest,
                         testing::Values(PoolCase{{2, 2, 0}, 8, 6, 128},
                                         PoolCase{{3, 2, 1}, 9, 12, 64},
                                         PoolCase{{3, 1, 0}, 5, 7, 3}));

TEST(MaxPoolRuleTest, EqualPixels_GetNothing) {
  const std::vector<float> same = {1, 2, 3, 4}, m = {5};
  std::vector<float> result(4, 7.0f);
  MaxPoolRule({}, 2, 2, 1, same.data(), same.data(), m.data(), result.data());
  EXPECT_EQ(result, std::vector<float>(4, 0.0f));
}

TEST(OutputMultipliersTest, AddUpToTheOutputsChange) {
  const std::vector<std::pair<std::vector<float>, std::vector<float>>> cases = {
      {{-0.5f, 1.25f}, {0.75f, -2.0f}},
      {{-30.0f, 30.0f}, {25.0f, -25.0f}},  // From 0 to 1, with a jump between.
      {{0.5f, -1.0f, 2.0f, 0.25f}, {1.5f, 0.0f, -3.0f, 0.5f}},
      {{5.0f, -40.0f, 60.0f}, {-20.0f, 30.0f, -3.0f}}};
  for (const auto kind :
       {v1::OUTPUT_KIND_MARGIN, v1::OUTPUT_KIND_LOGIT, v1::OUTPUT_KIND_PROBABILITY}) {
    for (const auto& [x, r] : cases) {
      const std::vector<double> m = OutputMultipliers(kind, x, r);
      double sum = 0;
      for (size_t c = 0; c < x.size(); ++c) sum += m[c] * (static_cast<double>(x[c]) - r[c]);
      EXPECT_NEAR(sum, OutputOf(kind, x) - OutputOf(kind, r), 1e-6) << kind;
    }
  }
}

TEST(OutputMultipliersTest, EqualLogits_GetTheDerivative) {
  const std::vector<float> x = {0.25f, 1.0f};
  const double p = 1 / (1 + std::exp(-0.75));
  EXPECT_NEAR(OutputMultipliers(v1::OUTPUT_KIND_PROBABILITY, x, x)[1], p * (1 - p), 1e-6);
}

TEST(GaussLegendreTest, IsExactForPolynomialsOfDegree2nMinus1) {
  for (const uint32_t n : {1u, 2u, 5u, 50u, 301u}) {
    double weights = 0, integral = 0, before = 0;
    for (const QuadraturePoint& point : GaussLegendre(n)) {
      EXPECT_GT(point.at, before);
      before = point.at;
      weights += point.weight;
      integral += point.weight * std::pow(point.at, 2 * n - 1);
    }
    EXPECT_LT(before, 1);
    EXPECT_NEAR(weights, 1, 1e-13) << n;
    EXPECT_NEAR(integral, 1 / (2.0 * n), 1e-14) << n;
  }
}

}  // namespace
}  // namespace dermis
