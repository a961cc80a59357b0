// The Gram matrix of rows of bytes, for bench_embedding alone, until worker/classical's GramOf takes
// its place.
#ifndef DERMIS_TOOLS_BENCH_BYTES_GRAM_H_
#define DERMIS_TOOLS_BENCH_BYTES_GRAM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace dermis::bench {

// n x n, exact, not centred; row-major. columns <= 2^23.
std::vector<double> BytesGram(absl::Span<const uint8_t* const> rows, size_t columns, int threads);

}  // namespace dermis::bench

#endif  // DERMIS_TOOLS_BENCH_BYTES_GRAM_H_
