#include "worker/explain/estimators/exact.h"

#include <bitset>
#include <cstddef>

#include "common/shapley_kernel.h"

namespace dermis {

std::vector<double> FitExact(absl::Span<const double> outputs, uint32_t superpixels) {
  // 1 / (S C(S - 1, s)) for a coalition of s others; by how many are hidden it is the same,
  // mirrored.
  std::vector<double> weights(superpixels);
  for (uint32_t s = 0; s < superpixels; ++s) {
    weights[s] = 1 / (superpixels * Binomial(superpixels - 1, s));
  }
  std::vector<double> values(superpixels, 0.0);
  for (uint32_t k = 0; k < superpixels; ++k) {
    const size_t bit = size_t{1} << k;
    for (size_t hidden = 0; hidden < outputs.size(); ++hidden) {
      if (hidden & bit) continue;
      values[k] +=
          weights[std::bitset<32>(hidden).count()] * (outputs[hidden] - outputs[hidden | bit]);
    }
  }
  return values;
}

}  // namespace dermis
