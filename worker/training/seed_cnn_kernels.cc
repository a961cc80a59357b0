#include "worker/training/seed_cnn_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "common/philox.h"
#include "common/simd.h"
#include "worker/training/activations.h"

namespace dermis {
namespace {

// Rows whose sums are kept in float before they go to double.
constexpr uint64_t kBlock = 64;

// Bodies, always inlined into the clones below: C is a constant there, so that accumulators are
// registers.

template <typename T, uint32_t C>
DERMIS_INLINE void EluStatisticsBody(T* __restrict a, uint64_t rows, double* mean,
                                     double* variance) {
  // Sums are of differences from the first row's value: a channel that hardly varies keeps its
  // variance.
  float pivot[C];
  double sum[C] = {}, square[C] = {};
  for (uint32_t c = 0; c < C; ++c) {
    T rounded;
    Store(Elu(Load(a + c)), &rounded);
    pivot[c] = Load(&rounded);
  }
  for (uint64_t first = 0; first < rows; first += kBlock) {
    const uint64_t last = std::min(rows, first + kBlock);
    float s[C] = {}, q[C] = {};
    for (uint64_t r = first; r < last; ++r) {
      T* row = a + r * C;
      for (uint32_t c = 0; c < C; ++c) {
        Store(Elu(Load(row + c)), row + c);
        const float d = Load(row + c) - pivot[c];
        s[c] += d;
        q[c] += d * d;
      }
    }
    for (uint32_t c = 0; c < C; ++c) {
      sum[c] += static_cast<double>(s[c]);
      square[c] += static_cast<double>(q[c]);
    }
  }
  const double n = static_cast<double>(rows);
  for (uint32_t c = 0; c < C; ++c) {
    const double m = sum[c] / n;
    const double v = square[c] / n - m * m;
    mean[c] = static_cast<double>(pivot[c]) + m;
    variance[c] = v < 0 ? 0 : v;  // NaN stays.
  }
}

template <typename T, uint32_t C>
DERMIS_INLINE void EluAffineBody(T* __restrict a, uint64_t rows, const float* __restrict scale,
                                 const float* __restrict shift) {
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint32_t c = 0; c < C; ++c)
      Store(Elu(Load(a + r * C + c)) * scale[c] + shift[c], a + r * C + c);
  }
}

template <typename T, uint32_t C>
DERMIS_INLINE void AffineBody(const T* __restrict a, uint64_t rows, const float* __restrict scale,
                              const float* __restrict shift, T* __restrict out) {
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint32_t c = 0; c < C; ++c)
      Store(Load(a + r * C + c) * scale[c] + shift[c], out + r * C + c);
  }
}

template <typename T, uint32_t C>
DERMIS_INLINE void AffinePoolBody(const T* __restrict a, uint32_t n, uint32_t h, uint32_t w,
                                  const float* __restrict scale, const float* __restrict shift,
                                  const uint8_t* __restrict keep, float keep_scale,
                                  T* __restrict pooled, uint8_t* __restrict chosen) {
  uint64_t o = 0;
  for (uint64_t y = 0; y < uint64_t{n} * h; y += 2) {
    const T* top = a + y * w * C;
    const T* bottom = top + uint64_t{w} * C;
    for (uint32_t x = 0; x < w; x += 2, o += C, top += 2 * C, bottom += 2 * C) {
      for (uint32_t c = 0; c < C; ++c) {
        float best = Load(top + c) * scale[c] + shift[c];
        uint32_t index = 0;
        const float v1 = Load(top + C + c) * scale[c] + shift[c];
        index = v1 > best ? 1 : index;
        best = v1 > best ? v1 : best;
        const float v2 = Load(bottom + c) * scale[c] + shift[c];
        index = v2 > best ? 2 : index;
        best = v2 > best ? v2 : best;
        const float v3 = Load(bottom + C + c) * scale[c] + shift[c];
        index = v3 > best ? 3 : index;
        best = v3 > best ? v3 : best;
        if (keep != nullptr) {
          const bool kept = keep[o + c] != 0;
          index = kept ? index : kDropped;
          best = kept ? best * keep_scale : 0.0f;
        }
        Store(best, pooled + o + c);
        chosen[o + c] = static_cast<uint8_t>(index);
      }
    }
  }
}

template <typename T, uint32_t C>
DERMIS_INLINE void NormSumsBody(const T* __restrict dz, const T* __restrict a, uint64_t rows,
                                const float* __restrict mean, double* sum, double* product) {
  for (uint32_t c = 0; c < C; ++c) sum[c] = product[c] = 0;
  for (uint64_t first = 0; first < rows; first += kBlock) {
    const uint64_t last = std::min(rows, first + kBlock);
    float s[C] = {}, q[C] = {};
    for (uint64_t r = first; r < last; ++r) {
      for (uint32_t c = 0; c < C; ++c) {
        const float g = Load(dz + r * C + c);
        s[c] += g;
        q[c] += g * (Load(a + r * C + c) - mean[c]);
      }
    }
    for (uint32_t c = 0; c < C; ++c) {
      sum[c] += static_cast<double>(s[c]);
      product[c] += static_cast<double>(q[c]);
    }
  }
}

