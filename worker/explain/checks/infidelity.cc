#include "worker/explain/checks/infidelity.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "common/philox.h"

namespace dermis {

Infidelity InfidelityOf(absl::Span<const double> said, absl::Span<const double> done,
                        bool fit_scale) {
  Infidelity infidelity;
  const auto draws = static_cast<double>(done.size());
  double mean = 0;
  for (const double d : done) mean += d;
  mean /= draws;
  double variance = 0;
  for (const double d : done) variance += (d - mean) * (d - mean);
  variance /= draws;
  if (fit_scale) {
    double both = 0, own = 0;
    for (size_t d = 0; d < done.size(); ++d) {
      both += said[d] * done[d];
      own += said[d] * said[d];
    }
    infidelity.scale = own > 0 ? both / own : 0;
  }
  double error = 0;
  for (size_t d = 0; d < done.size(); ++d) {
    const double difference = infidelity.scale * said[d] - done[d];
    error += difference * difference;
  }
  infidelity.squared_error = error / draws;
  if (variance > 0) infidelity.relative = infidelity.squared_error / variance;
  return infidelity;
}

Mask RandomHalf(uint64_t seed, uint32_t image, uint32_t draw, uint32_t superpixels) {
  std::vector<std::pair<uint64_t, uint32_t>> keyed(superpixels);
  for (uint32_t k = 0; k < superpixels; ++k) {
    const auto block = PhiloxBlock(seed, Purpose::kHalf, draw, image, k);
    keyed[k] = {uint64_t{block[0]} << 32 | block[1], k};
  }
  std::sort(keyed.begin(), keyed.end());
  Mask mask(superpixels, 1);
  for (uint32_t k = 0; k < superpixels / 2; ++k) mask[keyed[k].second] = 0;
  return mask;
}

}  // namespace dermis
