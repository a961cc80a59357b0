#include "worker/classical/pixel_columns.h"

#include <algorithm>

#include "common/progress.h"

namespace dermis {

PixelColumns::PixelColumns(absl::Span<const uint8_t* const> rows, size_t p)
    : n_(rows.size()), p_(p), values_(rows.size() * p) {
  constexpr size_t kSide = 64;  // A square of both fits into the first cache.
  for (size_t j = 0; j < p; j += kSide) {
    NoteProgress();
    const size_t j_end = std::min(p, j + kSide);
    for (size_t i = 0; i < n_; i += kSide) {
      const size_t i_end = std::min(n_, i + kSide);
      for (size_t row = i; row < i_end; ++row) {
        const uint8_t* const in = rows[row];
        for (size_t k = j; k < j_end; ++k) values_[k * n_ + row] = in[k];
      }
    }
  }
}

std::vector<double> MeanPixels(absl::Span<const uint8_t* const> rows, size_t p) {
  std::vector<uint64_t> sums(p, 0);
  for (const uint8_t* row : rows) {
    NoteProgress();
    for (size_t k = 0; k < p; ++k) sums[k] += row[k];
  }
  std::vector<double> mean(p);
  const double scale = 255.0 * static_cast<double>(rows.size());
  for (size_t k = 0; k < p; ++k) mean[k] = static_cast<double>(sums[k]) / scale;
  return mean;
}

}  // namespace dermis
