#include "worker/models/cams.h"

#include <algorithm>

namespace dermis {
namespace {

std::vector<float> ToFloat(const std::vector<double>& values) {
  std::vector<float> floats;
  floats.reserve(values.size());
  for (const double v : values) floats.push_back(static_cast<float>(v));
  return floats;
}

// sum_c A_c weight(c)
template <typename Weight>
std::vector<float> SumOfChannels(const LayerView& layer, Weight weight) {
  std::vector<double> sums(layer.pixels, 0.0);
  for (size_t c = 0; c < layer.channels; ++c) {
    const size_t first = c * layer.pixels;
    const double w = weight(layer.maps.subspan(first, layer.pixels),
                            layer.gradient.subspan(first, layer.pixels));
    for (size_t p = 0; p < layer.pixels; ++p) sums[p] += w * layer.maps[first + p];
  }
  return ToFloat(sums);
}

// sum_c A_cp weight(G_cp)
template <typename Weight>
std::vector<float> SumOfProducts(const LayerView& layer, Weight weight) {
  std::vector<double> sums(layer.pixels, 0.0);
  for (size_t c = 0; c < layer.channels; ++c) {
    const size_t first = c * layer.pixels;
    for (size_t p = 0; p < layer.pixels; ++p) {
      sums[p] += weight(static_cast<double>(layer.gradient[first + p])) * layer.maps[first + p];
    }
  }
  return ToFloat(sums);
}

}  // namespace

std::vector<float> GradCam(const LayerView& layer) {
  return SumOfChannels(layer, [](absl::Span<const float>, absl::Span<const float> gradient) {
    double sum = 0;
    for (const float g : gradient) sum += g;
    return sum / static_cast<double>(gradient.size());
  });
}

std::vector<float> GradCamPlusPlus(const LayerView& layer) {
  return SumOfChannels(layer, [](absl::Span<const float> maps, absl::Span<const float> gradient) {
    double sum = 0, weight = 0;
    for (const float a : maps) sum += a;
    for (const float gradient_here : gradient) {
      const double g = gradient_here;
      if (g > 0) weight += g * (g * g / (2 * g * g + sum * g * g * g + 1e-6));
    }
    return weight;
  });
}

std::vector<float> HiresCam(const LayerView& layer) {
  return SumOfProducts(layer, [](double g) { return g; });
}

std::vector<float> LayerCam(const LayerView& layer) {
  return SumOfProducts(layer, [](double g) { return std::max(g, 0.0); });
}

}  // namespace dermis