template <typename T, uint32_t C>
DERMIS_INLINE void PoolNormSumsBody(const T* __restrict dpooled, const uint8_t* __restrict chosen,
                                    const T* __restrict a, uint32_t n, uint32_t h, uint32_t w,
                                    float keep_scale, const float* __restrict mean, double* sum,
                                    double* product) {
  for (uint32_t c = 0; c < C; ++c) sum[c] = product[c] = 0;
  uint64_t o = 0;
  for (uint64_t y = 0; y < uint64_t{n} * h; y += 2) {
    const T* top = a + y * w * C;
    const T* bottom = top + uint64_t{w} * C;
    float s[C] = {}, q[C] = {};  // A row of windows is a block.
    for (uint32_t x = 0; x < w; x += 2, o += C, top += 2 * C, bottom += 2 * C) {
      for (uint32_t c = 0; c < C; ++c) {
        const uint32_t index = chosen[o + c];
        const float a0 = Load(top + c), a1 = Load(top + C + c);
        const float a2 = Load(bottom + c), a3 = Load(bottom + C + c);
        const float upper = index == 1 ? a1 : a0, lower = index == 3 ? a3 : a2;
        const float at = index >= 2 ? lower : upper;
        const float scaled = Load(dpooled + o + c) * keep_scale;
        const float g = index == kDropped ? 0.0f : scaled;
        s[c] += g;
        q[c] += g * (at - mean[c]);
      }
    }
    for (uint32_t c = 0; c < C; ++c) {
      sum[c] += static_cast<double>(s[c]);
      product[c] += static_cast<double>(q[c]);
    }
  }
}

template <typename T, uint32_t C>
DERMIS_INLINE void NormEluBackwardBody(T* __restrict dz, const T* __restrict a, uint64_t rows,
                                       const float* __restrict mean, const float* __restrict k1,
                                       const float* __restrict k2, const float* __restrict k3) {
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint32_t c = 0; c < C; ++c) {
      const float v = Load(a + r * C + c);
      const float da = k1[c] * Load(dz + r * C + c) - k2[c] - k3[c] * (v - mean[c]);
      Store(da * EluSlope(v), dz + r * C + c);
    }
  }
}

template <typename T, uint32_t C>
DERMIS_INLINE void PoolNormEluBackwardBody(const T* __restrict dpooled,
                                           const uint8_t* __restrict chosen, const T* __restrict a,
                                           uint32_t n, uint32_t h, uint32_t w, float keep_scale,
                                           const float* __restrict mean, const float* __restrict k1,
                                           const float* __restrict k2, const float* __restrict k3,
                                           T* __restrict dy) {
  for (uint64_t y = 0; y < uint64_t{n} * h; ++y) {
    const uint32_t lower = y % 2 == 0 ? 0 : 2;
    for (uint32_t x = 0; x < w; ++x) {
      const uint32_t position = lower + x % 2;
      const uint64_t i = (y * w + x) * C, o = ((y / 2) * (w / 2) + x / 2) * C;
      for (uint32_t c = 0; c < C; ++c) {
        const float v = Load(a + i + c);
        const float scaled = Load(dpooled + o + c) * keep_scale;
        const float dz = chosen[o + c] == position ? scaled : 0.0f;
        const float da = k1[c] * dz - k2[c] - k3[c] * (v - mean[c]);
        Store(da * EluSlope(v), dy + i + c);
      }
    }
  }
}

[[noreturn]] void BadChannels(uint32_t channels) {
  std::fprintf(stderr, "seed_cnn_kernels: %u channels\n", channels);
  std::abort();
}

// target_clones does not go with templates: each storage type gets its own plain function.
#define DERMIS_BY_CHANNELS(body, ...) \
  switch (channels) {                 \
    case 32:                          \
      body<T, 32>(__VA_ARGS__);       \
      break;                          \
    case 64:                          \
      body<T, 64>(__VA_ARGS__);       \
      break;                          \
    case 128:                         \
      body<T, 128>(__VA_ARGS__);      \
      break;                          \
    default:                          \
      BadChannels(channels);          \
  }

