#include "common/philox.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "Random123/philox.h"

namespace dermis {
namespace {

// A truncated counter would silently repeat draws, so it stops the process.
uint32_t CounterWord(uint64_t value, const char* name) {
  if (value > 0xFFFFFFFFull) {
    std::fprintf(stderr, "philox: counter word %s = %llu does not fit 32 bits\n", name,
                 static_cast<unsigned long long>(value));
    std::abort();
  }
  return static_cast<uint32_t>(value);
}

}  // namespace

std::array<uint32_t, 4> PhiloxBlock(uint64_t seed, Purpose purpose, uint64_t a, uint64_t b,
                                    uint32_t element) {
  const r123::Philox4x32::ctr_type counter = {
      {element, CounterWord(a, "a"), CounterWord(b, "b"), static_cast<uint32_t>(purpose)}};
  const r123::Philox4x32::key_type key = {
      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}};
  const r123::Philox4x32::ctr_type out = r123::Philox4x32()(counter, key);
  return {out[0], out[1], out[2], out[3]};
}

std::vector<uint32_t> PhiloxPermutation(uint64_t seed, Purpose purpose, uint64_t a, uint32_t n) {
  std::vector<std::pair<uint64_t, uint32_t>> keyed(n);
  for (uint32_t i = 0; i < n; ++i) {
    const auto block = PhiloxBlock(seed, purpose, a, i, 0);
    keyed[i] = {uint64_t{block[0]} << 32 | block[1], i};
  }
  std::sort(keyed.begin(), keyed.end());
  std::vector<uint32_t> order(n);
  for (uint32_t i = 0; i < n; ++i) order[i] = keyed[i].second;
  return order;
}

}  // namespace dermis
