// What a network does between its convolutions, forward and backward, as functors (worker/cuda):
// the GPU's counterpart of worker/training/{resnet,seed_cnn}_kernels.h, with the same formulas and
// the same order within a pixel. Fused so that each map is read as seldom as possible: these
// kernels are bound by memory.
//
// Maps are NHWC; T is float or Bf16 (storage only: arithmetic is in float). Element i of a functor
// over maps is a group of eight neighbouring channels of one pixel (16 or 32 bytes: whole vector
// loads); channels are a power of two, at least 8.
//
// Sums over pixels never use atomics: SumRows adds up blocks of rows (in float, then in double),
// FoldSums kFold blocks at a time until no more are left, and whoever needs the sums adds up those,
// always in row order. Which rows make a block follows from the number of rows alone.
#ifndef DERMIS_WORKER_CUDA_MAP_FUNCTORS_H_
#define DERMIS_WORKER_CUDA_MAP_FUNCTORS_H_

#include <cmath>
#include <cstdint>

#include "common/host_device.h"
#include "common/simd.h"
#include "worker/training/activations.h"
#include "worker/training/resnet_kernels.h"
#include "worker/training/storage.h"

namespace dermis {

inline constexpr uint32_t kGroup = 8;

template <typename T>
struct alignas(16) Eight {
  T v[kGroup];
};

// As they lie in memory: what is fetched ahead takes no more registers than it must.
template <typename T>
DERMIS_INLINE Eight<T> Fetch8(const T* p) {
  return *reinterpret_cast<const Eight<T>*>(p);
}
template <typename T>
DERMIS_INLINE void Load8(const T* p, float (&out)[kGroup]) {
  const Eight<T> eight = Fetch8(p);
  for (uint32_t k = 0; k < kGroup; ++k) out[k] = Load(&eight.v[k]);
}
template <typename T>
DERMIS_INLINE void Store8(const float (&in)[kGroup], T* p) {
  Eight<T> eight;
  for (uint32_t k = 0; k < kGroup; ++k) Store(in[k], &eight.v[k]);
  *reinterpret_cast<Eight<T>*>(p) = eight;
}
DERMIS_INLINE void LoadBytes8(const uint8_t* p, uint8_t (&out)[kGroup]) {
  uint64_t bytes;
  std::memcpy(&bytes, p, kGroup);
  for (uint32_t k = 0; k < kGroup; ++k) out[k] = static_cast<uint8_t>(bytes >> (8 * k));
}
DERMIS_INLINE void StoreBytes8(const uint8_t (&in)[kGroup], uint8_t* p) {
  uint64_t bytes = 0;
  for (uint32_t k = 0; k < kGroup; ++k) bytes |= static_cast<uint64_t>(in[k]) << (8 * k);
  std::memcpy(p, &bytes, kGroup);
}
// What a value becomes that is stored and read again.
template <typename T>
DERMIS_INLINE float Rounded(float v) {
  T stored;
  Store(v, &stored);
  return Load(&stored);
}

// Channels / 8 = 1 << log: element i is group i % groups of row i / groups.
struct Groups {
  uint32_t log = 0;

  DERMIS_HOST_DEVICE uint64_t row(uint64_t i) const { return i >> log; }
  DERMIS_HOST_DEVICE uint32_t channel(uint64_t i) const {
    return static_cast<uint32_t>(i & ((uint64_t{1} << log) - 1)) * kGroup;
  }
  DERMIS_HOST_DEVICE uint32_t channels() const { return kGroup << log; }
};

// Sums over rows --------------------------------------------------------------------------------

inline constexpr uint32_t kFold = 32;
// Of `rows`: few, so that many threads share the work, but not so few that writing the sums costs
// as much as reading the map.
DERMIS_HOST_DEVICE inline uint64_t RowsOfBlock(uint64_t rows) {
  return rows > uint64_t{1} << 17 ? 64 : 32;
}
DERMIS_HOST_DEVICE inline uint64_t BlocksOf(uint64_t rows) {
  return (rows + RowsOfBlock(rows) - 1) / RowsOfBlock(rows);
}

#ifdef __CUDA_ARCH__
#define DERMIS_UNROLL _Pragma("unroll")
#else
#define DERMIS_UNROLL
#endif

// Terms say what is added up: Prepare(channel) gives a channel group's constants, Fetch(row,
// channel) what a row's terms are made of, and Add(constants, fetched, row, channel, s, q) adds
// them to both sums, and may write. Rows are fetched ahead of what is written: a kernel waits for
// memory, not for each row of it.
// partial: BlocksOf(rows) x 2 channels doubles: first sums, then products. Elements: blocks x
// groups.
template <typename Terms>
struct SumRows {
  static constexpr const char* kName = "sums over rows";
  static constexpr uint32_t kAhead = sizeof(typename Terms::Row) <= 80 ? 4 : 2;