#define DERMIS_KERNELS(Storage, suffix)                                                            \
  DERMIS_SIMD void EluStatistics##suffix(Storage* a, uint64_t rows, uint32_t channels,             \
                                         double* mean, double* variance) {                         \
    using T = Storage;                                                                             \
    DERMIS_BY_CHANNELS(EluStatisticsBody, a, rows, mean, variance)                                 \
  }                                                                                                \
  DERMIS_SIMD void EluAffine##suffix(Storage* a, uint64_t rows, uint32_t channels,                 \
                                     const float* scale, const float* shift) {                     \
    using T = Storage;                                                                             \
    DERMIS_BY_CHANNELS(EluAffineBody, a, rows, scale, shift)                                       \
  }                                                                                                \
  DERMIS_SIMD void Affine##suffix(const Storage* a, uint64_t rows, uint32_t channels,              \
                                  const float* scale, const float* shift, Storage* out) {          \
    using T = Storage;                                                                             \
    DERMIS_BY_CHANNELS(AffineBody, a, rows, scale, shift, out)                                     \
  }                                                                                                \
  DERMIS_SIMD void AffinePool##suffix(const Storage* a, uint32_t n, uint32_t h, uint32_t w,        \
                                      uint32_t channels, const float* scale, const float* shift,   \
                                      const uint8_t* keep, float keep_scale, Storage* pooled,      \
                                      uint8_t* chosen) {                                           \
    using T = Storage;                                                                             \
    DERMIS_BY_CHANNELS(AffinePoolBody, a, n, h, w, scale, shift, keep, keep_scale, pooled, chosen) \
  }                                                                                                \
  DERMIS_SIMD void NormSums##suffix(const Storage* dz, const Storage* a, uint64_t rows,            \
                                    uint32_t channels, const float* mean, double* sum,             \
                                    double* product) {                                             \
    using T = Storage;                                                                             \
    DERMIS_BY_CHANNELS(NormSumsBody, dz, a, rows, mean, sum, product)                              \
  }                                                                                                \
  DERMIS_SIMD void PoolNormSums##suffix(const Storage* dpooled, const uint8_t* chosen,             \
                                        const Storage* a, uint32_t n, uint32_t h, uint32_t w,      \
                                        uint32_t channels, float keep_scale, const float* mean,    \
                                        double* sum, double* product) {                            \
    using T = Storage;                                                                             \
    DERMIS_BY_CHANNELS(PoolNormSumsBody, dpooled, chosen, a, n, h, w, keep_scale, mean, sum,       \
                       product)                                                                    \
  }                                                                                                \
  DERMIS_SIMD void NormEluBackward##suffix(Storage* dz, const Storage* a, uint64_t rows,           \
                                           uint32_t channels, const float* mean, const float* k1,  \
                                           const float* k2, const float* k3) {                     \
    using T = Storage;                                                                             \
    DERMIS_BY_CHANNELS(NormEluBackwardBody, dz, a, rows, mean, k1, k2, k3)                         \
  }                                                                                                \
  DERMIS_SIMD void PoolNormEluBackward##suffix(                                                    \
      const Storage* dpooled, const uint8_t* chosen, const Storage* a, uint32_t n, uint32_t h,     \
      uint32_t w, uint32_t channels, float keep_scale, const float* mean, const float* k1,         \
      const float* k2, const float* k3, Storage* dy) {                                             \
    using T = Storage;                                                                             \
    DERMIS_BY_CHANNELS(PoolNormEluBackwardBody, dpooled, chosen, a, n, h, w, keep_scale, mean, k1, \
                       k2, k3, dy)                                                                 \
  }

DERMIS_KERNELS(float, F32)
DERMIS_KERNELS(Bf16, B16)

// Sixteen lanes, then a fixed tree: one order of additions for every vector width.
template <typename T>
float Dot(const T* x, const float* w, uint64_t features) {
  float lanes[16] = {};
  for (uint64_t j = 0; j < features; j += 16) {
    for (int l = 0; l < 16; ++l) lanes[l] += Load(x + j + l) * w[j + l];
  }
  for (int width = 8; width > 0; width /= 2) {
    for (int l = 0; l < width; ++l) lanes[l] += lanes[l + width];
  }
  return lanes[0];
}

}  // namespace

