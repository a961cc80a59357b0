// Inner products of rows of bytes, exact: integer sums have the same bits on every instruction set.
#ifndef DERMIS_WORKER_CLASSICAL_BYTE_PRODUCTS_H_
#define DERMIS_WORKER_CLASSICAL_BYTE_PRODUCTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"

namespace dermis {

enum class ByteKernel {
  kFastest,   // The first of the others that this machine has, from below.
  kPortable,  // Plain loops, compiled for several vector widths.
  kVnni,      // AVX-512 VNNI.
  kAmx,       // AMX-INT8.
};
// Whether the processor and the operating system allow it. The first question about kAmx asks the
// kernel for leave to use tile registers, for the whole process (Linux grants it once and forbids
// signal stacks too small for them from then on); nothing else outlives a call.
bool HasKernel(ByteKernel kernel);

// Products of a block of at most kBlockRows rows with as many others.
inline constexpr size_t kBlockRows = 512;
// Of a row of products; not a power of two, whose rows would compete for the same cache lines.
inline constexpr size_t kBlockStride = kBlockRows + 16;
// 2^16 * 255 * 255 stays below 2^32.
inline constexpr size_t kBlockDepth = 1 << 16;

// Not thread-safe: holds up to 2 MiB of scratch memory.
class ByteProducts {
 public:
  // A kernel that this machine lacks is replaced by the fastest that it has.
  explicit ByteProducts(ByteKernel kernel = ByteKernel::kFastest);
  ~ByteProducts();

  // row(r)[c] = sum over begin <= k < end of a[r][k] * b[c][k], for r < a.size() and c < b.size()
  // with c <= r + diagonal; the others are undefined. At most kBlockRows rows each,
  // begin < end <= begin + kBlockDepth.
  void Multiply(absl::Span<const uint8_t* const> a, absl::Span<const uint8_t* const> b,
                size_t begin, size_t end, ptrdiff_t diagonal);
  const uint32_t* row(size_t r) const { return &products_[r * kBlockStride]; }

 private:
  struct Tiles;
  ByteKernel kernel_;
  std::vector<uint32_t> products_;
  std::unique_ptr<Tiles> tiles_;  // Of kAmx.
};

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_BYTE_PRODUCTS_H_
