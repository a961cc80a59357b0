#include "worker/explain/estimators/coalitions.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"

#include "common/philox.h"
#include "common/shapley_kernel.h"

namespace dermis {
namespace {

uint64_t Word(const std::array<uint32_t, 4>& block, size_t i) {
  return uint64_t{block[2 * i]} << 32 | block[2 * i + 1];
}

// A uniform subset of `size` of the superpixels: those of the smallest of one random word each.
Mask Subset(uint64_t seed, Purpose purpose, uint64_t draw, uint64_t attempt, uint32_t superpixels,
            uint32_t size) {
  std::vector<std::pair<uint64_t, uint32_t>> keys(superpixels);
  for (uint32_t k = 0; k < superpixels; k += 2) {
    const auto block = PhiloxBlock(seed, purpose, draw, attempt, k / 2);
    keys[k] = {Word(block, 0), k};
    if (k + 1 < superpixels) keys[k + 1] = {Word(block, 1), k + 1};
  }
  std::nth_element(keys.begin(), keys.begin() + size, keys.end());
  Mask mask(superpixels, 0);
  for (uint32_t i = 0; i < size; ++i) mask[keys[i].second] = 1;
  return mask;
}

Mask Complement(Mask mask) {
  for (uint8_t& bit : mask) bit = 1 - bit;
  return mask;
}

std::string Packed(const Mask& mask) {
  std::string bits((mask.size() + 7) / 8, '\0');
  for (size_t k = 0; k < mask.size(); ++k) {
    bits[k / 8] = static_cast<char>(bits[k / 8] | mask[k] << (k % 8));
  }
  return bits;
}

// Where a size is drawn: beyond every superpixel's element.
uint32_t SizeElement(uint32_t superpixels) { return superpixels; }

CoalitionDesign WithEnds(uint32_t superpixels) {
  CoalitionDesign design;
  design.rows.emplace_back(superpixels, uint8_t{1});
  design.rows.emplace_back(superpixels, uint8_t{0});
  return design;
}

// All subsets of `size`, in lexicographic order, each followed by its complement where `paired`.
void Enumerate(uint32_t superpixels, uint32_t size, bool paired, CoalitionDesign& design) {
  std::vector<uint32_t> members(size);
  for (uint32_t i = 0; i < size; ++i) members[i] = i;
  while (true) {
    Mask mask(superpixels, 0);
    for (uint32_t member : members) mask[member] = 1;
    design.rows.push_back(mask);
    if (paired) design.rows.push_back(Complement(std::move(mask)));
    uint32_t i = size;
    while (i > 0 && members[i - 1] == superpixels - size + i - 1) --i;
    if (i == 0) return;
    ++members[i - 1];
    for (uint32_t j = i; j < size; ++j) members[j] = members[j - 1] + 1;
  }
}

}  // namespace

CoalitionDesign KernelDesign(uint64_t seed, uint32_t superpixels, uint64_t n) {
  CoalitionDesign design = WithEnds(superpixels);
  if (superpixels < 2) return design;
  const std::vector<double> weights = SizeWeights(superpixels);
  const KernelEnumeration enumeration = EnumerateKernel(superpixels, n);
  for (uint32_t size = 1; size <= enumeration.sizes; ++size) {
    Enumerate(superpixels, size, HasComplement(superpixels, size), design);
  }
  design.enumerated = enumeration.rows;
  design.enumerated_sizes = enumeration.sizes;
  if (enumeration.sizes == weights.size() || n <= enumeration.rows) return design;

  // Two rows a draw of a size that has a complement: its weight is halved.
  std::vector<double> cumulative;
  double sum = 0;
  for (uint32_t size = enumeration.sizes + 1; size <= weights.size(); ++size) {
    sum += weights[size - 1] / (HasComplement(superpixels, size) ? 2 : 1);
    cumulative.push_back(sum);
  }
  uint64_t left = n - enumeration.rows;
  absl::flat_hash_map<std::string, uint32_t> unit_of;
  const uint64_t most_draws = 4 * left;
  for (uint64_t draw = 0; draw < most_draws && left > 0; ++draw) {
    const auto block = PhiloxBlock(seed, Purpose::kKernelShap, draw, 0, SizeElement(superpixels));
    const double at = ToUnitDouble(block[0], block[1]) * sum;
    const size_t index = std::min<size_t>(
        static_cast<size_t>(std::upper_bound(cumulative.begin(), cumulative.end(), at) -
                            cumulative.begin()),
        cumulative.size() - 1);
    const uint32_t size = enumeration.sizes + 1 + static_cast<uint32_t>(index);
    Mask mask = Subset(seed, Purpose::kKernelShap, draw, 0, superpixels, size);
    const auto [unit, fresh] =
        unit_of.try_emplace(Packed(mask), static_cast<uint32_t>(design.units.size()));
    design.draws.push_back(unit->second);
    if (!fresh) continue;
    const bool paired = left > 1 && HasComplement(superpixels, size);
    design.units.push_back({static_cast<uint32_t>(design.rows.size()), paired});
    design.rows.push_back(mask);
    if (paired) design.rows.push_back(Complement(std::move(mask)));
    left -= paired ? 2 : 1;
  }
  return design;
}

CoalitionDesign LeverageDesign(uint64_t seed, uint32_t superpixels, uint64_t pairs) {
  CoalitionDesign design = WithEnds(superpixels);
  const uint32_t sizes = superpixels / 2;
  std::vector<double> left(sizes);  // Pairs of each size that are not drawn yet.
  for (uint32_t size = 1; size <= sizes; ++size) left[size - 1] = PairsOfSize(superpixels, size);
  // Sizes follow a shifted golden-ratio sequence: equally likely, and more evenly spread than
  // independent draws.
  const auto shift = PhiloxBlock(seed, Purpose::kLeverage, 0, 0, SizeElement(superpixels));
  uint64_t place = Word(shift, 0);
  absl::flat_hash_set<std::string> drawn;
  for (uint64_t pair = 0; pair < pairs; ++pair, place += 0x9E3779B97F4A7C15) {
    double sum = 0;
    for (uint32_t size = 1; size <= sizes; ++size) {
      if (left[size - 1] > 0) sum += LeverageShare(superpixels, size);
    }
    if (sum == 0) break;  // Every pair is drawn.
    double at =
        ToUnitDouble(static_cast<uint32_t>(place >> 32), static_cast<uint32_t>(place)) * sum;
    uint32_t size = 0;
    for (uint32_t s = 1; s <= sizes; ++s) {
      if (left[s - 1] == 0) continue;
      size = s;
      at -= LeverageShare(superpixels, s);
      if (at < 0) break;
    }
    Mask mask;
    for (uint64_t attempt = 0;; ++attempt) {
      mask = Subset(seed, Purpose::kLeverage, pair, attempt, superpixels, size);
      // Of two halves that complement each other, the one with superpixel 0 stands for the pair.
      if (2 * size == superpixels && mask[0] == 0) mask = Complement(std::move(mask));
      if (drawn.insert(Packed(mask)).second) break;
    }
    --left[size - 1];
    const auto unit = static_cast<uint32_t>(design.units.size());
    design.units.push_back({static_cast<uint32_t>(design.rows.size()), true});
    design.draws.push_back(unit);
    design.rows.push_back(mask);
    design.rows.push_back(Complement(std::move(mask)));
  }
  return design;
}

Mask ExactMask(uint64_t row, uint32_t superpixels) {
  Mask mask(superpixels);
  for (uint32_t k = 0; k < superpixels; ++k) mask[k] = 1 - (row >> k & 1);
  return mask;
}

}  // namespace dermis
