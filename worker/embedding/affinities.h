// t-SNE's input similarities P (van der Maaten & Hinton 2008, equations 1 and 2).
#ifndef DERMIS_WORKER_EMBEDDING_AFFINITIES_H_
#define DERMIS_WORKER_EMBEDDING_AFFINITIES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "worker/embedding/distances.h"

namespace dermis {

// Dense matrices are cut into square tiles of this side, the last ones smaller.
inline constexpr size_t kAffinityTile = 256;

// A symmetric matrix with zeros on the diagonal whose elements sum to 1; dense, or its nearest
// neighbours' elements alone.
struct Affinities {
  size_t points = 0;
  bool dense = false;
  // Dense. Tiles (I, J >= I), I then J ascending, each row-major, its rows padded with zeros to a
  // multiple of 16; float, elements below 1e-30 are 0. Tile t begins at tile_begin[t].
  std::vector<float> tiles;
  std::vector<size_t> tile_begin;
  // Sparse. Row i: columns and values at [begin[i], begin[i + 1]), columns ascending. An element
  // stands in both rows.
  std::vector<uint64_t> begin;
  std::vector<uint32_t> column;
  std::vector<double> value;

  double At(size_t i, size_t j) const;
};

struct AffinityOptions {
  double perplexity = 30;
  // Up to this many points P is dense; beyond, of 3 perplexity neighbours (van der Maaten 2014). A
  // dense P of n points takes 6 n^2 bytes while it is made, 2 n^2 after.
  size_t most_dense = 8000;
  int threads = 1;  // Same bits for any.
};

// Each row's width gives its conditional distribution the perplexity asked for, to 1e-10 of its
// logarithm (Newton's steps kept in an interval that is halved otherwise); where more points than
// that share the least distance there is none, and those share the row. p_ij = (p_j|i + p_i|j) / 2n.
// rows: n x n. InvalidArgument: fewer than 3 points, distances that are not finite, perplexity not
// in [1, n - 1).
absl::StatusOr<Affinities> AffinitiesOf(const DistanceRows& rows, const AffinityOptions& options);

// The conditional distribution over distances, in place of them; `self` (if < size) gets 0. Of use
// by itself for tests. Returns beta = 1 / (2 sigma^2).
double ConditionalRow(absl::Span<double> squared, size_t self, double perplexity);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_AFFINITIES_H_