  Terms terms;
  uint64_t rows;
  Groups groups;
  double* partial;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint64_t block = groups.row(i), length = RowsOfBlock(rows);
    const uint32_t channel = groups.channel(i);
    const uint64_t first = block * length;
    const uint64_t last = first + length < rows ? first + length : rows;
    const typename Terms::Constants constants = terms.Prepare(channel);
    float s[kGroup] = {}, q[kGroup] = {};
    for (uint64_t row = first; row < last; row += kAhead) {
      typename Terms::Row fetched[kAhead];
      DERMIS_UNROLL
      for (uint32_t u = 0; u < kAhead; ++u) {
        if (row + u < last) fetched[u] = terms.Fetch(row + u, channel);
      }
      DERMIS_UNROLL
      for (uint32_t u = 0; u < kAhead; ++u) {
        if (row + u < last) terms.Add(constants, fetched[u], row + u, channel, s, q);
      }
    }
    double* const out = partial + block * 2 * groups.channels() + channel;
    for (uint32_t k = 0; k < kGroup; ++k) {
      out[k] = static_cast<double>(s[k]);
      out[groups.channels() + k] = static_cast<double>(q[k]);
    }
  }
};

// The sum of at most kFold numbers that lie `stride` apart, in order: all are asked for before the
// first is added.
DERMIS_HOST_DEVICE inline double SumOfFew(const double* values, uint32_t count, uint64_t stride) {
  double few[kFold];
  DERMIS_UNROLL
  for (uint32_t k = 0; k < kFold; ++k) few[k] = k < count ? values[k * stride] : 0.0;
  double sum = 0;
  DERMIS_UNROLL
  for (uint32_t k = 0; k < kFold; ++k) sum += few[k];
  return sum;
}

// out[b][w] = sum of in[kFold b ..][w]: in is count x width. Elements: of out.
struct FoldSums {
  static constexpr const char* kName = "a fold of sums";

  const double* in;
  uint64_t count;
  uint32_t width;
  double* out;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint64_t block = i / width, w = i % width, first = block * kFold;
    const uint32_t few = static_cast<uint32_t>(count - first < kFold ? count - first : kFold);
    out[i] = SumOfFew(in + first * width + w, few, width);
  }
};

// What FoldSums or SumRows left: kFold x 2 channels at most.
struct FoldedSums {
  const double* values;
  uint32_t count;
  uint32_t channels;

  DERMIS_HOST_DEVICE double sum(uint32_t c) const {
    return SumOfFew(values + c, count, 2 * channels);
  }
  DERMIS_HOST_DEVICE double product(uint32_t c) const { return sum(channels + c); }
};

// g alone: the gradient of a convolution's bias.
template <typename T>
struct PlainTerms {
  const T* g;
  uint32_t channels;

  struct Constants {};
  struct Row {
    Eight<T> g;
  };
  DERMIS_HOST_DEVICE Constants Prepare(uint32_t) const { return {}; }
  DERMIS_HOST_DEVICE Row Fetch(uint64_t row, uint32_t c) const {
    return {Fetch8(g + row * channels + c)};
  }
  DERMIS_HOST_DEVICE void Add(const Constants&, const Row& at, uint64_t, uint32_t,
                              float (&s)[kGroup], float (&)[kGroup]) const {
    for (uint32_t k = 0; k < kGroup; ++k) s[k] += Load(&at.g.v[k]);
  }
};

// out[c] = the sum of channel c. Elements: channels.
struct TotalSums {
  static constexpr const char* kName = "totals";

  FoldedSums sums;
  float* out;

  DERMIS_HOST_DEVICE void operator()(uint64_t c) const {
    out[c] = static_cast<float>(sums.sum(static_cast<uint32_t>(c)));
  }
};

// Batch norm ------------------------------------------------------------------------------------

