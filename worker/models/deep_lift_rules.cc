#include "worker/models/deep_lift_rules.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/metrics.h"
#include "common/simd.h"
#include "worker/models/quadrature.h"

namespace dermis {
namespace {

constexpr float kSmallestRescale = 1e-6f, kSmallestPool = 1e-7f;  // shap's.
constexpr int64_t kBlock = 64;                                    // Channels at a time.
constexpr uint32_t kOutputPoints = 40;

// Only loops whose elements are computed alone, so that every vector width gives the same bits.
DERMIS_SIMD void RescaleElu(const float* in_x, const float* out_x, const float* in_r,
                            const float* out_r, uint64_t count, const float* multiplier,
                            float* result) {
  for (uint64_t i = 0; i < count; ++i) {
    const float delta = in_x[i] - in_r[i];
    const float slope = in_x[i] > 0 ? 1.0f : out_x[i] + 1.0f;
    const bool small = std::abs(delta) < kSmallestRescale;
    const float quotient = (out_x[i] - out_r[i]) / (small ? 1.0f : delta);
    result[i] = multiplier[i] * (small ? slope : quotient);
  }
}

DERMIS_SIMD void RescaleRelu(const float* in_x, const float* out_x, const float* in_r,
                             const float* out_r, uint64_t count, const float* multiplier,
                             float* result) {
  for (uint64_t i = 0; i < count; ++i) {
    const float delta = in_x[i] - in_r[i];
    const float slope = in_x[i] > 0 ? 1.0f : 0.0f;
    const bool small = std::abs(delta) < kSmallestRescale;
    const float quotient = (out_x[i] - out_r[i]) / (small ? 1.0f : delta);
    result[i] = multiplier[i] * (small ? slope : quotient);
  }
}

// The largest of a window so far, and where it stands: the first of equal ones, as in PyTorch.
DERMIS_INLINE void Larger(const float* in, int32_t slot, int64_t n, float* best, int32_t* at) {
  for (int64_t c = 0; c < n; ++c) {
    const bool larger = in[c] > best[c];
    best[c] = larger ? in[c] : best[c];
    at[c] = larger ? slot : at[c];
  }
}

// One window of a block of n channels: scatters its contributions into `result`.
DERMIS_SIMD void PoolOneWindow(const int64_t* offsets, int32_t slots, int64_t n, const float* in_x,
                               const float* in_r, const float* multiplier, float* result) {
  float best_x[kBlock], best_r[kBlock], to_x[kBlock], to_r[kBlock];
  int32_t at_x[kBlock], at_r[kBlock];
  for (int64_t c = 0; c < n; ++c) {
    best_x[c] = best_r[c] = -std::numeric_limits<float>::infinity();
    at_x[c] = at_r[c] = 0;
  }
  for (int32_t slot = 0; slot < slots; ++slot) {
    Larger(in_x + offsets[slot], slot, n, best_x, at_x);
    Larger(in_r + offsets[slot], slot, n, best_r, at_r);
  }
  for (int64_t c = 0; c < n; ++c) {
    const float cross = best_x[c] > best_r[c] ? best_x[c] : best_r[c];
    to_x[c] = multiplier[c] * (cross - best_r[c]);
    to_r[c] = multiplier[c] * (best_x[c] - cross);
  }
  for (int32_t slot = 0; slot < slots; ++slot) {
    float* out = result + offsets[slot];
    for (int64_t c = 0; c < n; ++c) {
      out[c] += (at_x[c] == slot ? to_x[c] : 0.0f) + (at_r[c] == slot ? to_r[c] : 0.0f);
    }
  }
}

DERMIS_SIMD void DivideByDelta(const float* in_x, const float* in_r, uint64_t count,
                               float* result) {
  for (uint64_t i = 0; i < count; ++i) {
    const float delta = in_x[i] - in_r[i];
    const bool small = std::abs(delta) < kSmallestPool;
    const float quotient = result[i] / (small ? 1.0f : delta);
    result[i] = small ? 0.0f : quotient;
  }
}

}  // namespace

void RescaleRule(Activation kind, const float* in_x, const float* out_x, const float* in_r,
                 const float* out_r, uint64_t count, const float* multiplier, float* result) {
  (kind == Activation::kElu ? RescaleElu : RescaleRelu)(in_x, out_x, in_r, out_r, count, multiplier,
                                                        result);
}

void MaxPoolRule(const PoolWindow& window, int64_t height, int64_t width, int64_t channels,
                 const float* in_x, const float* in_r, const float* multiplier, float* result) {
  const auto count = static_cast<uint64_t>(height * width * channels);
  std::fill(result, result + count, 0.0f);
  const auto places = [&](int64_t side) {
    return (side + 2 * window.padding - window.kernel) / window.stride + 1;
  };
  std::vector<int64_t> offsets;  // Of the window's pixels that are there.
  for (int64_t y = 0; y < places(height); ++y) {
    for (int64_t x = 0; x < places(width); ++x, multiplier += channels) {
      const int64_t top = y * window.stride - window.padding,
                    left = x * window.stride - window.padding;
      offsets.clear();
      for (int64_t v = std::max<int64_t>(top, 0); v < std::min(top + window.kernel, height); ++v) {
        for (int64_t u = std::max<int64_t>(left, 0); u < std::min(left + window.kernel, width);
             ++u) {
          offsets.push_back((v * width + u) * channels);
        }
      }
      for (int64_t c = 0; c < channels; c += kBlock) {
        PoolOneWindow(offsets.data(), static_cast<int32_t>(offsets.size()),
                      std::min(kBlock, channels - c), in_x + c, in_r + c, multiplier + c,
                      result + c);
      }
    }
  }
  DivideByDelta(in_x, in_r, count, result);
}

std::vector<double> OutputMultipliers(v1::OutputKind kind, absl::Span<const float> x,
                                      absl::Span<const float> r) {
  const size_t classes = x.size(), positive = classes - 1;
  std::vector<double> multipliers(classes, 0.0);
  if (kind == v1::OUTPUT_KIND_LOGIT) {
    multipliers[positive] = 1;
    return multipliers;
  }
  if (kind != v1::OUTPUT_KIND_PROBABILITY) {
    std::fill(multipliers.begin(), multipliers.end() - 1, -1.0 / static_cast<double>(positive));
    multipliers[positive] = 1;
    return multipliers;
  }
  for (const QuadraturePoint& point : GaussLegendre(kOutputPoints)) {
    std::vector<float> logits(classes);
    for (size_t c = 0; c < classes; ++c) {
      logits[c] = static_cast<float>(r[c] + point.at * (static_cast<double>(x[c]) - r[c]));
    }
    const std::vector<double> p = Softmax(logits);
    for (size_t c = 0; c < classes; ++c) {
      multipliers[c] += point.weight * p[positive] * ((c == positive ? 1 : 0) - p[c]);
    }
  }
  // The rule is not exact where the probability jumps: what is left over is shared out in
  // proportion.
  double sum = 0;
  for (size_t c = 0; c < classes; ++c) sum += multipliers[c] * (static_cast<double>(x[c]) - r[c]);
  const double change = OutputOf(kind, x) - OutputOf(kind, r);
  if (std::abs(sum) > 1e-12 && change / sum > 0) {
    for (double& m : multipliers) m *= change / sum;
  }
  return multipliers;
}

}  // namespace dermis
