#include "worker/embedding/parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "common/progress.h"

namespace dermis {

void ForEachPiece(int threads, size_t count, const std::function<void(size_t)>& piece) {
  const size_t helpers = std::min<size_t>(static_cast<size_t>(std::max(threads, 1)), count);
  if (helpers <= 1) {
    for (size_t i = 0; i < count; ++i) {
      piece(i);
      NoteProgress();
    }
    return;
  }
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < count; i = next++) piece(i);
  };
  std::vector<std::thread> others;
  others.reserve(helpers - 1);
  for (size_t t = 1; t < helpers; ++t) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
}

}  // namespace dermis
