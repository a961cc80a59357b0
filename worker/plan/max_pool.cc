#include "worker/plan/max_pool.h"

#include <vector>

#include "common/simd.h"

namespace dermis {
namespace {

// Numbers that are ordered as those that bf16 words stand for (-0 below 0).
struct Bf16Order {
  using Key = int16_t;
  static DERMIS_INLINE int16_t ToKey(uint16_t word) { return Flip(static_cast<int16_t>(word)); }
  static DERMIS_INLINE uint16_t FromKey(int16_t key) { return static_cast<uint16_t>(Flip(key)); }
  static DERMIS_INLINE int16_t Flip(int16_t v) {
    return static_cast<int16_t>(v ^ ((v >> 15) & 0x7fff));
  }
};
struct FloatOrder {
  using Key = float;
  static DERMIS_INLINE float ToKey(float v) { return v; }
  static DERMIS_INLINE float FromKey(float v) { return v; }
};

template <typename Key>
DERMIS_INLINE Key Largest(Key a, Key b, Key c) {
  const Key most = a > b ? a : b;
  return most > c ? most : c;
}

// One row of the output. `back`: pixels from a window's middle to its first. `columns`: side x
// channels, for the largest of each column.
template <typename Order, typename T>
DERMIS_INLINE void PoolRow(const T* above, const T* middle, const T* below, size_t side,
                           size_t channels, size_t back, typename Order::Key* columns, T* out) {
  for (size_t i = 0; i < side * channels; ++i) {
    columns[i] = Largest(Order::ToKey(above[i]), Order::ToKey(middle[i]), Order::ToKey(below[i]));
  }
  for (size_t x = 0; x + 1 < side; x += 2) {
    const auto* const centre = columns + x * channels;
    const auto* const left = x == 0 ? centre : centre - back * channels;
    const auto* const right = centre + channels;
    for (size_t c = 0; c < channels; ++c) {
      out[c] = Order::FromKey(Largest(left[c], centre[c], right[c]));
    }
    out += channels;
  }
}

// target_clones does not go with templates.
DERMIS_SIMD void PoolRowOfFloats(const float* above, const float* middle, const float* below,
                                 size_t side, size_t channels, size_t back, float* columns,
                                 float* out) {
  PoolRow<FloatOrder>(above, middle, below, side, channels, back, columns, out);
}
DERMIS_SIMD void PoolRowOfBf16(const uint16_t* above, const uint16_t* middle, const uint16_t* below,
                               size_t side, size_t channels, size_t back, int16_t* columns,
                               uint16_t* out) {
  PoolRow<Bf16Order>(above, middle, below, side, channels, back, columns, out);
}

template <typename Key, typename T, typename Row>
void Pool(PoolWindow window, size_t images, size_t side, size_t channels, const T* in, T* out,
          Row row) {
  const size_t back = window == PoolWindow::kThree ? 1 : 0, width = side * channels;
  std::vector<Key> columns(width);
  for (size_t image = 0; image < images; ++image, in += side * width) {
    for (size_t y = 0; y + 1 < side; y += 2, out += side / 2 * channels) {
      const T* const middle = in + y * width;
      // Where a window has no such row the middle one stands for it.
      row(y == 0 ? middle : middle - back * width, middle, middle + width, side, channels, back,
          columns.data(), out);
    }
  }
}

}  // namespace

void MaxPool(PoolWindow window, size_t images, size_t side, size_t channels, const float* in,
             float* out) {
  Pool<float>(window, images, side, channels, in, out, PoolRowOfFloats);
}

void MaxPool(PoolWindow window, size_t images, size_t side, size_t channels, const uint16_t* in,
             uint16_t* out) {
  Pool<int16_t>(window, images, side, channels, in, out, PoolRowOfBf16);
}

}  // namespace dermis
