#include "worker/training/resnet_kernels.h"

#include <algorithm>

#include "worker/training/activations.h"

namespace dermis {
namespace {

// Rows whose sums are kept in float before they go to double.
constexpr uint64_t kBlock = 64;
// Channels at a time where there are sums: a constant, so that accumulators are registers.
constexpr uint32_t kTile = 64;

// Bodies, always inlined into the clones below.

// For every tile of every block: add(row, c) gives the two terms of a channel's sums.
template <typename Add>
DERMIS_INLINE void Sums(uint64_t rows, uint32_t channels, double* sum, double* product, Add add) {
  for (uint64_t first = 0; first < rows; first += kBlock) {
    const uint64_t last = std::min(rows, first + kBlock);
    for (uint32_t t = 0; t < channels; t += kTile) {
      float s[kTile] = {}, q[kTile] = {};
      for (uint64_t r = first; r < last; ++r) add(r * channels + t, t, s, q);
      for (uint32_t c = 0; c < kTile; ++c) {
        sum[t + c] += static_cast<double>(s[c]);
        product[t + c] += static_cast<double>(q[c]);
      }
    }
  }
}

template <typename T>
DERMIS_INLINE void MeanVarianceBody(const T* __restrict y, uint64_t rows, uint32_t channels,
                                    double* mean, double* variance) {
  // Sums are of differences from the first row's value: a channel that hardly varies keeps its
  // variance.
  std::fill(mean, mean + channels, 0.0);
  std::fill(variance, variance + channels, 0.0);
  Sums(rows, channels, mean, variance, [=](uint64_t i, uint32_t t, float* s, float* q) {
    for (uint32_t c = 0; c < kTile; ++c) {
      const float d = Load(y + i + c) - Load(y + t + c);
      s[c] += d;
      q[c] += d * d;
    }
  });
  const double n = static_cast<double>(rows);
  for (uint32_t c = 0; c < channels; ++c) {
    const double m = mean[c] / n;
    const double v = variance[c] / n - m * m;
    mean[c] = static_cast<double>(Load(y + c)) + m;
    variance[c] = v < 0 ? 0 : v;  // NaN stays.
  }
}

template <typename T>
DERMIS_INLINE void NormReluBody(const T* y, uint64_t rows, uint32_t channels, LinearNorm norm,
                                T* z) {
  const float* __restrict scale = norm.scale;
  const float* __restrict shift = norm.shift;
  for (uint64_t r = 0; r < rows; ++r, y += channels, z += channels) {
#pragma GCC ivdep  // z is y or apart from it.
    for (uint32_t c = 0; c < channels; ++c) Store(Relu(Load(y + c) * scale[c] + shift[c]), z + c);
  }
}

template <typename T>
DERMIS_INLINE void NormAddReluBody(const T* y, LinearNorm norm, const T* shortcut, uint64_t rows,
                                   uint32_t channels, T* z) {
  const float* __restrict scale = norm.scale;
  const float* __restrict shift = norm.shift;
  for (uint64_t r = 0; r < rows; ++r, y += channels, shortcut += channels, z += channels) {
#pragma GCC ivdep
    for (uint32_t c = 0; c < channels; ++c) {
      Store(Relu(Load(y + c) * scale[c] + shift[c] + Load(shortcut + c)), z + c);
    }
  }
}

template <typename T>
DERMIS_INLINE void NormAddNormReluBody(const T* y, LinearNorm norm, const T* shortcut,
                                       LinearNorm shortcut_norm, uint64_t rows, uint32_t channels,
                                       T* z) {
  const float* __restrict scale = norm.scale;
  const float* __restrict shift = norm.shift;
  const float* __restrict scale2 = shortcut_norm.scale;
  const float* __restrict shift2 = shortcut_norm.shift;
  for (uint64_t r = 0; r < rows; ++r, y += channels, shortcut += channels, z += channels) {
#pragma GCC ivdep
    for (uint32_t c = 0; c < channels; ++c) {
      const float a = Load(y + c) * scale[c] + shift[c];
      const float b = Load(shortcut + c) * scale2[c] + shift2[c];
      Store(Relu(a + b), z + c);
    }
  }
}

template <typename T>
DERMIS_INLINE void NormReluPoolBody(const T* __restrict y, uint32_t n, uint32_t h, uint32_t w,
                                    uint32_t channels, LinearNorm norm, T* __restrict pooled,
                                    uint8_t* __restrict chosen) {
  const float* __restrict scale = norm.scale;
  const float* __restrict shift = norm.shift;
  const uint64_t row = uint64_t{w} * channels;
  for (uint32_t i = 0; i < n; ++i, y += h * row) {
    for (uint32_t oy = 0; oy < h / 2; ++oy) {
      for (uint32_t ox = 0; ox < w / 2; ++ox, pooled += channels, chosen += channels) {
        // Only the first row and column of windows reach over the border.
        const uint32_t ky0 = oy == 0 ? 1 : 0, kx0 = ox == 0 ? 1 : 0;
        for (uint32_t t = 0; t < channels; t += kTile) {
          float best[kTile];
          int32_t index[kTile];
          // Below what ReLU gives, so that the first pixel is taken.
          for (uint32_t c = 0; c < kTile; ++c) best[c] = -1.0f, index[c] = 0;
          for (uint32_t ky = ky0; ky < 3; ++ky) {
            for (uint32_t kx = kx0; kx < 3; ++kx) {
              const T* p = y + (2 * oy + ky - 1) * row + uint64_t{2 * ox + kx - 1} * channels + t;
              const int32_t k = static_cast<int32_t>(3 * ky + kx);
              for (uint32_t c = 0; c < kTile; ++c) {
                const float v = Relu(Load(p + c) * scale[t + c] + shift[t + c]);
                const bool higher = v > best[c] || v != v;
                index[c] = higher ? k : index[c];
                best[c] = higher ? v : best[c];
              }
            }
          }
          for (uint32_t c = 0; c < kTile; ++c) {
            Store(best[c], pooled + t + c);
            chosen[t + c] = static_cast<uint8_t>(index[c]);
          }
        }
      }
    }
  }
}

template <typename T>
DERMIS_INLINE void ReluNormSumsBody(const T* __restrict dz, const T* __restrict y, uint64_t rows,
                                    uint32_t channels, LinearNorm norm,
                                    const float* __restrict mean, double* sum, double* product) {
  const float* __restrict scale = norm.scale;
  const float* __restrict shift = norm.shift;
  std::fill(sum, sum + channels, 0.0);
  std::fill(product, product + channels, 0.0);
  Sums(rows, channels, sum, product, [=](uint64_t i, uint32_t t, float* s, float* q) {
    for (uint32_t c = 0; c < kTile; ++c) {
      const float v = Load(y + i + c);
      const float d = Load(dz + i + c);
      const float g = v * scale[t + c] + shift[t + c] > 0.0f ? d : 0.0f;
      s[c] += g;
      q[c] += g * (v - mean[t + c]);
    }
  });
}

template <typename T>
DERMIS_INLINE void ReluNormBackwardBody(T* __restrict dz, const T* __restrict y, uint64_t rows,
                                        uint32_t channels, LinearNorm norm, NormGradient gradient) {
  const float* __restrict scale = norm.scale;
  const float* __restrict shift = norm.shift;
  const float* __restrict mean = gradient.mean;
  const float* __restrict k1 = gradient.k1;
  const float* __restrict k2 = gradient.k2;
  const float* __restrict k3 = gradient.k3;
  for (uint64_t r = 0; r < rows; ++r, dz += channels, y += channels) {
    for (uint32_t c = 0; c < channels; ++c) {
      const float v = Load(y + c);
      const float d = Load(dz + c);
      const float g = v * scale[c] + shift[c] > 0.0f ? d : 0.0f;
      Store(k1[c] * g - k2[c] - k3[c] * (v - mean[c]), dz + c);
    }
  }
}

template <typename T>
DERMIS_INLINE void JoinSumsBody(const T* da, const T* db, const T* z, const T* y, uint64_t rows,
                                uint32_t channels, const float* __restrict mean, T* g, double* sum,
                                double* product) {
  std::fill(sum, sum + channels, 0.0);
  std::fill(product, product + channels, 0.0);
  Sums(rows, channels, sum, product, [=](uint64_t i, uint32_t t, float* s, float* q) {
    T kept[kTile];
    if (db != nullptr) {
      for (uint32_t c = 0; c < kTile; ++c) {
        const float d = Load(da + i + c) + Load(db + i + c);
        Store(Load(z + i + c) > 0.0f ? d : 0.0f, kept + c);
      }
    } else {
      for (uint32_t c = 0; c < kTile; ++c) {
        const float d = Load(da + i + c);
        Store(Load(z + i + c) > 0.0f ? d : 0.0f, kept + c);
      }
    }
    // Sums of what is stored: the branch and the shortcut see the same numbers.
    for (uint32_t c = 0; c < kTile; ++c) {
      const float k = Load(kept + c);
      s[c] += k;
      q[c] += k * (Load(y + i + c) - mean[t + c]);
    }
    for (uint32_t c = 0; c < kTile; ++c) g[i + c] = kept[c];
  });
}

template <typename T>
DERMIS_INLINE void NormProductBody(const T* __restrict g, const T* __restrict y, uint64_t rows,
                                   uint32_t channels, const float* __restrict mean,
                                   double* product) {
  std::fill(product, product + channels, 0.0);
  for (uint64_t first = 0; first < rows; first += kBlock) {
    const uint64_t last = std::min(rows, first + kBlock);
    for (uint32_t t = 0; t < channels; t += kTile) {
      float q[kTile] = {};
      for (uint64_t r = first; r < last; ++r) {
        const uint64_t i = r * channels + t;
        for (uint32_t c = 0; c < kTile; ++c) {
          q[c] += Load(g + i + c) * (Load(y + i + c) - mean[t + c]);
        }
      }
      for (uint32_t c = 0; c < kTile; ++c) product[t + c] += static_cast<double>(q[c]);
    }
  }
}

template <typename T>
DERMIS_INLINE void NormBackwardBody(const T* g, const T* y, uint64_t rows, uint32_t channels,
                                    NormGradient gradient, T* dy) {
  const float* __restrict mean = gradient.mean;
  const float* __restrict k1 = gradient.k1;
  const float* __restrict k2 = gradient.k2;
  const float* __restrict k3 = gradient.k3;
  for (uint64_t r = 0; r < rows; ++r, g += channels, y += channels, dy += channels) {
#pragma GCC ivdep
    for (uint32_t c = 0; c < channels; ++c) {
      Store(k1[c] * Load(g + c) - k2[c] - k3[c] * (Load(y + c) - mean[c]), dy + c);
    }
  }
}

template <typename T>
DERMIS_INLINE void PoolSumsBody(const T* __restrict dpooled, const uint8_t* __restrict chosen,
                                const T* __restrict y, uint32_t n, uint32_t h, uint32_t w,
                                uint32_t channels, LinearNorm norm, const float* __restrict mean,
                                T* __restrict g, double* sum, double* product) {
  const float* __restrict scale = norm.scale;
  const float* __restrict shift = norm.shift;
  std::fill(sum, sum + channels, 0.0);
  std::fill(product, product + channels, 0.0);
  const uint32_t oh = h / 2, ow = w / 2;
  for (uint32_t row = 0; row < n * h; ++row) {
    const uint32_t image = row / h, py = row % h;
    // Windows whose 3 x 3 pixels hold this one: two in each direction where it lies odd (the second
    // only within the map), else one.
    const uint32_t oy0 = py / 2, oy1 = py % 2 == 1 ? std::min(oy0 + 1, oh - 1) : oy0;
    for (uint32_t t = 0; t < channels; t += kTile) {
      float s[kTile] = {}, q[kTile] = {};
      for (uint32_t px = 0; px < w; ++px) {
        const uint32_t ox0 = px / 2, ox1 = px % 2 == 1 ? std::min(ox0 + 1, ow - 1) : ox0;
        float d[kTile] = {};
        for (uint32_t oy = oy0; oy <= oy1; ++oy) {
          for (uint32_t ox = ox0; ox <= ox1; ++ox) {
            const uint32_t k = 3 * (py + 1 - 2 * oy) + (px + 1 - 2 * ox);
            const uint64_t o = ((uint64_t{image} * oh + oy) * ow + ox) * channels + t;
            for (uint32_t c = 0; c < kTile; ++c) {
              const float add = Load(dpooled + o + c);
              d[c] += chosen[o + c] == k ? add : 0.0f;
            }
          }
        }
        const uint64_t i = (uint64_t{row} * w + px) * channels + t;
        for (uint32_t c = 0; c < kTile; ++c) {
          const float v = Load(y + i + c);
          T kept;
          Store(v * scale[t + c] + shift[t + c] > 0.0f ? d[c] : 0.0f, &kept);
          g[i + c] = kept;
          s[c] += Load(&kept);
          q[c] += Load(&kept) * (v - mean[t + c]);
        }
      }
      for (uint32_t c = 0; c < kTile; ++c) {
        sum[t + c] += static_cast<double>(s[c]);
        product[t + c] += static_cast<double>(q[c]);
      }
    }
  }
}

template <typename T>
DERMIS_INLINE void AddToBody(const T* __restrict b, uint64_t n, T* __restrict a) {
  for (uint64_t i = 0; i < n; ++i) Store(Load(a + i) + Load(b + i), a + i);
}

template <typename T>
DERMIS_INLINE void AveragePoolBody(const T* __restrict z, uint32_t n, uint32_t pixels,
                                   uint32_t channels, float* __restrict out) {
  for (uint32_t i = 0; i < n; ++i, z += uint64_t{pixels} * channels, out += channels) {
    for (uint32_t t = 0; t < channels; t += kTile) {
      float s[kTile] = {};
      for (uint32_t p = 0; p < pixels; ++p) {
        for (uint32_t c = 0; c < kTile; ++c) s[c] += Load(z + uint64_t{p} * channels + t + c);
      }
      for (uint32_t c = 0; c < kTile; ++c) out[t + c] = s[c] / static_cast<float>(pixels);
    }
  }
}

template <typename T>
DERMIS_INLINE void AveragePoolBackwardBody(const float* __restrict dout, uint32_t n,
                                           uint32_t pixels, uint32_t channels, T* __restrict dz) {
  const float share = 1.0f / static_cast<float>(pixels);
  for (uint32_t i = 0; i < n; ++i, dout += channels) {
    for (uint32_t p = 0; p < pixels; ++p, dz += channels) {
      for (uint32_t c = 0; c < channels; ++c) Store(dout[c] * share, dz + c);
    }
  }
}

}  // namespace

// target_clones does not go with templates: each storage type gets its own plain functions.
#define DERMIS_KERNEL(name, parameters, arguments)                  \
  namespace {                                                       \
  DERMIS_SIMD void name##Clone parameters { name##Body arguments; } \
  }                                                                 \
  template <>                                                       \
  void name parameters {                                            \
    name##Clone arguments;                                          \
  }

#define DERMIS_KERNELS(T)                                                                          \
  DERMIS_KERNEL(MeanVariance,                                                                      \
                (const T* y, uint64_t rows, uint32_t channels, double* mean, double* variance),    \
                (y, rows, channels, mean, variance))                                               \
  DERMIS_KERNEL(NormRelu, (const T* y, uint64_t rows, uint32_t channels, LinearNorm norm, T* z),   \
                (y, rows, channels, norm, z))                                                      \
  DERMIS_KERNEL(                                                                                   \
      NormAddRelu,                                                                                 \
      (const T* y, LinearNorm norm, const T* shortcut, uint64_t rows, uint32_t channels, T* z),    \
      (y, norm, shortcut, rows, channels, z))                                                      \
  DERMIS_KERNEL(NormAddNormRelu,                                                                   \
                (const T* y, LinearNorm norm, const T* shortcut, LinearNorm shortcut_norm,         \
                 uint64_t rows, uint32_t channels, T* z),                                          \
                (y, norm, shortcut, shortcut_norm, rows, channels, z))                             \
  DERMIS_KERNEL(NormReluPool,                                                                      \
                (const T* y, uint32_t n, uint32_t h, uint32_t w, uint32_t channels,                \
                 LinearNorm norm, T* pooled, uint8_t* chosen),                                     \
                (y, n, h, w, channels, norm, pooled, chosen))                                      \
  DERMIS_KERNEL(ReluNormSums,                                                                      \
                (const T* dz, const T* y, uint64_t rows, uint32_t channels, LinearNorm norm,       \
                 const float* mean, double* sum, double* product),                                 \
                (dz, y, rows, channels, norm, mean, sum, product))                                 \
  DERMIS_KERNEL(ReluNormBackward,                                                                  \
                (T * dz, const T* y, uint64_t rows, uint32_t channels, LinearNorm norm,            \
                 NormGradient gradient),                                                           \
                (dz, y, rows, channels, norm, gradient))                                           \
  DERMIS_KERNEL(JoinSums,                                                                          \
                (const T* da, const T* db, const T* z, const T* y, uint64_t rows,                  \
                 uint32_t channels, const float* mean, T* g, double* sum, double* product),        \
                (da, db, z, y, rows, channels, mean, g, sum, product))                             \
  DERMIS_KERNEL(NormProduct,                                                                       \
                (const T* g, const T* y, uint64_t rows, uint32_t channels, const float* mean,      \
                 double* product),                                                                 \
                (g, y, rows, channels, mean, product))                                             \
  DERMIS_KERNEL(                                                                                   \
      NormBackward,                                                                                \
      (const T* g, const T* y, uint64_t rows, uint32_t channels, NormGradient gradient, T* dy),    \
      (g, y, rows, channels, gradient, dy))                                                        \
  DERMIS_KERNEL(                                                                                   \
      PoolSums,                                                                                    \
      (const T* dpooled, const uint8_t* chosen, const T* y, uint32_t n, uint32_t h, uint32_t w,    \
       uint32_t channels, LinearNorm norm, const float* mean, T* g, double* sum, double* product), \
      (dpooled, chosen, y, n, h, w, channels, norm, mean, g, sum, product))                        \
  DERMIS_KERNEL(AddTo, (const T* b, uint64_t n, T* a), (b, n, a))                                  \
  DERMIS_KERNEL(AveragePool,                                                                       \
                (const T* z, uint32_t n, uint32_t pixels, uint32_t channels, float* out),          \
                (z, n, pixels, channels, out))                                                     \
  DERMIS_KERNEL(AveragePoolBackward,                                                               \
                (const float* dout, uint32_t n, uint32_t pixels, uint32_t channels, T* dz),        \
                (dout, n, pixels, channels, dz))

DERMIS_KERNELS(float)
DERMIS_KERNELS(Bf16)

}  // namespace dermis
