// Standard normal numbers, each a function of where it stands.
#ifndef DERMIS_WORKER_EMBEDDING_NORMALS_H_
#define DERMIS_WORKER_EMBEDDING_NORMALS_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>

#include "common/philox.h"
#include "worker/embedding/dense.h"

namespace dermis {

// Box & Muller 1958: a pair from one Philox block.
inline void NormalPair(const std::array<uint32_t, 4>& block, double* first, double* second) {
  const double radius = std::sqrt(-2 * std::log(1 - ToUnitDouble(block[0], block[1])));
  const double angle = 2 * std::numbers::pi * ToUnitDouble(block[2], block[3]);
  *first = radius * std::cos(angle);
  *second = radius * std::sin(angle);
}

// rows x columns; what: which of a result's matrices.
inline Matrix Normals(uint64_t seed, uint64_t what, size_t rows, size_t columns) {
  Matrix out(rows, columns);
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < columns; j += 2) {
      double pair[2];
      NormalPair(PhiloxBlock(seed, Purpose::kPca, what, i, static_cast<uint32_t>(j / 2)), &pair[0],
                 &pair[1]);
      out.row(i)[j] = pair[0];
      if (j + 1 < columns) out.row(i)[j + 1] = pair[1];
    }
  }
  return out;
}

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_NORMALS_H_
