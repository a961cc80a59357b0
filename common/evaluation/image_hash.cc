#include "common/evaluation/image_hash.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <vector>

namespace dermis {
namespace {

constexpr size_t kFrequencies = 8;
constexpr size_t kBits = kFrequencies * kFrequencies;
using Coefficients = std::array<int64_t, kBits>;

// cos(pi / 32 (x + 1/2) u), in 2^-14. Rounded to whole numbers, so that no library's last bit
// matters.
std::array<int64_t, kFrequencies * kThumbnail> MakeCosines() {
  std::array<int64_t, kFrequencies* kThumbnail> cosines = {};
  for (size_t u = 0; u < kFrequencies; ++u) {
    for (size_t x = 0; x < kThumbnail; ++x) {
      const double angle =
          std::numbers::pi / kThumbnail * (static_cast<double>(x) + 0.5) * static_cast<double>(u);
      cosines[u * kThumbnail + x] = std::llround(std::cos(angle) * 16384);
    }
  }
  return cosines;
}

Coefficients Transform(const ImageFingerprint& of) {
  static const auto kCosines = MakeCosines();
  std::array<int64_t, kThumbnail* kFrequencies> rows = {};
  for (size_t y = 0; y < kThumbnail; ++y) {
    for (size_t u = 0; u < kFrequencies; ++u) {
      int64_t sum = 0;
      for (size_t x = 0; x < kThumbnail; ++x) {
        sum += of.thumbnail[y * kThumbnail + x] * kCosines[u * kThumbnail + x];
      }
      rows[y * kFrequencies + u] = sum;
    }
  }
  Coefficients coefficients = {};
  for (size_t v = 0; v < kFrequencies; ++v) {
    for (size_t u = 0; u < kFrequencies; ++u) {
      int64_t sum = 0;
      for (size_t y = 0; y < kThumbnail; ++y) {
        sum += rows[y * kFrequencies + u] * kCosines[v * kThumbnail + y];
      }
      coefficients[v * kFrequencies + u] = sum;
    }
  }
  return coefficients;
}

// Bits of an orientation's number: 1 mirrors left and right, 2 up and down, 4 swaps rows and
// columns first.
constexpr size_t kMirror = 1, kFlip = 2, kSwap = 4;

uint64_t HashOf(const Coefficients& upright, size_t orientation) {
  Coefficients turned;
  for (size_t v = 0; v < kFrequencies; ++v) {
    for (size_t u = 0; u < kFrequencies; ++u) {
      int64_t value = (orientation & kSwap) != 0 ? upright[u * kFrequencies + v]
                                                 : upright[v * kFrequencies + u];
      if ((orientation & kMirror) != 0 && u % 2 == 1) value = -value;
      if ((orientation & kFlip) != 0 && v % 2 == 1) value = -value;
      turned[v * kFrequencies + u] = value;
    }
  }
  std::array<int64_t, kBits - 1> sorted;
  std::copy(turned.begin() + 1, turned.end(), sorted.begin());
  std::nth_element(sorted.begin(), sorted.begin() + sorted.size() / 2, sorted.end());
  const int64_t median = sorted[sorted.size() / 2];
  uint64_t hash = 0;
  for (size_t k = 0; k < kBits; ++k) {
    hash = hash << 1 | (k > 0 && turned[k] > median ? uint64_t{1} : 0);
  }
  return hash;
}

// Pearson's, of `a` and `b` in an orientation. Pictures of one grey: 1 where both are the same,
// else 0.
double Correlation(const ImageFingerprint& a, const ImageFingerprint& b, size_t orientation) {
  constexpr int64_t kPixels = kThumbnail * kThumbnail;
  int64_t sa = 0, sb = 0, saa = 0, sbb = 0, sab = 0;
  for (size_t y = 0; y < kThumbnail; ++y) {
    for (size_t x = 0; x < kThumbnail; ++x) {
      size_t from_x = (orientation & kMirror) != 0 ? kThumbnail - 1 - x : x;
      size_t from_y = (orientation & kFlip) != 0 ? kThumbnail - 1 - y : y;
      if ((orientation & kSwap) != 0) std::swap(from_x, from_y);
      const int64_t p = a.thumbnail[y * kThumbnail + x];
      const int64_t q = b.thumbnail[from_y * kThumbnail + from_x];
      sa += p, sb += q, saa += p * p, sbb += q * q, sab += p * q;
    }
  }
  const int64_t xy = kPixels * sab - sa * sb, xx = kPixels * saa - sa * sa,
                yy = kPixels * sbb - sb * sb;
  if (xx == 0 || yy == 0) return xx == yy && sa == sb ? 1 : 0;
  return static_cast<double>(xy) /
         (std::sqrt(static_cast<double>(xx)) * std::sqrt(static_cast<double>(yy)));
}

}  // namespace

ImageFingerprint FingerprintOf(absl::Span<const uint8_t> rgb, size_t height, size_t width) {
  ImageFingerprint of;
  for (size_t ty = 0; ty < kThumbnail; ++ty) {
    // Small pictures repeat their pixels.
    const size_t y0 = ty * height / kThumbnail;
    const size_t y1 = std::max(y0 + 1, (ty + 1) * height / kThumbnail);
    for (size_t tx = 0; tx < kThumbnail; ++tx) {
      const size_t x0 = tx * width / kThumbnail;
      const size_t x1 = std::max(x0 + 1, (tx + 1) * width / kThumbnail);
      uint64_t sum = 0;
      for (size_t y = y0; y < y1; ++y) {
        for (size_t x = x0; x < x1; ++x) {
          const uint8_t* const p = &rgb[(y * width + x) * 3];
          sum += uint64_t{299} * p[0] + uint64_t{587} * p[1] + uint64_t{114} * p[2];
        }
      }
      const uint64_t whole = 1000 * (y1 - y0) * (x1 - x0);
      of.thumbnail[ty * kThumbnail + tx] = static_cast<uint8_t>((sum + whole / 2) / whole);
    }
  }
  const Coefficients coefficients = Transform(of);
  for (size_t k = 0; k < kOrientations; ++k) of.hash[k] = HashOf(coefficients, k);
  return of;
}

Likeness Compare(const ImageFingerprint& a, const ImageFingerprint& b) {
  Likeness likeness;
  for (size_t k = 0; k < kOrientations; ++k) {
    const int distance = std::popcount(a.hash[0] ^ b.hash[k]);
    const double correlation = distance <= kHashRadius ? Correlation(a, b, k) : 0;
    if (correlation > likeness.correlation ||
        (correlation == likeness.correlation && distance < likeness.distance)) {
      likeness = {correlation >= kSamePicture, distance, correlation};
    }
  }
  return likeness;
}

}  // namespace dermis
