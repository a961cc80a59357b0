// Inner products of rows of bytes, exact: integer sums have the same bits on every instruction set.
#ifndef DERMIS_WORKER_CLASSICAL_BYTE_PRODUCTS_H_
#define DERMIS_WORKER_CLASSICAL_BYTE_PRODUCTS_H_

#include <cstddef>
#include <cstdint>

namespace dermis {

enum class ByteKernel {
  kFastest,   // AVX-512 VNNI where the processor has it, else kPortable.
  kPortable,  // Plain loops, compiled for several vector widths.
};

// A tile is the products of 6 rows with 4 others.
inline constexpr size_t kTileRows = 6;
inline constexpr size_t kTileColumns = 4;
// At most so many bytes of each row at a time: 2^14 * 255 * 255 stays below 2^31.
inline constexpr size_t kTileDepth = 1 << 14;

// products[r * kTileColumns + c] = sum over k < depth of a[r][k] * b[c][k]. a: kTileRows pointers,
// b: kTileColumns; depth <= kTileDepth. a_sums[r] must be the
// sum of a[r][0..depth).
using TileProduct = void (*)(const uint8_t* const* a, const uint8_t* const* b, size_t depth,
                             const uint32_t* a_sums, uint32_t* products);
TileProduct TileProductOf(ByteKernel kernel);

uint32_t SumBytes(const uint8_t* bytes, size_t count);  // count <= kTileDepth.

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_BYTE_PRODUCTS_H_
