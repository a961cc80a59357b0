#include "worker/explain/masks.h"

#include <algorithm>

#include "common/philox.h"

namespace dermis {

Mask LimeMask(uint64_t seed, uint32_t row, uint32_t superpixels) {
  Mask mask(superpixels, 1);
  if (row == 0) return mask;
  for (uint32_t k = 0; k < superpixels; ++k) {
    mask[k] = PhiloxBlock(seed, Purpose::kLime, row, 0, k)[0] >> 31;
  }
  return mask;
}

Mask RiseMask(uint64_t seed, uint32_t row, uint32_t superpixels, double p) {
  Mask mask(superpixels);
  for (uint32_t k = 0; k < superpixels; ++k) {
    const auto block = PhiloxBlock(seed, Purpose::kRise, row, 0, k);
    mask[k] = ToUnitDouble(block[0], block[1]) < p;
  }
  return mask;
}

std::vector<uint32_t> ShapleyOrder(uint64_t seed, uint32_t pair, uint32_t superpixels) {
  return PhiloxPermutation(seed, Purpose::kShapley, pair, superpixels);
}

std::vector<Mask> ShapleyPairMasks(const std::vector<uint32_t>& order) {
  std::vector<Mask> masks;
  const auto add = [&](auto first, auto last) {
    Mask mask(order.size(), 0);
    for (; first != last; ++first) {
      mask[*first] = 1;
      masks.push_back(mask);
    }
  };
  if (order.empty()) return masks;
  add(order.begin(), order.end() - 1);
  add(order.rbegin(), order.rend() - 1);
  return masks;
}

}  // namespace dermis
