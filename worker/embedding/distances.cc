#include "worker/embedding/distances.h"

#include <algorithm>

#include "common/simd.h"

namespace dermis {
namespace {

constexpr size_t kBlock = 1024;  // Columns whose sums stay in the first-level cache.

DERMIS_SIMD void AddSquares(double from, const double* to, size_t count, double* out) {
  for (size_t j = 0; j < count; ++j) out[j] += (from - to[j]) * (from - to[j]);
}

}  // namespace

DistanceRows DistanceRows::OfPoints(absl::Span<const double> from, absl::Span<const double> to,
                                    size_t dimensions) {
  DistanceRows result;
  result.dimensions_ = dimensions;
  result.rows_ = from.size() / dimensions;
  result.columns_ = to.size() / dimensions;
  result.from_.assign(from.begin(), from.end());
  result.to_.resize(result.columns_ * dimensions);
  for (size_t j = 0; j < result.columns_; ++j) {
    for (size_t d = 0; d < dimensions; ++d) {
      result.to_[d * result.columns_ + j] = to[j * dimensions + d];
    }
  }
  return result;
}

DistanceRows DistanceRows::OfMatrix(absl::Span<const double> squared, size_t rows,
                                    size_t columns) {
  DistanceRows result;
  result.rows_ = rows;
  result.columns_ = columns;
  result.matrix_ = squared;
  return result;
}

void DistanceRows::Row(size_t i, double* out) const {
  if (dimensions_ == 0) {
    std::copy_n(matrix_.data() + i * columns_, columns_, out);
    return;
  }
  std::fill_n(out, columns_, 0.0);
  for (size_t first = 0; first < columns_; first += kBlock) {
    const size_t count = std::min(kBlock, columns_ - first);
    for (size_t d = 0; d < dimensions_; ++d) {
      AddSquares(from_[i * dimensions_ + d], to_.data() + d * columns_ + first, count, out + first);
    }
  }
}

void GramToDistances(absl::Span<double> gram, size_t n) {
  std::vector<double> own(n);
  for (size_t i = 0; i < n; ++i) own[i] = gram[i * n + i];
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      gram[i * n + j] = i == j ? 0 : std::max(0.0, own[i] + own[j] - 2 * gram[i * n + j]);
    }
  }
}

std::vector<Neighbour> Nearest(absl::Span<const double> row, size_t count,
                               const std::vector<bool>& skip) {
  std::vector<Neighbour> all;
  all.reserve(row.size());
  for (size_t j = 0; j < row.size(); ++j) {
    if (!skip[j]) all.push_back({static_cast<uint32_t>(j), row[j]});
  }
  count = std::min(count, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count), all.end(),
                    [](const Neighbour& a, const Neighbour& b) {
                      return a.squared != b.squared ? a.squared < b.squared : a.index < b.index;
                    });
  all.resize(count);
  return all;
}

}  // namespace dermis