// Moments about the first row's value (a channel that hardly varies keeps its variance), which goes
// to `pivot`.
template <typename T>
struct MomentTerms {
  const T* y;
  uint32_t channels;
  float* pivot;

  struct Constants {
    float pivot[kGroup];
  };
  struct Row {
    Eight<T> y;
  };
  DERMIS_HOST_DEVICE Constants Prepare(uint32_t c) const {
    Constants constants;
    Load8(y + c, constants.pivot);
    return constants;
  }
  DERMIS_HOST_DEVICE Row Fetch(uint64_t row, uint32_t c) const {
    return {Fetch8(y + row * channels + c)};
  }
  DERMIS_HOST_DEVICE void Add(const Constants& constants, const Row& at, uint64_t row, uint32_t c,
                              float (&s)[kGroup], float (&q)[kGroup]) const {
    for (uint32_t k = 0; k < kGroup; ++k) {
      const float d = Load(&at.y.v[k]) - constants.pivot[k];
      s[k] += d;
      q[k] += d * d;
    }
    if (row == 0) Store8(constants.pivot, pivot + c);
  }
};

// The same of a <- ELU(y).
template <typename T>
struct EluMomentTerms {
  const T* y;
  T* a;
  uint32_t channels;
  float* pivot;

  using Constants = typename MomentTerms<T>::Constants;
  using Row = typename MomentTerms<T>::Row;
  DERMIS_HOST_DEVICE Constants Prepare(uint32_t c) const {
    Constants constants;
    Load8(y + c, constants.pivot);
    for (float& v : constants.pivot) v = Rounded<T>(Elu(v));
    return constants;
  }
  DERMIS_HOST_DEVICE Row Fetch(uint64_t row, uint32_t c) const {
    return {Fetch8(y + row * channels + c)};
  }
  DERMIS_HOST_DEVICE void Add(const Constants& constants, const Row& at, uint64_t row, uint32_t c,
                              float (&s)[kGroup], float (&q)[kGroup]) const {
    float v[kGroup];
    for (uint32_t k = 0; k < kGroup; ++k) {
      v[k] = Rounded<T>(Elu(Load(&at.y.v[k])));
      const float d = v[k] - constants.pivot[k];
      s[k] += d;
      q[k] += d * d;
    }
    Store8(v, a + row * channels + c);
    if (row == 0) Store8(constants.pivot, pivot + c);
  }
};

// A layer's batch norm, by channel, on the device.
struct NormMemory {
  const float* gamma;
  const float* beta;
  float* pivot;
  float* scale;
  float* shift;
  float* mean;
  double* inverse_deviation;
  float* k1;
  float* k2;
  float* k3;

  DERMIS_HOST_DEVICE LinearNorm linear() const { return {scale, shift}; }
  DERMIS_HOST_DEVICE NormGradient gradient() const { return {mean, k1, k2, k3}; }
};

// From moments: the batch's mean and variance, and the norm. Elements: channels.
struct SetBatchNorm {
  static constexpr const char* kName = "a batch norm's statistics";

  FoldedSums sums;
  NormMemory norm;
  double rows, epsilon;
  double* batch_mean;
  double* batch_variance;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t c = static_cast<uint32_t>(i);
    const double m = sums.sum(c) / rows;
    const double v = sums.product(c) / rows - m * m;
    const double mean = static_cast<double>(norm.pivot[c]) + m, variance = v < 0 ? 0 : v;
    batch_mean[c] = mean;
    batch_variance[c] = variance;
    const double r = 1 / sqrt(variance + epsilon);
    const double s = static_cast<double>(norm.gamma[c]) * r;
    norm.inverse_deviation[c] = r;
    norm.mean[c] = static_cast<float>(mean);
    norm.scale[c] = static_cast<float>(s);
    norm.shift[c] = static_cast<float>(static_cast<double>(norm.beta[c]) - s * mean);
  }
};

// The norm of running statistics. Elements: channels.
struct SetRunningNorm {
  static constexpr const char* kName = "a batch norm in evaluation form";

  NormMemory norm;
  const float* running_mean;
  const float* running_variance;
  double epsilon;

