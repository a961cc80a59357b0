// The forces of t-SNE over all pairs of points.
#ifndef DERMIS_WORKER_EMBEDDING_TSNE_EXACT_H_
#define DERMIS_WORKER_EMBEDDING_TSNE_EXACT_H_

#include <cstddef>
#include <vector>

#include "absl/types/span.h"

#include "worker/embedding/affinities.h"

namespace dermis {

// With d = y_i - y_j and w = 1 / (1 + |d|^2), for each i sums over j:
struct TsneForces {
  std::vector<double> attraction;  // n x 2: of p_ij w d.
  std::vector<double> repulsion;   // n x 2: of w^2 d; to be divided by normaliser.
  double normaliser = 0;           // Z: the sum of w over all ordered pairs of different points.
};

// Dense p. Each unordered pair once, in tiles: in float within a tile (256 terms), in double and in
// tile order over them, so the bits are the same for any number of threads and any vector width.
// Relative error about 1e-6.
TsneForces ExactForces(const Affinities& p, absl::Span<const double> embedding, int threads);

// The sum of w over all ordered pairs, in double.
double ExactNormaliser(absl::Span<const double> embedding, int threads);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_TSNE_EXACT_H_
