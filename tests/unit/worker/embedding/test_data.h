// Numbers drawn for tests: a function of seed, row and column.
#ifndef DERMIS_TESTS_UNIT_WORKER_EMBEDDING_TEST_DATA_H_
#define DERMIS_TESTS_UNIT_WORKER_EMBEDDING_TEST_DATA_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/philox.h"

namespace dermis {

inline double Drawn(uint64_t seed, size_t row, size_t column) {
  const auto block =
      PhiloxBlock(seed, Purpose::kTest, row, column, 0);
  return ToUnitDouble(block[0], block[1]) * 2 - 1;
}

// n x d, row-major: `clusters` clouds whose centres lie `apart` from each other on the axes.
inline std::vector<double> Clouds(size_t n, size_t d, size_t clusters, double apart,
                                  uint64_t seed = 1) {
  std::vector<double> points(n * d);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < d; ++j) {
      points[i * d + j] = Drawn(seed, i, j) + (i % clusters == j ? apart : 0);
    }
  }
  return points;
}

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_WORKER_EMBEDDING_TEST_DATA_H_