  DERMIS_HOST_DEVICE void operator()(uint64_t c) const {
    const double s = static_cast<double>(norm.gamma[c]) /
                     sqrt(static_cast<double>(running_variance[c]) + epsilon);
    norm.scale[c] = static_cast<float>(s);
    norm.shift[c] = static_cast<float>(static_cast<double>(norm.beta[c]) -
                                       s * static_cast<double>(running_mean[c]));
  }
};

// From the sums of g and g (y - mean): the gradients of scale and shift, and the factors of the
// gradient at y. sum_of: whose sum of g it is (a shortcut's is the branch's). Elements: channels.
struct SetNormGradient {
  static constexpr const char* kName = "a batch norm's gradient";

  FoldedSums sum_of, product_of;
  NormMemory norm;
  double rows;
  float* gamma_gradient;
  float* beta_gradient;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t c = static_cast<uint32_t>(i);
    const double sum = sum_of.sum(c), product = product_of.product(c);
    const double r = norm.inverse_deviation[c];
    const double s = static_cast<double>(norm.gamma[c]) * r;
    beta_gradient[c] = static_cast<float>(sum);
    gamma_gradient[c] = static_cast<float>(product * r);
    norm.k1[c] = static_cast<float>(s);
    norm.k2[c] = static_cast<float>(s * sum / rows);
    norm.k3[c] = static_cast<float>(s * r * r * product / rows);
  }
};

// z <- y scale + shift, + shortcut or + its norm, ReLU: each where it is wanted. z may be y.
template <typename T>
struct NormMap {
  static constexpr const char* kName = "a batch norm";

  const T* y;
  LinearNorm norm;
  const T* shortcut;         // May be null.
  LinearNorm shortcut_norm;  // scale null: the shortcut itself.
  bool relu;
  T* z;
  Groups groups;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t c = groups.channel(i);
    float v[kGroup], scale[kGroup], shift[kGroup];
    Load8(y + i * kGroup, v);
    Load8(norm.scale + c, scale);
    Load8(norm.shift + c, shift);
    for (uint32_t k = 0; k < kGroup; ++k) v[k] = v[k] * scale[k] + shift[k];
    if (shortcut != nullptr) {
      float b[kGroup];
      Load8(shortcut + i * kGroup, b);
      if (shortcut_norm.scale != nullptr) {
        Load8(shortcut_norm.scale + c, scale);
        Load8(shortcut_norm.shift + c, shift);
        for (uint32_t k = 0; k < kGroup; ++k) b[k] = b[k] * scale[k] + shift[k];
      }
      for (uint32_t k = 0; k < kGroup; ++k) v[k] += b[k];
    }
    if (relu) {
      for (uint32_t k = 0; k < kGroup; ++k) v[k] = Relu(v[k]);
    }
    Store8(v, z + i * kGroup);
  }
};

// z <- ELU(y) scale + shift (evaluation). z may be y.
template <typename T>
struct EluNormMap {
  static constexpr const char* kName = "an ELU and batch norm";

  const T* y;
  LinearNorm norm;
  T* z;
  Groups groups;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t c = groups.channel(i);
    float v[kGroup], scale[kGroup], shift[kGroup];
    Load8(y + i * kGroup, v);
    Load8(norm.scale + c, scale);
    Load8(norm.shift + c, shift);
    for (uint32_t k = 0; k < kGroup; ++k) v[k] = Elu(v[k]) * scale[k] + shift[k];
    Store8(v, z + i * kGroup);
  }
};

// What the terms of a gradient read of their channels: the norm, where they need it, and the mean.
struct NormConstants {
  float scale[kGroup], shift[kGroup], mean[kGroup];

  DERMIS_HOST_DEVICE static NormConstants Of(LinearNorm norm, const float* mean, uint32_t c) {
    NormConstants constants = {};
    if (norm.scale != nullptr) {
      Load8(norm.scale + c, constants.scale);
      Load8(norm.shift + c, constants.shift);
    }
    Load8(mean + c, constants.mean);
    return constants;
  }
  // Whether ReLU let y through.
  DERMIS_HOST_DEVICE bool Through(float y, uint32_t k) const {
    return y * scale[k] + shift[k] > 0.0f;
  }
};

// g = dz where ReLU let its norm of y through.
template <typename T>
struct ReluNormTerms {
  const T* dz;
  const T* y;
  LinearNorm norm;
  const float* mean;
  uint32_t channels;

