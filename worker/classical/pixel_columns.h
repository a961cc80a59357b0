// Images as columns: all rows' values of one pixel side by side, as trees and coordinate descent
// read them.
#ifndef DERMIS_WORKER_CLASSICAL_PIXEL_COLUMNS_H_
#define DERMIS_WORKER_CLASSICAL_PIXEL_COLUMNS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace dermis {

// n rows of p bytes, feature by feature: n * p bytes (352 MB of 2,339 images of 224 pixels).
class PixelColumns {
 public:
  PixelColumns() = default;
  // rows[i]: row i, p bytes.
  PixelColumns(absl::Span<const uint8_t* const> rows, size_t p);
  size_t rows() const { return n_; }
  size_t features() const { return p_; }
  const uint8_t* column(size_t feature) const { return &values_[feature * n_]; }

 private:
  size_t n_ = 0, p_ = 0;
  std::vector<uint8_t> values_;
};

// The mean of each pixel / 255: an exact sum, divided once. At least one row.
std::vector<double> MeanPixels(absl::Span<const uint8_t* const> rows, size_t p);

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_PIXEL_COLUMNS_H_
