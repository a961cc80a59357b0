// The rest of a training step as functors (worker/cuda): images in, kernels as convolutions want
// them, the last layer, the loss, dropout, and how weights follow their gradient.
#ifndef DERMIS_WORKER_CUDA_STEP_FUNCTORS_H_
#define DERMIS_WORKER_CUDA_STEP_FUNCTORS_H_

#include <cmath>
#include <cstdint>

#include <Random123/philox.h>

#include "common/host_device.h"
#include "common/philox.h"
#include "common/simd.h"
#include "worker/training/augment_pixel.h"
#include "worker/training/optimizer_elements.h"
#include "worker/training/storage.h"

namespace dermis {

// What changes from step to step: lies on the device, so that a recorded graph reads it anew.
struct DeviceStep {
  uint32_t step;
  float loss_scale;
};

// Images ----------------------------------------------------------------------------------------

// out [n, size, size, 3] <- the augmented, normalised images. Elements: n x size x size.
template <typename T>
struct AugmentImages {
  static constexpr const char* kName = "augmentation";

  const AugmentPixel* images;  // Their `out` is not used.
  uint32_t size;
  T* out;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint64_t line = i / size;
    const AugmentPixel& image = images[line / size];
    const Taps taps = image.Locate(static_cast<int>(line % size), static_cast<int>(i % size));
    float rgb[3];
    for (int c = 0; c < 3; ++c) {
      rgb[c] = AugmentPixel::Between(static_cast<float>(image.pixels[taps.top_left + c]),
                                     static_cast<float>(image.pixels[taps.top_right + c]),
                                     static_cast<float>(image.pixels[taps.bottom_left + c]),
                                     static_cast<float>(image.pixels[taps.bottom_right + c]),
                                     taps.down, taps.right);
    }
    if (image.coloured) Jitter(image.jitter, rgb[0], rgb[1], rgb[2]);
    for (int c = 0; c < 3; ++c) Store(image.Normalise(rgb[c]), out + 3 * i + c);
  }
};

// out <- in, as T. Elements: values.
template <typename T>
struct Convert {
  static constexpr const char* kName = "a conversion";

  const float* in;
  T* out;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const { Store(in[i], out + i); }
};

// out <- in. Elements: values.
struct Widen {
  static constexpr const char* kName = "a widening";

  const float* in;
  double* out;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const { out[i] = static_cast<double>(in[i]); }
};

// Kernels ---------------------------------------------------------------------------------------

// packed [O, k, k, I] <- flat [O, I, k, k]. Elements: O x I (a thread reads what lies together, its
// neighbours write what lies together).
template <typename T>
struct PackKernel {
  static constexpr const char* kName = "the packing of a kernel";

  const float* flat;
  uint32_t in, places;  // I, k * k
  T* packed;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t o = static_cast<uint32_t>(i) / in, c = static_cast<uint32_t>(i) - o * in;
    const float* const from = flat + i * places;
    T* const to = packed + uint64_t{o} * places * in + c;
    for (uint32_t place = 0; place < places; ++place) Store(from[place], to + uint64_t{place} * in);
  }
};

// And back, of its gradient.
template <typename T>
struct UnpackKernel {
  static constexpr const char* kName = "the unpacking of a kernel's gradient";

  const T* packed;
  uint32_t in, places;
  float* flat;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t o = static_cast<uint32_t>(i) / in, c = static_cast<uint32_t>(i) - o * in;
    const T* const from = packed + uint64_t{o} * places * in + c;
    float* const to = flat + i * places;
    for (uint32_t place = 0; place < places; ++place) to[place] = Load(from + uint64_t{place} * in);
  }
};

// The last layer --------------------------------------------------------------------------------

// Features as a map has them (pixel, channel) and as the weights have them (channel, pixel).
struct DenseShape {
  uint32_t features, channels, classes;

  DERMIS_HOST_DEVICE uint32_t pixels() const { return features / channels; }
  DERMIS_HOST_DEVICE uint32_t weight_at(uint32_t j) const {
    return j % channels * pixels() + j / channels;
  }
  DERMIS_HOST_DEVICE uint32_t map_at(uint32_t w) const {
    return w % pixels() * channels + w / pixels();
  }
};

inline constexpr uint32_t kDenseBlock = 32;

