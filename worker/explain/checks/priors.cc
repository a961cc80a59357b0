#include "worker/explain/checks/priors.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "common/checks.h"
#include "common/philox.h"

namespace dermis {

std::vector<uint32_t> RandomOrder(uint64_t seed, uint32_t image, uint32_t draw, uint32_t count) {
  std::vector<std::pair<uint64_t, uint32_t>> keyed(count);
  for (uint32_t k = 0; k < count; ++k) {
    const auto block = PhiloxBlock(seed, Purpose::kRandomOrder, draw, k, image);
    keyed[k] = {uint64_t{block[0]} << 32 | block[1], k};
  }
  std::sort(keyed.begin(), keyed.end());
  std::vector<uint32_t> order(count);
  for (uint32_t k = 0; k < count; ++k) order[k] = keyed[k].second;
  return order;
}

std::vector<double> ValuesOfOrder(absl::Span<const uint32_t> order) {
  std::vector<double> values(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    values[order[i]] = static_cast<double>(order.size() - i);
  }
  return values;
}

std::vector<float> CentrePrior(uint32_t size) {
  const double centre = (size - 1) / 2.0, deviation = size / 4.0;
  std::vector<float> prior(size_t{size} * size);
  for (uint32_t y = 0; y < size; ++y) {
    for (uint32_t x = 0; x < size; ++x) {
      const double r2 = (y - centre) * (y - centre) + (x - centre) * (x - centre);
      prior[size_t{y} * size + x] =
          static_cast<float>(std::exp(-r2 / (2 * deviation * deviation)));
    }
  }
  return prior;
}

std::vector<float> EdgeMagnitude(absl::Span<const float> pixels, uint32_t size) {
  const int n = static_cast<int>(size);
  std::vector<double> grey(size_t{size} * size);
  for (size_t p = 0; p < grey.size(); ++p) {
    grey[p] = .2989 * pixels[3 * p] + .587 * pixels[3 * p + 1] + .114 * pixels[3 * p + 2];
  }
  const auto at = [&](int y, int x) {
    y = std::clamp(y, 0, n - 1);
    x = std::clamp(x, 0, n - 1);
    return grey[static_cast<size_t>(y) * size + static_cast<size_t>(x)];
  };
  std::vector<float> edges(grey.size());
  for (int y = 0; y < n; ++y) {
    for (int x = 0; x < n; ++x) {
      double across = 0, along = 0;
      for (int i = -1; i <= 1; ++i) {
        const double weight = i == 0 ? 2 : 1;
        across += weight * (at(y + i, x + 1) - at(y + i, x - 1));
        along += weight * (at(y + 1, x + i) - at(y - 1, x + i));
      }
      edges[static_cast<size_t>(y) * size + static_cast<size_t>(x)] =
          static_cast<float>(std::sqrt(across * across + along * along));
    }
  }
  return edges;
}

std::vector<SuperpixelMap> PriorMaps(absl::Span<const float> pixels, uint32_t size,
                                     const Segmentation& segmentation, uint64_t seed,
                                     uint32_t image) {
  const int side = static_cast<int>(size);
  std::vector<SuperpixelMap> maps(3);
  maps[0].values = ValuesOfOrder(RandomOrder(seed, image, 0, segmentation.count));
  maps[1].values = SumOnSuperpixels(CentrePrior(size), side, side, segmentation);
  maps[2].values = SumOnSuperpixels(EdgeMagnitude(pixels, size), side, side, segmentation);
  for (size_t k = 0; k < maps.size(); ++k) maps[k].name = kPriorNames[k];
  return maps;
}

}  // namespace dermis
