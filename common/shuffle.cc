#include "common/shuffle.h"

#include <algorithm>
#include <utility>

#include "common/philox.h"

namespace dermis {

std::vector<uint32_t> EpochOrder(uint64_t seed, uint32_t epoch, absl::Span<const uint32_t> training,
                                 absl::Span<const uint32_t> chunk_begin, uint32_t window) {
  const uint32_t n = static_cast<uint32_t>(training.size());
  std::vector<uint32_t> order;
  order.reserve(n);
  if (window == 0 || window >= n) {
    for (uint32_t i : PhiloxPermutation(seed, Purpose::kShuffle, epoch, n)) {
      order.push_back(training[i]);
    }
    return order;
  }
  const auto at = [&](uint32_t image) {
    return std::lower_bound(training.begin(), training.end(), image) - training.begin();
  };
  std::vector<std::pair<uint64_t, uint32_t>> placed;
  placed.reserve(n);
  for (uint32_t chunk : PhiloxPermutation(seed, Purpose::kChunkShuffle, epoch,
                                          static_cast<uint32_t>(chunk_begin.size()))) {
    const auto end = chunk + 1 < chunk_begin.size() ? at(chunk_begin[chunk + 1]) : n;
    for (auto i = at(chunk_begin[chunk]); i < end; ++i) {
      // Places are fractions of 2^-32: whole numbers, so that they are the same everywhere.
      const uint64_t p = placed.size();
      const uint64_t draw = PhiloxBlock(seed, Purpose::kShuffle, epoch, p, 0)[0];
      placed.emplace_back((p << 32) + draw * window, training[i]);
    }
  }
  std::sort(placed.begin(), placed.end());
  for (const auto& [place, image] : placed) order.push_back(image);
  return order;
}

}  // namespace dermis
