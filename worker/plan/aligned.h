// Where vectors' instructions want their data to begin.
#ifndef DERMIS_WORKER_PLAN_ALIGNED_H_
#define DERMIS_WORKER_PLAN_ALIGNED_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dermis {

// Bytes of a line of the caches, and of the widest vector.
inline constexpr size_t kCacheLine = 64;

// The first line that begins in `storage`, which is a line longer than what is to lie there.
template <typename T>
T* AlignedIn(std::vector<T>& storage) {
  const auto address = reinterpret_cast<uintptr_t>(storage.data());
  return reinterpret_cast<T*>((address + kCacheLine - 1) & ~uintptr_t{kCacheLine - 1});
}

}  // namespace dermis

#endif  // DERMIS_WORKER_PLAN_ALIGNED_H_