// partial[n][k][b] <- the part of x weight^T over 32 features. Elements: of partial.
template <typename T>
struct DensePartial {
  static constexpr const char* kName = "a last layer's sums";

  const T* x;
  const float* weight;
  DenseShape shape;
  float* partial;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t blocks = (shape.features + kDenseBlock - 1) / kDenseBlock;
    const uint32_t b = static_cast<uint32_t>(i % blocks),
                   k = static_cast<uint32_t>(i / blocks % shape.classes);
    const uint64_t n = i / blocks / shape.classes;
    const uint32_t last =
        (b + 1) * kDenseBlock < shape.features ? (b + 1) * kDenseBlock : shape.features;
    float sum = 0;
    for (uint32_t j = b * kDenseBlock; j < last; ++j) {
      sum += Load(x + n * shape.features + j) *
             weight[uint64_t{k} * shape.features + shape.weight_at(j)];
    }
    partial[i] = sum;
  }
};

// logits[n][k] <- the sum of its partials + bias. Elements: logits.
struct DenseLogits {
  static constexpr const char* kName = "a last layer";

  const float* partial;
  const float* bias;
  DenseShape shape;
  float* logits;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t blocks = (shape.features + kDenseBlock - 1) / kDenseBlock;
    float sum = 0;
    for (uint32_t b = 0; b < blocks; ++b) sum += partial[i * blocks + b];
    logits[i] = sum + bias[i % shape.classes];
  }
};

// Elements: of the weight; then, at its end, of the bias.
template <typename T>
struct DenseWeightGradient {
  static constexpr const char* kName = "a last layer's gradient";

  const T* x;
  const float* dlogits;
  uint32_t images;
  DenseShape shape;
  float* weight_gradient;
  float* bias_gradient;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint64_t weights = uint64_t{shape.features} * shape.classes;
    float sum = 0;
    if (i >= weights) {
      const uint64_t k = i - weights;
      for (uint64_t n = 0; n < images; ++n) sum += dlogits[n * shape.classes + k];
      bias_gradient[k] = sum;
      return;
    }
    const uint64_t k = i / shape.features;
    const uint32_t j = shape.map_at(static_cast<uint32_t>(i % shape.features));
    for (uint64_t n = 0; n < images; ++n) {
      sum += dlogits[n * shape.classes + k] * Load(x + n * shape.features + j);
    }
    weight_gradient[i] = sum;
  }
};

// Elements: of dx [n, features].
template <typename T>
struct DenseInputGradient {
  static constexpr const char* kName = "a last layer's backward pass";

  const float* dlogits;
  const float* weight;
  DenseShape shape;
  T* dx;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint64_t n = i / shape.features;
    const uint32_t w = shape.weight_at(static_cast<uint32_t>(i % shape.features));
    float sum = 0;
    for (uint32_t k = 0; k < shape.classes; ++k) {
      sum += dlogits[n * shape.classes + k] * weight[uint64_t{k} * shape.features + w];
    }
    Store(sum, dx + i);
  }
};

// Cross entropy of one image (worker/training/loss.h), in double. Elements: images.
struct SoftmaxRow {
  static constexpr const char* kName = "a loss";

  const float* logits;
  const uint32_t* labels;
  uint32_t classes;
  double smoothing;
  const double* class_weights;  // Null: all 1.
  const DeviceStep* step;
  float* dlogits;
  double* loss;
  uint32_t* correct;

  DERMIS_HOST_DEVICE double weight(uint32_t k) const {
    return class_weights == nullptr ? 1 : class_weights[k];
  }
  DERMIS_HOST_DEVICE double target(uint32_t k, uint32_t label) const {
    const double spread = smoothing / classes * weight(k);
    return k == label ? spread + (1 - smoothing) * weight(k) : spread;
  }

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const float* const z = logits + i * classes;
    const uint32_t label = labels[i];
    uint32_t best = 0;
    for (uint32_t k = 1; k < classes; ++k) best = z[k] > z[best] ? k : best;
    const double top = static_cast<double>(z[best]);
    double sum = 0, mass = 0, total = 0;
    for (uint32_t k = 0; k < classes; ++k) {
      sum += std::exp(static_cast<double>(z[k]) - top);
      mass += target(k, label);
    }
    const double log_sum = std::log(sum) + top;
    for (uint32_t k = 0; k < classes; ++k) {
      const double t = target(k, label);
      // A target of nothing counts nothing, however far its logit is.
      if (t != 0) total += t * (log_sum - static_cast<double>(z[k]));
      const double p = std::exp(static_cast<double>(z[k]) - top) / sum;
      dlogits[i * classes + k] =
          static_cast<float>(static_cast<double>(step->loss_scale) * (p * mass - t));
    }
    loss[i] = total;
    correct[i] = best == label;
  }
};