  using Constants = NormConstants;
  struct Row {
    Eight<T> dz, y;
  };
  DERMIS_HOST_DEVICE Constants Prepare(uint32_t c) const {
    return NormConstants::Of(norm, mean, c);
  }
  DERMIS_HOST_DEVICE Row Fetch(uint64_t row, uint32_t c) const {
    return {Fetch8(dz + row * channels + c), Fetch8(y + row * channels + c)};
  }
  DERMIS_HOST_DEVICE void Add(const Constants& constants, const Row& at, uint64_t, uint32_t,
                              float (&s)[kGroup], float (&q)[kGroup]) const {
    for (uint32_t k = 0; k < kGroup; ++k) {
      const float v = Load(&at.y.v[k]);
      const float g = constants.Through(v, k) ? Load(&at.dz.v[k]) : 0.0f;
      s[k] += g;
      q[k] += g * (v - constants.mean[k]);
    }
  }
};

// A block's end: g <- (da + db) where z > 0. db may be null; g may be da.
template <typename T>
struct JoinTerms {
  const T* da;
  const T* db;
  const T* z;
  const T* y;
  const float* mean;
  T* g;
  uint32_t channels;

  using Constants = NormConstants;
  struct Row {
    Eight<T> da, db, z, y;
  };
  DERMIS_HOST_DEVICE Constants Prepare(uint32_t c) const { return NormConstants::Of({}, mean, c); }
  DERMIS_HOST_DEVICE Row Fetch(uint64_t row, uint32_t c) const {
    const uint64_t at = row * channels + c;
    // Without db, z stands in its place and is not read.
    return {Fetch8(da + at), Fetch8((db != nullptr ? db : z) + at), Fetch8(z + at), Fetch8(y + at)};
  }
  DERMIS_HOST_DEVICE void Add(const Constants& constants, const Row& at, uint64_t row, uint32_t c,
                              float (&s)[kGroup], float (&q)[kGroup]) const {
    float d[kGroup];
    for (uint32_t k = 0; k < kGroup; ++k) {
      d[k] = Load(&at.da.v[k]);
      if (db != nullptr) d[k] += Load(&at.db.v[k]);
      // Sums of what is stored: the branch and the shortcut see the same numbers.
      d[k] = Rounded<T>(Load(&at.z.v[k]) > 0.0f ? d[k] : 0.0f);
      s[k] += d[k];
      q[k] += d[k] * (Load(&at.y.v[k]) - constants.mean[k]);
    }
    Store8(d, g + row * channels + c);
  }
};

// g as it stands.
template <typename T>
struct NormTerms {
  const T* g;
  const T* y;
  const float* mean;
  uint32_t channels;

  using Constants = NormConstants;
  struct Row {
    Eight<T> g, y;
  };
  DERMIS_HOST_DEVICE Constants Prepare(uint32_t c) const { return NormConstants::Of({}, mean, c); }
  DERMIS_HOST_DEVICE Row Fetch(uint64_t row, uint32_t c) const {
    return {Fetch8(g + row * channels + c), Fetch8(y + row * channels + c)};
  }
  DERMIS_HOST_DEVICE void Add(const Constants& constants, const Row& at, uint64_t, uint32_t,
                              float (&s)[kGroup], float (&q)[kGroup]) const {
    for (uint32_t k = 0; k < kGroup; ++k) {
      const float d = Load(&at.g.v[k]);
      s[k] += d;
      q[k] += d * (Load(&at.y.v[k]) - constants.mean[k]);
    }
  }
};

// dy <- k1 g - k2 - k3 (y - mean): g where `relu_norm` (may be null) let y through, and times ELU's
// slope at y where `elu`. dy may be g or y.
template <typename T>
struct NormBackwardMap {
  static constexpr const char* kName = "a batch norm's backward pass";

