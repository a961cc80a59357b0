#include "worker/plan/reference_forward.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace dermis {
namespace {

// A map of side x side x channels, channels last.
struct Map {
  int side = 0, channels = 0;
  std::vector<double> values;
  Map(int side, int channels)
      : side(side), channels(channels), values(size_t(side) * side * channels) {}
  double* at(int y, int x) { return values.data() + (size_t(y) * side + x) * channels; }
  const double* at(int y, int x) const {
    return values.data() + (size_t(y) * side + x) * channels;
  }
};

Map Convolve(const Map& in, const SeedCnnLayer& layer) {
  const int outs = static_cast<int>(layer.out), ins = static_cast<int>(layer.in);
  // [ky][kx][in][out]: the innermost loop runs over output channels, which lie side by side.
  std::vector<double> weight(layer.weight.size());
  for (int o = 0; o < outs; ++o) {
    for (int i = 0; i < ins; ++i) {
      for (int k = 0; k < 9; ++k) {
        weight[(size_t(k) * ins + i) * outs + o] = layer.weight[(size_t(o) * ins + i) * 9 + k];
      }
    }
  }
  Map out(in.side, outs);
  for (int y = 0; y < in.side; ++y) {
    for (int x = 0; x < in.side; ++x) {
      double* const sum = out.at(y, x);
      std::copy(layer.bias.begin(), layer.bias.end(), sum);
      for (int ky = 0; ky < 3; ++ky) {
        for (int kx = 0; kx < 3; ++kx) {
          const int sy = y + ky - 1, sx = x + kx - 1;
          if (sy < 0 || sx < 0 || sy >= in.side || sx >= in.side) continue;
          const double* const pixel = in.at(sy, sx);
          const double* w = weight.data() + size_t(ky * 3 + kx) * ins * outs;
          for (int i = 0; i < ins; ++i, w += outs) {
            const double v = pixel[i];
            for (int o = 0; o < outs; ++o) sum[o] += v * w[o];
          }
        }
      }
      for (int o = 0; o < outs; ++o) {
        const double activated = sum[o] > 0 ? sum[o] : std::expm1(sum[o]);
        sum[o] = activated * layer.scale[o] + layer.shift[o];
      }
    }
  }
  return out;
}

Map MaxPool(const Map& in) {
  Map out(in.side / 2, in.channels);
  for (int y = 0; y < out.side; ++y) {
    for (int x = 0; x < out.side; ++x) {
      for (int c = 0; c < in.channels; ++c) {
        out.at(y, x)[c] =
            std::max(std::max(in.at(2 * y, 2 * x)[c], in.at(2 * y, 2 * x + 1)[c]),
                     std::max(in.at(2 * y + 1, 2 * x)[c], in.at(2 * y + 1, 2 * x + 1)[c]));
      }
    }
  }
  return out;
}

}  // namespace

std::vector<double> ReferenceForward(const SeedCnnWeights& weights, uint32_t count,
                                     const float* input) {
  const int size = static_cast<int>(weights.cells * 8);
  std::vector<double> logits;
  for (uint32_t b = 0; b < count; ++b) {
    Map map(size, 3);
    std::copy_n(input + size_t(b) * size * size * 3, map.values.size(), map.values.begin());
    for (size_t i = 0; i < weights.layers.size(); ++i) {
      map = Convolve(map, weights.layers[i]);
      if (i % 2 == 1) map = MaxPool(map);
    }
    for (uint32_t k = 0; k < weights.classes; ++k) {
      double sum = weights.dense_bias[k];
      const float* w = weights.dense_weight.data() + size_t(k) * map.values.size();
      for (int c = 0; c < map.channels; ++c) {  // The dense layer reads channel, y, x.
        for (int y = 0; y < map.side; ++y) {
          for (int x = 0; x < map.side; ++x) sum += map.at(y, x)[c] * *w++;
        }
      }
      logits.push_back(sum);
    }
  }
  return logits;
}

}  // namespace dermis
