// Squared distances, a row at a time: computed from points, or read from a matrix.
#ifndef DERMIS_WORKER_EMBEDDING_DISTANCES_H_
#define DERMIS_WORKER_EMBEDDING_DISTANCES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace dermis {

// Thread-safe once made. Copies points, but not a matrix: that must outlive it.
class DistanceRows {
 public:
  // From each of `from` (rows of `dimensions` numbers, row-major) to each of `to`. Squares of
  // differences, added in order of dimension.
  static DistanceRows OfPoints(absl::Span<const double> from, absl::Span<const double> to,
                               size_t dimensions);
  static DistanceRows OfPoints(absl::Span<const double> points, size_t dimensions) {
    return OfPoints(points, points, dimensions);
  }
  // rows x columns, row-major.
  static DistanceRows OfMatrix(absl::Span<const double> squared, size_t rows, size_t columns);

  size_t rows() const { return rows_; }
  size_t columns() const { return columns_; }
  // out: columns() numbers.
  void Row(size_t i, double* out) const;

 private:
  size_t rows_ = 0, columns_ = 0, dimensions_ = 0;
  absl::Span<const double> matrix_;
  std::vector<double> from_, to_;  // to_: dimension-major, so a loop over points becomes vectors.
};

// n x n squared distances from a Gram matrix: g_ii + g_jj - 2 g_ij, 0 where rounding made it less.
// Exact where the Gram matrix holds integers below 2^52. In place.
void GramToDistances(absl::Span<double> gram, size_t n);

struct Neighbour {
  uint32_t index;
  double squared;
};
// The `count` columns nearest to a row, nearest first, equals by index; those that `skip` names are
// left out. Fewer where there are not as many.
std::vector<Neighbour> Nearest(absl::Span<const double> row, size_t count,
                               const std::vector<bool>& skip);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_DISTANCES_H_