  const T* g;
  const T* y;
  LinearNorm relu_norm;
  bool elu;
  NormGradient gradient;
  T* dy;
  Groups groups;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t c = groups.channel(i);
    float d[kGroup], v[kGroup], mean[kGroup], k1[kGroup], k2[kGroup], k3[kGroup];
    Load8(g + i * kGroup, d);
    Load8(y + i * kGroup, v);
    Load8(gradient.mean + c, mean);
    Load8(gradient.k1 + c, k1);
    Load8(gradient.k2 + c, k2);
    Load8(gradient.k3 + c, k3);
    if (relu_norm.scale != nullptr) {
      float scale[kGroup], shift[kGroup];
      Load8(relu_norm.scale + c, scale);
      Load8(relu_norm.shift + c, shift);
      for (uint32_t k = 0; k < kGroup; ++k) d[k] = v[k] * scale[k] + shift[k] > 0.0f ? d[k] : 0.0f;
    }
    for (uint32_t k = 0; k < kGroup; ++k) {
      d[k] = k1[k] * d[k] - k2[k] - k3[k] * (v[k] - mean[k]);
      if (elu) d[k] *= EluSlope(v[k]);
    }
    Store8(d, dy + i * kGroup);
  }
};

// Pools -----------------------------------------------------------------------------------------

// The stem's end: maximum over 3 x 3 windows (stride 2, padding 1) of ReLU(norm(y)); height and
// width even. chosen: 0..8, the first of equals. Elements: of the pooled map.
template <typename T>
struct NormReluPool3 {
  static constexpr const char* kName = "a stem's pool";

  const T* y;
  LinearNorm norm;
  uint32_t height, width;  // Of y.
  T* pooled;
  uint8_t* chosen;  // May be null.
  Groups groups;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t c = groups.channel(i), channels = groups.channels();
    const uint32_t pixel = static_cast<uint32_t>(groups.row(i)), ow = width / 2, oh = height / 2;
    const uint32_t line = pixel / ow, ox = pixel - line * ow;
    const uint64_t image = line / oh;
    const uint32_t oy = line % oh;
    float scale[kGroup], shift[kGroup], best[kGroup];
    uint8_t index[kGroup];
    Load8(norm.scale + c, scale);
    Load8(norm.shift + c, shift);
    // Below what ReLU gives, so that the first pixel is taken.
    for (uint32_t k = 0; k < kGroup; ++k) best[k] = -1.0f, index[k] = 0;
    // Only the first row and column of windows reach over the border.
    for (uint32_t ky = oy == 0 ? 1 : 0; ky < 3; ++ky) {
      for (uint32_t kx = ox == 0 ? 1 : 0; kx < 3; ++kx) {
        float v[kGroup];
        Load8(y + ((image * height + 2 * oy + ky - 1) * width + 2 * ox + kx - 1) * channels + c, v);
        for (uint32_t k = 0; k < kGroup; ++k) {
          v[k] = Relu(v[k] * scale[k] + shift[k]);
          const bool higher = v[k] > best[k] || v[k] != v[k];
          index[k] = higher ? static_cast<uint8_t>(3 * ky + kx) : index[k];
          best[k] = higher ? v[k] : best[k];
        }
      }
    }
    Store8(best, pooled + i * kGroup);
    if (chosen != nullptr) StoreBytes8(index, chosen + i * kGroup);
  }
};

// g <- the gradient of NormReluPool3 at its norm: each pixel gathers from the windows that chose
// it, so nothing is scattered. db may be null: the gradient is dpooled + db.
template <typename T>
struct Pool3Terms {
  const T* dpooled;
  const T* db;
  const uint8_t* chosen;
  const T* y;
  LinearNorm norm;
  const float* mean;
  uint32_t height, width;  // Of y.
  T* g;
  uint32_t channels;

