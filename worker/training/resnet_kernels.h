// The elementwise half of a training step of a ResNet: batch norm, ReLU, residual addition,
// pooling, fused so that each activation map is read as seldom as possible. No Torch. Maps are
// NHWC; T is float or Bf16 (storage only: all arithmetic is in float, sums over rows in float per
// block of 64 rows, then in double, always in row order, so a result depends on nothing but its
// arguments).
//
// Letters: n images, h x w pixels, C channels (a multiple of 64), rows = n * h * w. y: a
// convolution's output; scale, shift: its batch norm as y * scale + shift. NaN stays NaN.
#ifndef DERMIS_WORKER_TRAINING_RESNET_KERNELS_H_
#define DERMIS_WORKER_TRAINING_RESNET_KERNELS_H_

#include <cstdint>

#include "worker/training/storage.h"

namespace dermis {

// A batch norm in evaluation form: y * scale + shift by channel.
struct LinearNorm {
  const float* scale;
  const float* shift;
};

// What the gradient of a batch norm in training form needs: dy = k1 g - k2 - k3 (y - mean).
struct NormGradient {
  const float* mean;
  const float* k1;
  const float* k2;
  const float* k3;
};

// Per channel the mean and (biased) variance over the rows.
template <typename T>
void MeanVariance(const T* y, uint64_t rows, uint32_t channels, double* mean, double* variance);

// z <- ReLU(norm(y)); in place too.
template <typename T>
void NormRelu(const T* y, uint64_t rows, uint32_t channels, LinearNorm norm, T* z);
// z <- ReLU(norm(y) + shortcut): a block's end; z may be y or shortcut.
template <typename T>
void NormAddRelu(const T* y, LinearNorm norm, const T* shortcut, uint64_t rows, uint32_t channels,
                 T* z);
// z <- ReLU(norm(y) + shortcut_norm(shortcut)): where the shortcut is a convolution.
template <typename T>
void NormAddNormRelu(const T* y, LinearNorm norm, const T* shortcut, LinearNorm shortcut_norm,
                     uint64_t rows, uint32_t channels, T* z);

// The stem's end: pooled [n, h/2, w/2, C] <- maximum over 3 x 3 windows (stride 2, padding 1) of
// ReLU(norm(y)); h and w even. chosen: 0..8, the window's pixel that held it, row by row; the first
// of equals.
template <typename T>
void NormReluPool(const T* y, uint32_t n, uint32_t h, uint32_t w, uint32_t channels,
                  LinearNorm norm, T* pooled, uint8_t* chosen);

// Sums over rows of g and of g * (y - mean), where g is dz where ReLU let z through, else 0: the
// gradients of a batch norm's shift and, times 1 / deviation, of its scale.
template <typename T>
void ReluNormSums(const T* dz, const T* y, uint64_t rows, uint32_t channels, LinearNorm norm,
                  const float* mean, double* sum, double* product);
// Then, in one more pass: dz becomes the gradient at y.
template <typename T>
void ReluNormBackward(T* dz, const T* y, uint64_t rows, uint32_t channels, LinearNorm norm,
                      NormGradient gradient);

// A block's end: g <- (da + db) where z > 0, else 0, and the sums of g, g * (y - mean). db may be
// null; g may be da.
template <typename T>
void JoinSums(const T* da, const T* db, const T* z, const T* y, uint64_t rows, uint32_t channels,
              const float* mean, T* g, double* sum, double* product);
// Sum of g * (y - mean) alone: for the shortcut's batch norm, whose sum of g is the branch's.
template <typename T>
void NormProduct(const T* g, const T* y, uint64_t rows, uint32_t channels, const float* mean,
                 double* product);
// dy <- the gradient at y of a batch norm; dy may be g or y.
template <typename T>
void NormBackward(const T* g, const T* y, uint64_t rows, uint32_t channels, NormGradient gradient,
                  T* dy);

// g [n, h, w, C] <- the gradient of NormReluPool at its batch norm: dpooled scattered to the chosen
// pixels that ReLU let through; and the sums of g and of g * (y - mean), in float per row of
// pixels.
template <typename T>
void PoolSums(const T* dpooled, const uint8_t* chosen, const T* y, uint32_t n, uint32_t h,
              uint32_t w, uint32_t channels, LinearNorm norm, const float* mean, T* g, double* sum,
              double* product);

// a <- a + b.
template <typename T>
void AddTo(const T* b, uint64_t n, T* a);

// out [n, C] <- mean over `pixels` rows of each image; and its gradient.
template <typename T>
void AveragePool(const T* z, uint32_t n, uint32_t pixels, uint32_t channels, float* out);
template <typename T>
void AveragePoolBackward(const float* dout, uint32_t n, uint32_t pixels, uint32_t channels, T* dz);

}  // namespace dermis

#endif  // DERMIS_WORKER_TRAINING_RESNET_KERNELS_H_
