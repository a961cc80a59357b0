// Max pooling of NHWC maps with stride 2, where oneDNN's took a tenth of a forward pass: the
// maximum of bf16 words is taken as that of 16-bit integers, without a conversion.
#ifndef DERMIS_WORKER_PLAN_MAX_POOL_H_
#define DERMIS_WORKER_PLAN_MAX_POOL_H_

#include <cstddef>
#include <cstdint>

namespace dermis {

// 2 x 2, or 3 x 3 with one row and column of padding above and to the left.
enum class PoolWindow { kTwo, kThree };

// in: images x side x side x channels; out: half the side, rounded down. uint16_t: words of bf16.
// No NaN.
void MaxPool(PoolWindow window, size_t images, size_t side, size_t channels, const float* in,
             float* out);
void MaxPool(PoolWindow window, size_t images, size_t side, size_t channels, const uint16_t* in,
             uint16_t* out);

}  // namespace dermis

#endif  // DERMIS_WORKER_PLAN_MAX_POOL_H_
