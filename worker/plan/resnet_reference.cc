#include <algorithm>
#include <cstddef>

#include "worker/plan/resnet_weights.h"
#include "common/simd.h"

namespace dermis {
namespace {

// Output channels at a time: a constant, so that their sums are registers.
constexpr uint32_t kTile = 64;

// A map of side x side x channels, channels last.
struct Map {
  uint32_t side = 0, channels = 0;
  std::vector<double> values;
  Map(uint32_t side, uint32_t channels)
      : side(side), channels(channels), values(size_t{side} * side * channels) {}
  double* at(uint32_t y, uint32_t x) { return values.data() + (size_t{y} * side + x) * channels; }
  const double* at(uint32_t y, uint32_t x) const {
    return values.data() + (size_t{y} * side + x) * channels;
  }
};

// sum[o] += sum over i of pixel[i] * weight[i][o]
DERMIS_SIMD void Accumulate(const double* __restrict pixel, uint32_t ins,
                            const double* __restrict weight, double* __restrict sum) {
  double s[kTile];
  std::copy_n(sum, kTile, s);
  for (uint32_t i = 0; i < ins; ++i, weight += kTile) {
    for (uint32_t o = 0; o < kTile; ++o) s[o] += pixel[i] * weight[o];
  }
  std::copy_n(s, kTile, sum);
}

Map Apply(const Map& in, const ResNetPlanLayer& layer) {
  const ResNetLayer& form = layer.form;
  const uint32_t taps = form.kernel * form.kernel;
  const int padding = static_cast<int>(form.kernel / 2), side = static_cast<int>(in.side);
  Map out(in.side / form.stride, form.out);
  std::vector<double> weight(size_t{taps} * form.in * kTile);  // [tap][in][tile]
  for (uint32_t tile = 0; tile < form.out; tile += kTile) {
    for (uint32_t o = 0; o < kTile; ++o) {
      const float* from = layer.weight.data() + size_t{tile + o} * form.in * taps;
      for (uint32_t i = 0; i < form.in; ++i) {
        for (uint32_t k = 0; k < taps; ++k) {
          weight[(size_t{k} * form.in + i) * kTile + o] = from[size_t{i} * taps + k];
        }
      }
    }
    for (uint32_t y = 0; y < out.side; ++y) {
      for (uint32_t x = 0; x < out.side; ++x) {
        double sum[kTile] = {};
        for (uint32_t k = 0; k < taps; ++k) {
          const int sy = static_cast<int>(y * form.stride + k / form.kernel) - padding;
          const int sx = static_cast<int>(x * form.stride + k % form.kernel) - padding;
          if (sy < 0 || sx < 0 || sy >= side || sx >= side) continue;
          Accumulate(in.at(static_cast<uint32_t>(sy), static_cast<uint32_t>(sx)), form.in,
                     weight.data() + size_t{k} * form.in * kTile, sum);
        }
        double* const to = out.at(y, x) + tile;
        for (uint32_t o = 0; o < kTile; ++o) {
          to[o] = sum[o] * layer.scale[tile + o] + layer.shift[tile + o];
        }
      }
    }
  }
  return out;
}

void Relu(Map& map) {
  for (double& v : map.values) v = std::max(v, 0.0);
}

// 3 x 3, stride 2, padding 1, of values that are not negative.
Map MaxPool(const Map& in) {
  Map out(in.side / 2, in.channels);
  for (uint32_t y = 0; y < out.side; ++y) {
    for (uint32_t x = 0; x < out.side; ++x) {
      double* const to = out.at(y, x);
      for (uint32_t sy = y == 0 ? 0 : 2 * y - 1; sy <= 2 * y + 1; ++sy) {
        for (uint32_t sx = x == 0 ? 0 : 2 * x - 1; sx <= 2 * x + 1; ++sx) {
          const double* const from = in.at(sy, sx);
          for (uint32_t c = 0; c < in.channels; ++c) to[c] = std::max(to[c], from[c]);
        }
      }
    }
  }
  return out;
}

}  // namespace

std::vector<double> ReferenceForward(const ResNetWeights& weights, uint32_t count,
                                     const float* input) {
  std::vector<double> logits;
  for (uint32_t b = 0; b < count; ++b) {
    Map map(weights.size, 3);
    std::copy_n(input + b * map.values.size(), map.values.size(), map.values.begin());
    map = Apply(map, weights.layers[0]);
    Relu(map);
    if (weights.shape.pooled_stem) map = MaxPool(map);
    for (const ResNetBlock& block : weights.shape.blocks) {
      Map branch = map;
      for (uint32_t k = 0; k < block.count; ++k) {
        if (k > 0) Relu(branch);
        branch = Apply(branch, weights.layers[block.first + k]);
      }
      if (block.downsample) map = Apply(map, weights.layers[block.first + block.count]);
      for (size_t i = 0; i < map.values.size(); ++i) map.values[i] += branch.values[i];
      Relu(map);
    }
    const uint32_t features = map.channels, pixels = map.side * map.side;
    std::vector<double> mean(features, 0.0);
    for (size_t i = 0; i < map.values.size(); ++i) mean[i % features] += map.values[i] / pixels;
    for (uint32_t k = 0; k < weights.classes; ++k) {
      double sum = weights.fc_bias[k];
      for (uint32_t c = 0; c < features; ++c) {
        sum += mean[c] * weights.fc_weight[size_t{k} * features + c];
      }
      logits.push_back(sum);
    }
  }
  return logits;
}

}  // namespace dermis
