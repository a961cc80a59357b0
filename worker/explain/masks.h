// Which superpixels each masked input shows: functions of the perturbation alone, so masks are never sent.
#ifndef DERMIS_WORKER_EXPLAIN_MASKS_H_
#define DERMIS_WORKER_EXPLAIN_MASKS_H_

#include <cstdint>
#include <vector>

namespace dermis {

// One byte a superpixel: 1 shown, 0 hidden.
using Mask = std::vector<uint8_t>;

// Row 0 shows everything; in the others each superpixel is shown with probability 1/2.
Mask LimeMask(uint64_t seed, uint32_t row, uint32_t superpixels);

// Each superpixel is shown with probability p, in (0, 1).
Mask RiseMask(uint64_t seed, uint32_t row, uint32_t superpixels, double p);

// The order in which pair p's first half shows the superpixels; its second half shows them in reverse.
std::vector<uint32_t> ShapleyOrder(uint64_t seed, uint32_t pair, uint32_t superpixels);

// The 2 (S - 1) rows of a pair: proper prefixes of the order by length 1 .. S - 1, then of its reverse.
std::vector<Mask> ShapleyPairMasks(const std::vector<uint32_t>& order);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_MASKS_H_