  using Constants = NormConstants;
  struct Row {
    Eight<T> y;
    float d[kGroup];  // The gathered gradient.
  };
  DERMIS_HOST_DEVICE Constants Prepare(uint32_t c) const {
    return NormConstants::Of(norm, mean, c);
  }
  DERMIS_HOST_DEVICE Row Fetch(uint64_t row, uint32_t c) const {
    // A map has fewer than 2^32 pixels: 64-bit division is slow on a GPU.
    const uint32_t pixel = static_cast<uint32_t>(row), line = pixel / width;
    const uint32_t px = pixel - line * width, image = line / height, py = line - image * height;
    const uint32_t oh = height / 2, ow = width / 2;
    Row at = {Fetch8(y + row * channels + c), {}};
    // Windows that hold this pixel: two in each direction where it lies odd (the second only within
    // the map), else one.
    DERMIS_UNROLL
    for (uint32_t window = 0; window < 4; ++window) {
      const uint32_t down = window / 2, right = window % 2;
      const uint32_t oy = py / 2 + down, ox = px / 2 + right;
      if (down > py % 2 || right > px % 2 || oy >= oh || ox >= ow) continue;
      const uint32_t me = 3 * (py + 1 - 2 * oy) + (px + 1 - 2 * ox);
      const uint64_t from = (uint64_t{image * oh + oy} * ow + ox) * channels + c;
      float add[kGroup];
      uint8_t index[kGroup];
      Load8(dpooled + from, add);
      LoadBytes8(chosen + from, index);
      if (db != nullptr) {
        float b[kGroup];
        Load8(db + from, b);
        for (uint32_t k = 0; k < kGroup; ++k) add[k] += b[k];
      }
      for (uint32_t k = 0; k < kGroup; ++k) at.d[k] += index[k] == me ? add[k] : 0.0f;
    }
    return at;
  }
  DERMIS_HOST_DEVICE void Add(const Constants& constants, const Row& at, uint64_t row, uint32_t c,
                              float (&s)[kGroup], float (&q)[kGroup]) const {
    float d[kGroup];
    for (uint32_t k = 0; k < kGroup; ++k) {
      const float v = Load(&at.y.v[k]);
      d[k] = Rounded<T>(constants.Through(v, k) ? at.d[k] : 0.0f);
      s[k] += d[k];
      q[k] += d[k] * (v - constants.mean[k]);
    }
    Store8(d, g + row * channels + c);
  }
};

// dropout(maximum over 2 x 2 windows of norm(a)); norm.scale null: of a itself. keep null: no
// dropout. chosen: 0..3 or kDropped. Elements: of the pooled map.
template <typename T>
struct NormPool2 {
  static constexpr const char* kName = "a pool";

  const T* a;
  LinearNorm norm;
  uint32_t width;  // Of a; its height is even, so images need no telling apart.
  const uint8_t* keep;
  float keep_scale;
  T* pooled;
  uint8_t* chosen;  // May be null.
  Groups groups;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t c = groups.channel(i), channels = groups.channels();
    const uint32_t pixel = static_cast<uint32_t>(groups.row(i)), line = pixel / (width / 2);
    const uint64_t x = pixel - line * (width / 2);
    const T* const top = a + (uint64_t{line} * 2 * width + 2 * x) * channels + c;
    float best[kGroup], scale[kGroup], shift[kGroup];
    uint8_t index[kGroup] = {};
    for (uint32_t k = 0; k < kGroup; ++k) scale[k] = 1, shift[k] = 0;
    if (norm.scale != nullptr) {
      Load8(norm.scale + c, scale);
      Load8(norm.shift + c, shift);
    }
    for (uint32_t place = 0; place < 4; ++place) {
      float v[kGroup];
      Load8(top + (place / 2 * uint64_t{width} + place % 2) * channels, v);
      for (uint32_t k = 0; k < kGroup; ++k) {
        v[k] = v[k] * scale[k] + shift[k];
        const bool higher = place == 0 || v[k] > best[k];
        index[k] = higher ? static_cast<uint8_t>(place) : index[k];
        best[k] = higher ? v[k] : best[k];
      }
    }
    if (keep != nullptr) {
      uint8_t kept[kGroup];
      LoadBytes8(keep + i * kGroup, kept);
      for (uint32_t k = 0; k < kGroup; ++k) {
        index[k] = kept[k] != 0 ? index[k] : kDropped;
        best[k] = kept[k] != 0 ? best[k] * keep_scale : 0.0f;
      }
    }
    Store8(best, pooled + i * kGroup);
    if (chosen != nullptr) StoreBytes8(index, chosen + i * kGroup);
  }
};

// Rows are those of the pooled map: g is not zero at its chosen pixels alone.
template <typename T>
struct Pool2Terms {
  const T* dpooled;
  const uint8_t* chosen;
  const T* a;
  uint32_t width;  // Of a.
  float keep_scale;
  const float* mean;
  uint32_t channels;

