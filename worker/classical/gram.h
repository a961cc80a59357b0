// Inner products of images, and the centred kernels that a linear model needs of them.
#ifndef DERMIS_WORKER_CLASSICAL_GRAM_H_
#define DERMIS_WORKER_CLASSICAL_GRAM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "worker/classical/byte_products.h"

namespace dermis {

// G = X X^T of n rows of bytes, in integers. The lower triangle, row by row: (i, j <= i) at
// GramStart(i) + j; so the values of rows [begin, end) are one stretch, and a triangle is its row
// blocks put one after the other.
inline size_t GramStart(size_t row) { return row * (row + 1) / 2; }

// The stretch of rows [begin, end): GramStart(end) - GramStart(begin) values. rows[i]: row i, `p`
// bytes; rows 0 .. end - 1 are read. Exact, so any cut into blocks, any kernel and any schedule
// give the same bits. 2,599 rows of 150,528 bytes: 4 s on one thread with VNNI, 0.8 s with AMX. p <
// 2^47.
std::vector<int64_t> GramRows(absl::Span<const uint8_t* const> rows, size_t p, size_t begin,
                              size_t end, ByteKernel kernel = ByteKernel::kFastest);

// A whole triangle. 8 bytes a value: 42 MB of 3,249 rows.
class Gram {
 public:
  // INVALID_ARGUMENT: not the number of values of a triangle of n rows.
  static absl::StatusOr<Gram> FromValues(size_t n, std::vector<int64_t> values);
  size_t size() const { return n_; }
  int64_t at(size_t i, size_t j) const {
    return i >= j ? values_[GramStart(i) + j] : values_[GramStart(j) + i];
  }

 private:
  Gram(size_t n, std::vector<int64_t> values) : n_(n), values_(std::move(values)) {}
  size_t n_;
  std::vector<int64_t> values_;
};

// Row-major, `columns` values a row.
struct Kernel {
  size_t rows = 0, columns = 0;
  std::vector<double> values;
  const double* row(size_t i) const { return &values[i * columns]; }
};

// (x_i - m) . (x_j - m) of pixels / 255, m the mean of the `training` rows. The sums are exact,
// each value is rounded once or twice. Order of rows and columns: as given. Indices are below
// gram.size(). n training rows, at least one: 8 n^2 bytes.
Kernel CentredKernel(const Gram& gram, absl::Span<const uint32_t> training);
// The same of `others` (rows) with `training` (columns), about the training rows' mean.
Kernel CrossKernel(const Gram& gram, absl::Span<const uint32_t> training,
                   absl::Span<const uint32_t> others);

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_GRAM_H_
