#include "common/resize.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

namespace dermis {
namespace {

// One axis in whole units: an input pixel is `unit` units long, an output pixel `span` units. Both
// are divided by their greatest common divisor: so weights are small integers (all 1 where the
// ratio is whole) and a resize to the same size is exact.
struct Axis {
  Axis(int in, int out) {
    if (in <= 0 || out <= 0 || out > in) {
      std::fprintf(stderr, "area resize: from %d to %d pixels is not a reduction\n", in, out);
      std::abort();
    }
    const int divisor = std::gcd(in, out);
    unit = out / divisor;
    span = in / divisor;
  }
  int First(int o) const { return static_cast<int>(int64_t{o} * span / unit); }
  // How much of output pixel o input pixel i covers, in units; 0 when none.
  int Overlap(int o, int i) const {
    const int64_t begin = std::max(int64_t{o} * span, int64_t{i} * unit);
    const int64_t end = std::min((int64_t{o} + 1) * span, (int64_t{i} + 1) * unit);
    return static_cast<int>(std::max(int64_t{0}, end - begin));
  }
  int unit, span;
};

// Sum is the type of a line's weighted sums. Bytes are summed in integers, so exactly.
template <typename In, typename Sum, typename Finish>
void Resize(const In* in, int h, int w, int channels, int oh, int ow, const Finish& finish) {
  const Axis ys(h, oh), xs(w, ow);
  const size_t row = static_cast<size_t>(w) * channels;
  std::vector<Sum> line(row);
  std::vector<Sum> sums(channels);
  // Per output pixel: its first input pixel, how many it covers, their weights.
  struct Run {
    size_t first, weights;
    int count;
  };
  std::vector<Run> runs(ow);
  std::vector<Sum> weights;
  for (int ox = 0; ox < ow; ++ox) {
    const int first = xs.First(ox);
    runs[ox] = {static_cast<size_t>(first), weights.size(), 0};
    for (int x = first; x < w && xs.Overlap(ox, x) > 0; ++x, ++runs[ox].count) {
      weights.push_back(static_cast<Sum>(xs.Overlap(ox, x)));
    }
  }
  for (int oy = 0; oy < oh; ++oy) {
    std::fill(line.begin(), line.end(), Sum{0});
    for (int y = ys.First(oy); y < h; ++y) {
      const int overlap = ys.Overlap(oy, y);
      if (overlap == 0) break;
      const Sum weight = static_cast<Sum>(overlap);
      const In* source = in + static_cast<size_t>(y) * row;
      if (overlap == 1) {  // All of them at whole ratios; the same bits without the multiplication.
        for (size_t k = 0; k < row; ++k) line[k] += static_cast<Sum>(source[k]);
      } else {
        for (size_t k = 0; k < row; ++k) line[k] += weight * static_cast<Sum>(source[k]);
      }
    }
    for (int ox = 0; ox < ow; ++ox) {
      std::fill(sums.begin(), sums.end(), Sum{0});
      const Sum* at = &line[runs[ox].first * channels];
      for (int k = 0; k < runs[ox].count; ++k, at += channels) {
        const Sum weight = weights[runs[ox].weights + k];
        for (int c = 0; c < channels; ++c) sums[c] += weight * at[c];
      }
      for (int c = 0; c < channels; ++c) {
        finish((static_cast<size_t>(oy) * ow + ox) * channels + c, sums[c],
               int64_t{ys.span} * xs.span);
      }
    }
  }
}

}  // namespace

void AreaResize(const float* in, int h, int w, int channels, float* out, int oh, int ow) {
  Resize<float, float>(in, h, w, channels, oh, ow, [out](size_t k, float sum, int64_t area) {
    out[k] = sum / static_cast<float>(area);
  });
}

void AreaResizeBytes(const uint8_t* in, int h, int w, int channels, uint8_t* out, int oh, int ow) {
  const auto finish = [out](size_t k, uint64_t sum, int64_t area) {
    out[k] = static_cast<uint8_t>((2 * sum + static_cast<uint64_t>(area)) /
                                  (2 * static_cast<uint64_t>(area)));
  };
  // 32-bit sums hold 255 x area up to 4096 x 4096 pixels an output pixel; they are twice as fast.
  if (int64_t{h} * w <= (int64_t{1} << 24)) {
    Resize<uint8_t, uint32_t>(in, h, w, channels, oh, ow, finish);
  } else {
    Resize<uint8_t, uint64_t>(in, h, w, channels, oh, ow, finish);
  }
}

}  // namespace dermis