  using Constants = NormConstants;
  struct Row {
    Eight<T> d, a[4];
    uint8_t index[kGroup];
  };
  DERMIS_HOST_DEVICE Constants Prepare(uint32_t c) const { return NormConstants::Of({}, mean, c); }
  DERMIS_HOST_DEVICE Row Fetch(uint64_t row, uint32_t c) const {
    const uint32_t pixel = static_cast<uint32_t>(row), line = pixel / (width / 2);
    const uint64_t x = pixel - line * (width / 2);
    const T* const top = a + (uint64_t{line} * 2 * width + 2 * x) * channels + c;
    Row at;
    at.d = Fetch8(dpooled + row * channels + c);
    LoadBytes8(chosen + row * channels + c, at.index);
    DERMIS_UNROLL
    for (uint32_t place = 0; place < 4; ++place) {
      at.a[place] = Fetch8(top + (place / 2 * uint64_t{width} + place % 2) * channels);
    }
    return at;
  }
  DERMIS_HOST_DEVICE void Add(const Constants& constants, const Row& at, uint64_t, uint32_t,
                              float (&s)[kGroup], float (&q)[kGroup]) const {
    for (uint32_t k = 0; k < kGroup; ++k) {
      const uint8_t index = at.index[k];
      const float a0 = Load(&at.a[0].v[k]), a1 = Load(&at.a[1].v[k]);
      const float a2 = Load(&at.a[2].v[k]), a3 = Load(&at.a[3].v[k]);
      const float upper = index == 1 ? a1 : a0, lower = index == 3 ? a3 : a2;
      const float g = index == kDropped ? 0.0f : Load(&at.d.v[k]) * keep_scale;
      s[k] += g;
      q[k] += g * ((index >= 2 ? lower : upper) - constants.mean[k]);
    }
  }
};

// dy <- (k1 g - k2 - k3 (a - mean)) ELU'(a), g being dpooled at the chosen pixels. Elements: of a.
template <typename T>
struct Pool2NormEluBackward {
  static constexpr const char* kName = "a pool's backward pass";

  const T* dpooled;
  const uint8_t* chosen;
  const T* a;
  uint32_t width;  // Of a.
  float keep_scale;
  NormGradient gradient;
  T* dy;
  Groups groups;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t c = groups.channel(i), channels = groups.channels();
    const uint32_t pixel = static_cast<uint32_t>(groups.row(i)), line = pixel / width;
    const uint32_t x = pixel - line * width;
    const uint64_t at = (uint64_t{line / 2} * (width / 2) + x / 2) * channels + c;
    const uint8_t me = static_cast<uint8_t>(line % 2 * 2 + x % 2);
    float d[kGroup], v[kGroup];
    uint8_t index[kGroup];
    Load8(dpooled + at, d);
    LoadBytes8(chosen + at, index);
    Load8(a + i * kGroup, v);
    for (uint32_t k = 0; k < kGroup; ++k) {
      const float g = index[k] == me ? d[k] * keep_scale : 0.0f;
      const float da = gradient.k1[c + k] * g - gradient.k2[c + k] -
                       gradient.k3[c + k] * (v[k] - gradient.mean[c + k]);
      d[k] = da * EluSlope(v[k]);
    }
    Store8(d, dy + i * kGroup);
  }
};

// out [n, channels] <- mean over `pixels` of each image. Elements: n x groups.
template <typename T>
struct AveragePoolMap {
  static constexpr const char* kName = "an average pool";

  const T* z;
  uint32_t pixels;
  float* out;
  Groups groups;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint32_t c = groups.channel(i), channels = groups.channels();
    const T* const image = z + groups.row(i) * pixels * channels + c;
    float sum[kGroup] = {};
    for (uint32_t p = 0; p < pixels; ++p) {
      float v[kGroup];
      Load8(image + uint64_t{p} * channels, v);
      for (uint32_t k = 0; k < kGroup; ++k) sum[k] += v[k];
    }
    for (uint32_t k = 0; k < kGroup; ++k) sum[k] /= static_cast<float>(pixels);
    Store8(sum, out + i * kGroup);
  }
};

// dz <- dout / pixels. Elements: of dz.
template <typename T>
struct AveragePoolBackwardMap {
  static constexpr const char* kName = "an average pool's backward pass";

  const float* dout;
  uint32_t pixels;
  T* dz;
  Groups groups;

  DERMIS_HOST_DEVICE void operator()(uint64_t i) const {
    const uint64_t image = groups.row(i) / pixels;
    const float share = 1.0f / static_cast<float>(pixels);
    float v[kGroup];
    Load8(dout + image * groups.channels() + groups.channel(i), v);
    for (uint32_t k = 0; k < kGroup; ++k) v[k] *= share;
    Store8(v, dz + i * kGroup);
  }
};

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_MAP_FUNCTORS_H_
