#include "worker/classical/gram.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/progress.h"

namespace dermis {
namespace {

__extension__ using Wide = __int128;

// n^2 times the centred product is a whole number.
double Centred(int64_t product, int64_t sum_i, int64_t sum_j, Wide total, int64_t n) {
  const Wide whole = Wide{n} * (Wide{n} * product - sum_i - sum_j) + total;
  return static_cast<double>(whole) / (static_cast<double>(n) * static_cast<double>(n) * 65025.0);
}

struct TrainingSums {
  std::vector<int64_t> rows;  // Of each training row's products with all training rows.
  Wide total = 0;
};

TrainingSums SumsOf(const Gram& gram, absl::Span<const uint32_t> training) {
  TrainingSums sums;
  for (uint32_t i : training) {
    int64_t sum = 0;
    for (uint32_t j : training) sum += gram.at(i, j);
    sums.rows.push_back(sum);
    sums.total += sum;
  }
  return sums;
}

}  // namespace

std::vector<int64_t> GramRows(absl::Span<const uint8_t* const> rows, size_t p, size_t begin,
                              size_t end, ByteKernel kernel) {
  ByteProducts block(kernel);
  const size_t base = GramStart(begin);
  std::vector<int64_t> values(GramStart(end) - base, 0);
  for (size_t i = begin; i < end; i += kBlockRows) {
    const size_t i_count = std::min(kBlockRows, end - i);
    for (size_t j = 0; j < i + i_count; j += kBlockRows) {  // Columns up to the diagonal.
      NoteProgress();
      const size_t j_count = std::min(kBlockRows, i + i_count - j);
      for (size_t start = 0; start < p; start += kBlockDepth) {
        block.Multiply(rows.subspan(i, i_count), rows.subspan(j, j_count), start,
                       std::min(p, start + kBlockDepth),
                       static_cast<ptrdiff_t>(i) - static_cast<ptrdiff_t>(j));
        for (size_t r = 0; r < i_count; ++r) {
          const uint32_t* const products = block.row(r);
          int64_t* const out = &values[GramStart(i + r) - base];
          const size_t stop = std::min(j + j_count, i + r + 1);
          for (size_t column = j; column < stop; ++column) out[column] += products[column - j];
        }
      }
    }
  }
  return values;
}

absl::StatusOr<Gram> Gram::FromValues(size_t n, std::vector<int64_t> values) {
  if (values.size() != GramStart(n)) {
    return absl::InvalidArgumentError(
        absl::StrCat(values.size(), " products; the triangle of ", n, " rows has ", GramStart(n)));
  }
  return Gram(n, std::move(values));
}

Kernel CentredKernel(const Gram& gram, absl::Span<const uint32_t> training) {
  const TrainingSums sums = SumsOf(gram, training);
  const size_t n = training.size();
  Kernel kernel{n, n, std::vector<double>(n * n)};
  for (size_t i = 0; i < n; ++i) {
    NoteProgress();
    for (size_t j = 0; j <= i; ++j) {
      const double value = Centred(gram.at(training[i], training[j]), sums.rows[i], sums.rows[j],
                                   sums.total, static_cast<int64_t>(n));
      kernel.values[i * n + j] = kernel.values[j * n + i] = value;
    }
  }
  return kernel;
}

Kernel CrossKernel(const Gram& gram, absl::Span<const uint32_t> training,
                   absl::Span<const uint32_t> others) {
  const TrainingSums sums = SumsOf(gram, training);
  const size_t n = training.size();
  Kernel kernel{others.size(), n, std::vector<double>(others.size() * n)};
  for (size_t i = 0; i < others.size(); ++i) {
    int64_t sum = 0;
    for (uint32_t j : training) sum += gram.at(others[i], j);
    for (size_t j = 0; j < n; ++j) {
      kernel.values[i * n + j] = Centred(gram.at(others[i], training[j]), sum, sums.rows[j],
                                         sums.total, static_cast<int64_t>(n));
    }
  }
  return kernel;
}

}  // namespace dermis
