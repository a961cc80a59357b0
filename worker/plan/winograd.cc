#include "worker/plan/winograd.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/synchronization/mutex.h"

#include "common/digest.h"
#include "worker/plan/aligned.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define DERMIS_HAS_WINOGRAD 1
#define DERMIS_WIDE __attribute__((target("avx512f")))
#define DERMIS_WIDE_INLINE inline __attribute__((always_inline, target("avx512f")))
#endif

namespace dermis {
namespace {

constexpr size_t kTile = 4, kPatch = 6, kProducts = kPatch * kPatch;
// Tiles that are worked on together: each group reads all weights once, and that many make little
// of it.
constexpr size_t kGroup = 64;
// Of the matrix product's inner loop: tiles, and output channels. All 24 sums stay in registers.
constexpr size_t kRows = 6, kColumns = 64;
// Floats of a line of the caches, and of a vector.
constexpr size_t kLine = kCacheLine / sizeof(float);
// Between the 36 matrices, so that they do not all fall on the same lines of the first cache.
constexpr size_t kGap = kLine;

// The points.
constexpr float kA = 0.625f, kB = 1.5f;
constexpr float kA2 = kA * kA, kB2 = kB * kB;

// G: row i is (1, p, p^2) over the product of p's differences to the other points.
constexpr std::array<std::array<double, 3>, kPatch> FilterTransform() {
  constexpr double points[kPatch - 1] = {0, kA, -kA, kB, -kB};
  std::array<std::array<double, 3>, kPatch> g = {};
  for (size_t i = 0; i + 1 < kPatch; ++i) {
    double product = 1;
    for (size_t j = 0; j + 1 < kPatch; ++j) {
      if (j != i) product *= points[i] - points[j];
    }
    g[i] = {1 / product, points[i] / product, points[i] * points[i] / product};
  }
  g[kPatch - 1] = {0, 0, 1};
  return g;
}

}  // namespace

// values[i * 6 + j][out / 64][in][64]: (G g G')[i][j].
struct WinogradConvolution::Weights {
  Weights(size_t in, size_t out, const std::vector<float>& weight)
      : storage(kProducts * in * out + kLine), values(AlignedIn(storage)) {
    constexpr auto kG = FilterTransform();
    for (size_t o = 0; o < out; ++o) {
      for (size_t c = 0; c < in; ++c) {
        const float* const g = weight.data() + (o * in + c) * 9;
        double rows[kPatch][3];
        for (size_t i = 0; i < kPatch; ++i) {
          for (size_t x = 0; x < 3; ++x) {
            rows[i][x] = kG[i][0] * g[x] + kG[i][1] * g[3 + x] + kG[i][2] * g[6 + x];
          }
        }
        float* to = values + (o / kColumns * in + c) * kColumns + o % kColumns;
        for (size_t i = 0; i < kPatch; ++i) {
          for (size_t j = 0; j < kPatch; ++j, to += in * out) {
            *to = static_cast<float>(kG[j][0] * rows[i][0] + kG[j][1] * rows[i][1] +
                                     kG[j][2] * rows[i][2]);
          }
        }
      }
    }
  }

