// Drawn pictures for the tests of the baselines.
#ifndef DERMIS_TESTS_UNIT_WORKER_CLASSICAL_PICTURES_H_
#define DERMIS_TESTS_UNIT_WORKER_CLASSICAL_PICTURES_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/philox.h"

namespace dermis {

// n rows of p bytes; neighbours are alike and a few pixels say the label.
struct Pictures {
  Pictures(size_t n, size_t p, uint64_t seed = 1) : bytes(n * p), labels(n) {
    for (size_t i = 0; i < n; ++i) {
      labels[i] = static_cast<uint8_t>(Draw(seed, i, p) & 1);
      double level = 128;
      for (size_t k = 0; k < p; ++k) {
        level += .3 * (128 - level) + static_cast<double>(Draw(seed, i, k) % 101) - 50;
        const double signal = k % 7 == 3 ? (labels[i] ? 12 : -12) : 0;
        bytes[i * p + k] = static_cast<uint8_t>(std::clamp(level + signal, 0.0, 255.0));
      }
      rows.push_back(&bytes[i * p]);
    }
  }
  static uint32_t Draw(uint64_t seed, size_t i, size_t k) {
    return PhiloxBlock(seed, Purpose::kTest, i, k, 0)[0];
  }

  std::vector<uint8_t> bytes, labels;
  std::vector<const uint8_t*> rows;
};

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_WORKER_CLASSICAL_PICTURES_H_
