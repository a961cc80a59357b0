// Products of a tall or wide matrix of bytes or floats, its column means taken off, with a few
// vectors: what PCA does with pixels. The centred matrix is never stored.
#ifndef DERMIS_WORKER_EMBEDDING_ROW_PRODUCTS_H_
#define DERMIS_WORKER_EMBEDDING_ROW_PRODUCTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "worker/embedding/dense.h"

namespace dermis {

// T: uint8_t or float. Each row: `columns` values, rows anywhere in memory.
template <typename T>
struct PixelRows {
  absl::Span<const T* const> rows;
  size_t columns = 0;
};

struct ColumnMoments {
  std::vector<double> mean;  // Of each column.
  double squares = 0;        // Sum of all squared deviations from these means.
};
// Bytes: integer sums. Floats: two passes in double, rows in order.
template <typename T>
ColumnMoments MomentsOf(const PixelRows<T>& x, int threads);

// In both, x' is x less `mean` (in float); products are of floats, summed in float over 256 terms
// and in double, in order, over these sums: relative error about 1e-7 of the norms.
//
// b: l x columns. l x rows: b times the transpose of x'.
template <typename T>
Matrix AlongColumns(const PixelRows<T>& x, absl::Span<const double> mean, const Matrix& b,
                    int threads);
// b: l x rows. l x columns: b times x'.
template <typename T>
Matrix AlongRows(const PixelRows<T>& x, absl::Span<const double> mean, const Matrix& b,
                 int threads);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_ROW_PRODUCTS_H_
