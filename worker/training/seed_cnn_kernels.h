// The elementwise half of a training step of the seed's network: what happens between its
// convolutions, fused so that each activation map is read as seldom as possible. No Torch. Maps are
// NHWC; T is float or Bf16 (storage only: all arithmetic is in float, sums over rows in float per
// 64 rows, then in double, always in row order, so a result depends on nothing but its arguments).
//
// Letters: n images, h x w pixels (h, w even), C channels (32, 64 or 128), rows = n * h * w.
#ifndef DERMIS_WORKER_TRAINING_SEED_CNN_KERNELS_H_
#define DERMIS_WORKER_TRAINING_SEED_CNN_KERNELS_H_

#include <cstdint>

#include "worker/training/storage.h"

namespace dermis {

inline constexpr uint32_t kMaxChannels = 128;

// a <- ELU(a) in place, and per channel the mean and (biased) variance of the result over the rows.
template <typename T>
void EluStatistics(T* a, uint64_t rows, uint32_t channels, double* mean, double* variance);

// a <- ELU(a) * scale + shift in place (evaluation: batch norm with running statistics).
template <typename T>
void EluAffine(T* a, uint64_t rows, uint32_t channels, const float* scale, const float* shift);

// out <- a * scale + shift.
template <typename T>
void Affine(const T* a, uint64_t rows, uint32_t channels, const float* scale, const float* shift,
            T* out);

// pooled [n, h/2, w/2, C] <- dropout(maximum over 2 x 2 windows of a * scale + shift). keep [n,
// h/2, w/2, C]: 0 = dropped; null: no dropout. A kept value is multiplied by keep_scale. chosen:
// see kDropped.
template <typename T>
void AffinePool(const T* a, uint32_t n, uint32_t h, uint32_t w, uint32_t channels,
                const float* scale, const float* shift, const uint8_t* keep, float keep_scale,
                T* pooled, uint8_t* chosen);

// Sums over rows of dz and of dz * (a - mean): the gradients of a batch norm's shift and, times 1 /
// deviation, of its scale.
template <typename T>
void NormSums(const T* dz, const T* a, uint64_t rows, uint32_t channels, const float* mean,
              double* sum, double* product);
// The same where dz is the gradient of AffinePool: dpooled scattered to the chosen pixels.
template <typename T>
void PoolNormSums(const T* dpooled, const uint8_t* chosen, const T* a, uint32_t n, uint32_t h,
                  uint32_t w, uint32_t channels, float keep_scale, const float* mean, double* sum,
                  double* product);

// Gradient of batch norm after ELU, in one pass: da = k1 dz - k2 - k3 (a - mean), dy = da *
// ELU'(y), where ELU'(y) = 1 for a > 0, a + 1 else. In place: dz becomes dy.
template <typename T>
void NormEluBackward(T* dz, const T* a, uint64_t rows, uint32_t channels, const float* mean,
                     const float* k1, const float* k2, const float* k3);
template <typename T>
void PoolNormEluBackward(const T* dpooled, const uint8_t* chosen, const T* a, uint32_t n,
                         uint32_t h, uint32_t w, uint32_t channels, float keep_scale,
                         const float* mean, const float* k1, const float* k2, const float* k3,
                         T* dy);

// logits[n, classes] = x [n, features] weight[classes, features]^T + bias. features: a multiple
// of 16.
template <typename T>
void DenseForward(const T* x, uint32_t n, uint64_t features, const float* weight, const float* bias,
                  uint32_t classes, float* logits);
// dweight += dlogits^T x (images in order); dx = dlogits weight.
template <typename T>
void DenseBackward(const T* x, uint32_t n, uint64_t features, const float* weight,
                   const float* dlogits, uint32_t classes, float* dweight, T* dx);

void ConvertToBf16(const float* in, uint64_t n, Bf16* out);

// keep[u] for `units` (a multiple of 8) units of one image and one layer: 0 with probability
// round(p * 2^16) / 2^16. Sixteen bits a unit, eight units a Philox block keyed by (seed, kDropout,
// step, image, layer << 24 | block).
void DropoutMask(uint64_t seed, uint64_t step, uint32_t image, uint32_t layer, double p,
                 uint32_t units, uint8_t* keep);

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_SEED_CNN_KERNELS_H_