// DropoutMask (worker/training/seed_cnn_kernels.h) of a batch. Elements: images x units / 8.
struct DropoutKeep {
  static constexpr const char* kName = "dropout";

  uint64_t seed;
  const DeviceStep* step;
  const uint32_t* images;
  uint32_t layer, threshold, units;
  uint8_t* keep;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t blocks = units / 8, block = static_cast<uint32_t>(i % blocks);
    const uint64_t n = i / blocks;
    const r123::Philox4x32::ctr_type counter = {
        {layer << 24 | block, step->step, images[n], static_cast<uint32_t>(Purpose::kDropout)}};
    const r123::Philox4x32::key_type key = {
        {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}};
    const r123::Philox4x32::ctr_type words = r123::Philox4x32()(counter, key);
    uint8_t* const out = keep + n * units + 8 * block;
    for (int k = 0; k < 4; ++k) {
      out[2 * k] = (words.v[k] & 0xffffu) >= threshold;
      out[2 * k + 1] = (words.v[k] >> 16) >= threshold;
    }
  }
};

// Weights ---------------------------------------------------------------------------------------

enum WeightKind : uint8_t { kFrozen, kDecayed, kOther };

// Elements of all of these: parameters.
struct RmspropUpdate {
  static constexpr const char* kName = "an update by RMSprop";

  RmspropFactors factors;
  float lambda[3];  // By WeightKind.
  const uint8_t* kinds;
  const float* gradient;
  float* weights;
  float* square;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    if (kinds[i] == kFrozen) return;
    RmspropElement(factors, lambda[kinds[i]], gradient[i], weights[i], square[i]);
  }
};

struct SgdUpdate {
  static constexpr const char* kName = "an update by SGD";

  float rate, momentum;
  bool nesterov;
  float lambda[3];
  const uint8_t* kinds;
  const float* gradient;
  float* weights;
  float* buffer;  // Null: no momentum.

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    if (kinds[i] == kFrozen) return;
    const float l = lambda[kinds[i]];
    if (buffer == nullptr) {
      SgdElement(rate, l, gradient[i], weights[i]);
    } else if (nesterov) {
      NesterovElement(rate, momentum, l, gradient[i], weights[i], buffer[i]);
    } else {
      MomentumElement(rate, momentum, l, gradient[i], weights[i], buffer[i]);
    }
  }
};

struct AdamwUpdate {
  static constexpr const char* kName = "an update by AdamW";

  AdamwFactors factors;
  float shrink[3];
  const uint8_t* kinds;
  const float* gradient;
  float* weights;
  float* m;
  float* v;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    if (kinds[i] == kFrozen) return;
    AdamwElement(factors, shrink[kinds[i]], gradient[i], weights[i], m[i], v[i]);
  }
};

struct BlendUpdate {
  static constexpr const char* kName = "a moving average";

  float share;
  const float* now;
  float* average;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const { BlendElement(share, now[i], average[i]); }
};

// Thread t's sum of squares of elements t, t + threads, ... Elements: threads.
struct SquareSums {
  static constexpr const char* kName = "sums of squares";

  const float* values;
  uint64_t n, threads;
  double* out;

  DERMIS_HOST_DEVICE void operator()(uint64_t t) const {
    double sum = 0;
    for (uint64_t i = t; i < n; i += threads) {
      const double v = static_cast<double>(values[i]);
      sum += v * v;
    }
    out[t] = sum;
  }
};

// ClipNorm's second half. Elements: values.
struct ClipScale {
  static constexpr const char* kName = "gradient clipping";

  const double* square;  // Of the norm.
  double max_norm;
  float* values;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const double factor = max_norm / (std::sqrt(*square) + 1e-6);
    if (factor < 1) values[i] *= static_cast<float>(factor);
  }
};

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_STEP_FUNCTORS_H_