#define DERMIS_FORWARD(Storage, suffix)                                                           \
  template <>                                                                                     \
  void EluStatistics(Storage* a, uint64_t rows, uint32_t channels, double* mean,                  \
                     double* variance) {                                                          \
    EluStatistics##suffix(a, rows, channels, mean, variance);                                     \
  }                                                                                               \
  template <>                                                                                     \
  void EluAffine(Storage* a, uint64_t rows, uint32_t channels, const float* scale,                \
                 const float* shift) {                                                            \
    EluAffine##suffix(a, rows, channels, scale, shift);                                           \
  }                                                                                               \
  template <>                                                                                     \
  void Affine(const Storage* a, uint64_t rows, uint32_t channels, const float* scale,             \
              const float* shift, Storage* out) {                                                 \
    Affine##suffix(a, rows, channels, scale, shift, out);                                         \
  }                                                                                               \
  template <>                                                                                     \
  void AffinePool(const Storage* a, uint32_t n, uint32_t h, uint32_t w, uint32_t channels,        \
                  const float* scale, const float* shift, const uint8_t* keep, float keep_scale,  \
                  Storage* pooled, uint8_t* chosen) {                                             \
    AffinePool##suffix(a, n, h, w, channels, scale, shift, keep, keep_scale, pooled, chosen);     \
  }                                                                                               \
  template <>                                                                                     \
  void NormSums(const Storage* dz, const Storage* a, uint64_t rows, uint32_t channels,            \
                const float* mean, double* sum, double* product) {                                \
    NormSums##suffix(dz, a, rows, channels, mean, sum, product);                                  \
  }                                                                                               \
  template <>                                                                                     \
  void PoolNormSums(const Storage* dpooled, const uint8_t* chosen, const Storage* a, uint32_t n,  \
                    uint32_t h, uint32_t w, uint32_t channels, float keep_scale,                  \
                    const float* mean, double* sum, double* product) {                            \
    PoolNormSums##suffix(dpooled, chosen, a, n, h, w, channels, keep_scale, mean, sum, product);  \
  }                                                                                               \
  template <>                                                                                     \
  void NormEluBackward(Storage* dz, const Storage* a, uint64_t rows, uint32_t channels,           \
                       const float* mean, const float* k1, const float* k2, const float* k3) {    \
    NormEluBackward##suffix(dz, a, rows, channels, mean, k1, k2, k3);                             \
  }                                                                                               \
  template <>                                                                                     \
  void PoolNormEluBackward(const Storage* dpooled, const uint8_t* chosen, const Storage* a,       \
                           uint32_t n, uint32_t h, uint32_t w, uint32_t channels,                 \
                           float keep_scale, const float* mean, const float* k1, const float* k2, \
                           const float* k3, Storage* dy) {                                        \
    PoolNormEluBackward##suffix(dpooled, chosen, a, n, h, w, channels, keep_scale, mean, k1, k2,  \
                                k3, dy);                                                          \
  }

DERMIS_FORWARD(float, F32)
DERMIS_FORWARD(Bf16, B16)

template <typename T>
void DenseForward(const T* x, uint32_t n, uint64_t features, const float* weight, const float* bias,
                  uint32_t classes, float* logits) {
  for (uint32_t i = 0; i < n; ++i) {
    for (uint32_t k = 0; k < classes; ++k) {
      logits[uint64_t{i} * classes + k] =
          Dot(x + i * features, weight + k * features, features) + bias[k];
    }
  }
}

template <typename T>
void DenseBackward(const T* x, uint32_t n, uint64_t features, const float* weight,
                   const float* dlogits, uint32_t classes, float* dweight, T* dx) {
  for (uint32_t i = 0; i < n; ++i) {
    const T* xi = x + i * features;
    T* di = dx + i * features;
    for (uint32_t k = 0; k < classes; ++k) {
      const float g = dlogits[uint64_t{i} * classes + k];
      float* dw = dweight + k * features;
      for (uint64_t j = 0; j < features; ++j) dw[j] += g * Load(xi + j);
    }
    for (uint64_t j = 0; j < features; ++j) {
      float d = 0;
      for (uint32_t k = 0; k < classes; ++k)
        d += dlogits[uint64_t{i} * classes + k] * weight[k * features + j];
      Store(d, di + j);
    }
  }
}

template void DenseForward(const float*, uint32_t, uint64_t, const float*, const float*, uint32_t,
                           float*);
template void DenseForward(const Bf16*, uint32_t, uint64_t, const float*, const float*, uint32_t,
                           float*);
template void DenseBackward(const float*, uint32_t, uint64_t, const float*, const float*, uint32_t,
                            float*, float*);
template void DenseBackward(const Bf16*, uint32_t, uint64_t, const float*, const float*, uint32_t,
                            float*, Bf16*);

DERMIS_SIMD void ConvertToBf16(const float* in, uint64_t n, Bf16* out) {
  for (uint64_t i = 0; i < n; ++i) out[i].bits = FloatToBf16(in[i]);
}

void DropoutMask(uint64_t seed, uint64_t step, uint32_t image, uint32_t layer, double p,
                 uint32_t units, uint8_t* keep) {
  const uint32_t threshold = static_cast<uint32_t>(std::lround(p * 65536));
  for (uint32_t block = 0; block < units / 8; ++block) {
    const auto words = PhiloxBlock(seed, Purpose::kDropout, step, image, layer << 24 | block);
    for (int k = 0; k < 4; ++k) {
      keep[8 * block + 2 * k] = (words[k] & 0xffffu) >= threshold;
      keep[8 * block + 2 * k + 1] = (words[k] >> 16) >= threshold;
    }
  }
}

}  // namespace dermis