  std::vector<float> storage;
  float* values = nullptr;  // In it.
};

namespace {

// A plan for each thread, and each with the same weights: one copy of what is made of them.
std::shared_ptr<const WinogradConvolution::Weights> SharedWeights(
    size_t in, size_t out, const std::vector<float>& weight) {
  using Weights = WinogradConvolution::Weights;
  static absl::Mutex mutex(absl::kConstInit);
  static std::map<std::string, std::weak_ptr<const Weights>>& all =
      *new std::map<std::string, std::weak_ptr<const Weights>>();
  Sha256 hash;
  hash.Update(&in, sizeof(in));
  hash.Update(weight.data(), weight.size() * sizeof(float));
  const std::string key = hash.Finish().hex();
  absl::MutexLock lock(&mutex);
  if (const auto it = all.find(key); it != all.end()) {
    if (auto weights = it->second.lock()) return weights;
  }
  std::erase_if(all, [](const auto& entry) { return entry.second.expired(); });
  auto weights = std::make_shared<const Weights>(in, out, weight);
  all[key] = weights;
  return weights;
}

#ifdef DERMIS_HAS_WINOGRAD

using Vector = __m512;

DERMIS_WIDE_INLINE Vector All(float value) { return _mm512_set1_ps(value); }
// a * b + c, c - a * b.
DERMIS_WIDE_INLINE Vector Fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
DERMIS_WIDE_INLINE Vector Fnma(Vector a, Vector b, Vector c) { return _mm512_fnmadd_ps(a, b, c); }

// B' d.
DERMIS_WIDE_INLINE void TransformInput(const Vector (&d)[kPatch], Vector (&out)[kPatch]) {
  const Vector sum = All(kA2 + kB2), product = All(kA2 * kB2);
  out[0] = Fma(product, d[0], Fnma(sum, d[2], d[4]));
  Vector even = Fnma(All(kB2), d[2], d[4]), odd = Fnma(All(kB2), d[1], d[3]);
  out[1] = Fma(All(kA), odd, even);
  out[2] = Fnma(All(kA), odd, even);
  even = Fnma(All(kA2), d[2], d[4]);
  odd = Fnma(All(kA2), d[1], d[3]);
  out[3] = Fma(All(kB), odd, even);
  out[4] = Fnma(All(kB), odd, even);
  out[5] = Fma(product, d[1], Fnma(sum, d[3], d[5]));
}

// A' m.
DERMIS_WIDE_INLINE void TransformOutput(const Vector (&m)[kPatch], Vector (&out)[kTile]) {
  const Vector a_even = m[1] + m[2], a_odd = m[1] - m[2], b_even = m[3] + m[4], b_odd = m[3] - m[4];
  out[0] = m[0] + a_even + b_even;
  out[1] = Fma(All(kA), a_odd, All(kB) * b_odd);
  out[2] = Fma(All(kA2), a_even, All(kB2) * b_even);
  out[3] = Fma(All(kA2 * kA), a_odd, Fma(All(kB2 * kB), b_odd, m[5]));
}

// One patch; element (i, j) of the result into out + (i * 6 + j) * stride. patch: where each of its
// pixels lies, of `channels` values.
DERMIS_WIDE void TransformPatch(const float* const (&patch)[kProducts], size_t channels,
                                size_t stride, float* out) {
  for (size_t c = 0; c < channels; c += 16) {
    Vector half[kPatch][kPatch];
#pragma GCC unroll 6
    for (size_t x = 0; x < kPatch; ++x) {
      Vector column[kPatch], transformed[kPatch];
#pragma GCC unroll 6
      for (size_t y = 0; y < kPatch; ++y) column[y] = _mm512_loadu_ps(patch[y * kPatch + x] + c);
      TransformInput(column, transformed);
#pragma GCC unroll 6
      for (size_t y = 0; y < kPatch; ++y) half[y][x] = transformed[y];
    }
#pragma GCC unroll 6
    for (size_t y = 0; y < kPatch; ++y) {
      Vector transformed[kPatch];
      TransformInput(half[y], transformed);
#pragma GCC unroll 6
      for (size_t x = 0; x < kPatch; ++x) {
        _mm512_storeu_ps(out + (y * kPatch + x) * stride + c, transformed[x]);
      }
    }
  }
}

// One tile, `height` x `width` of it, into y: rows `row` values apart. products: as
// TransformPatch's out.
DERMIS_WIDE void FinishTile(const float* products, size_t stride, size_t channels,
                            const float* bias, bool add, bool relu, size_t height, size_t width,
                            size_t row, float* y) {
  for (size_t c = 0; c < channels; c += 16) {
    Vector half[kTile][kPatch];
#pragma GCC unroll 6
    for (size_t j = 0; j < kPatch; ++j) {
      Vector column[kPatch], transformed[kTile];
#pragma GCC unroll 6
      for (size_t i = 0; i < kPatch; ++i) {
        column[i] = _mm512_loadu_ps(products + (i * kPatch + j) * stride + c);
      }
      TransformOutput(column, transformed);
#pragma GCC unroll 4
      for (size_t i = 0; i < kTile; ++i) half[i][j] = transformed[i];
    }
    const Vector shift = _mm512_loadu_ps(bias + c);
#pragma GCC unroll 4
    for (size_t i = 0; i < kTile; ++i) {
      if (i >= height) break;
      Vector transformed[kTile];
      TransformOutput(half[i], transformed);
#pragma GCC unroll 4
      for (size_t j = 0; j < kTile; ++j) {
        if (j >= width) break;
        float* const to = y + i * row + j * channels + c;
        Vector value = transformed[j] + shift;
        if (add) value += _mm512_loadu_ps(to);
        // In this order a NaN stays. Masked: GCC 12 warns of its own header's plain form.
        if (relu) value = _mm512_maskz_max_ps(0xffff, All(0), value);
        _mm512_storeu_ps(to, value);
      }
    }
  }
}

// m[r][64] = sum over c of v[r][c] * u[c][64], in order; rows of v are `in` apart, those of m
// `out`.
template <size_t Rows>
DERMIS_WIDE void MultiplyRows(const float* v, size_t in, const float* u, size_t out, float* m) {
  Vector sums[Rows][kColumns / 16];
#pragma GCC unroll 6
  for (auto& row : sums) {
#pragma GCC unroll 4
    for (Vector& sum : row) sum = All(0);
  }
  for (size_t c = 0; c < in; ++c, u += kColumns) {
    Vector weights[kColumns / 16];
#pragma GCC unroll 4
    for (size_t j = 0; j < kColumns / 16; ++j) {
      weights[j] = _mm512_load_ps(u + 16 * j);
      // Weights of wide layers come from the second cache or beyond.
      _mm_prefetch(reinterpret_cast<const char*>(u + 16 * j + 8 * kColumns), _MM_HINT_T0);
    }
#pragma GCC unroll 6
    for (size_t r = 0; r < Rows; ++r) {
      const Vector value = All(v[r * in + c]);
#pragma GCC unroll 4
      for (size_t j = 0; j < kColumns / 16; ++j) sums[r][j] = Fma(value, weights[j], sums[r][j]);
    }
  }
#pragma GCC unroll 6
  for (size_t r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (size_t j = 0; j < kColumns / 16; ++j) {
      _mm512_storeu_ps(m + r * out + 16 * j, sums[r][j]);
    }
  }
}

// The same of `rows` rows, 1 to Rows.
template <size_t Rows>
void MultiplyUpTo(size_t rows, const float* v, size_t in, const float* u, size_t out, float* m) {
  if (rows == Rows) return MultiplyRows<Rows>(v, in, u, out, m);
  if constexpr (Rows > 1) MultiplyUpTo<Rows - 1>(rows, v, in, u, out, m);
}

// m[tiles][out] = v[tiles][in] * u[out / 64][in][64].
void Multiply(const float* v, size_t tiles, size_t in, const float* u, size_t out, float* m) {
  for (size_t o = 0; o < out; o += kColumns, u += in * kColumns) {
    for (size_t t = 0; t < tiles; t += kRows) {
      MultiplyUpTo<kRows>(std::min(kRows, tiles - t), v + t * in, in, u, out, m + t * out + o);
    }
  }
}

#endif  // DERMIS_HAS_WINOGRAD

}  // namespace

bool WinogradConvolution::Supported() {
#ifdef DERMIS_HAS_WINOGRAD
  return __builtin_cpu_supports("avx512f");
#else
  return false;
#endif
}

WinogradConvolution::WinogradConvolution(size_t in, size_t out, const std::vector<float>& weight,
                                         const std::vector<float>& bias)
    : in_(in), out_(out), weights_(SharedWeights(in, out, weight)), bias_(bias) {}

#ifdef DERMIS_HAS_WINOGRAD

void WinogradConvolution::Run(size_t images, size_t side, const float* x, bool add, bool relu,
                              float* y, std::vector<float>& scratch) const {
  const size_t in_stride = kGroup * in_ + kGap, out_stride = kGroup * out_ + kGap;
  const size_t needed = kProducts * (in_stride + out_stride) + in_ + kLine;
  if (scratch.size() < needed) scratch.resize(needed);
  float* const patches = AlignedIn(scratch);
  float* const products = patches + kProducts * in_stride;
  float* const beyond = products + kProducts * out_stride;  // A pixel outside of the image.
  std::fill_n(beyond, in_, 0.0f);

  const size_t along = (side + kTile - 1) / kTile, tiles = images * along * along;
  struct Place {
    size_t image, y, x;  // The tile's first output.
  };
  const auto place = [&](size_t tile) {
    const size_t within = tile % (along * along);
    return Place{tile / (along * along), within / along * kTile, within % along * kTile};
  };
  for (size_t first = 0; first < tiles; first += kGroup) {
    const size_t count = std::min(kGroup, tiles - first);
    for (size_t t = 0; t < count; ++t) {
      const Place at = place(first + t);
      const float* patch[kProducts];
      for (size_t i = 0; i < kProducts; ++i) {
        // One further: the patch begins a pixel before the tile.
        const size_t v = at.y + i / kPatch, u = at.x + i % kPatch;
        const bool inside = v >= 1 && v <= side && u >= 1 && u <= side;
        patch[i] = inside ? x + ((at.image * side + v - 1) * side + u - 1) * in_ : beyond;
      }
      TransformPatch(patch, in_, in_stride, patches + t * in_);
    }
    for (size_t i = 0; i < kProducts; ++i) {
      Multiply(patches + i * in_stride, count, in_, weights_->values + i * in_ * out_, out_,
               products + i * out_stride);
    }
    for (size_t t = 0; t < count; ++t) {
      const Place at = place(first + t);
      FinishTile(products + t * out_, out_stride, out_, bias_.data(), add, relu,
                 std::min(kTile, side - at.y), std::min(kTile, side - at.x), side * out_,
                 y + ((at.image * side + at.y) * side + at.x) * out_);
    }
  }
}

#else

void WinogradConvolution::Run(size_t, size_t, const float*, bool, bool, float*,
                              std::vector<float>&) const {}

#endif

}  // namespace dermis
