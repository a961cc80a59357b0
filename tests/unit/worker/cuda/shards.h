// Values whose sum depends on the order of the additions, and what a reduction of them must give.
#ifndef DERMIS_TESTS_UNIT_WORKER_CUDA_SHARDS_H_
#define DERMIS_TESTS_UNIT_WORKER_CUDA_SHARDS_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "worker/collective/collective.h"

namespace dermis {

inline float ShardValue(uint32_t shard, uint64_t i, uint64_t seed) {
  uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull ^ (uint64_t{shard} << 40) ^ seed;
  x ^= x >> 31;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 29;
  // Six decades of sizes.
  return std::ldexp(static_cast<float>(static_cast<int64_t>(x >> 20) % 2000003),
                    -static_cast<int>(x % 20));
}

using Vectors = std::vector<std::vector<float>>;

inline Vectors MakeShards(uint32_t first, uint32_t count, uint64_t n, uint64_t seed) {
  Vectors shards(count, std::vector<float>(n));
  for (uint32_t k = 0; k < count; ++k) {
    for (uint64_t i = 0; i < n; ++i) shards[k][i] = ShardValue(first + k, i, seed);
  }
  return shards;
}

inline std::vector<float*> Pointers(Vectors& shards) {
  std::vector<float*> pointers;
  for (auto& shard : shards) pointers.push_back(shard.data());
  return pointers;
}

// What one worker alone gets.
inline std::vector<float> LocalSum(uint32_t v, uint64_t n, uint64_t seed) {
  Vectors shards = MakeShards(0, v, n, seed);
  std::vector<float> out(n);
  if (!MakeLocalCollective(v)->OrderedReduce(Pointers(shards), n, out.data()).ok()) out.clear();
  return out;
}

inline bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_WORKER_CUDA_SHARDS_H_
