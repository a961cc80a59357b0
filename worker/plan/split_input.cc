#include "worker/plan/split_input.h"

#include <algorithm>
#include <cstring>

#include "common/simd.h"

namespace dermis {
namespace {

// The three words of each value, one above the other.
DERMIS_SIMD void Words(const float* values, size_t count, uint64_t* words) {
  for (size_t i = 0; i < count; ++i) {
    const uint64_t high = FloatToBf16(values[i]);
    const uint64_t low = FloatToBf16(values[i] - Bf16ToFloat(static_cast<uint16_t>(high)));
    words[i] = high | low << 16 | high << 32;
  }
}

}  // namespace

void SplitInput(const float* input, size_t pixels, uint16_t* split) {
  constexpr size_t kBlock = 192, kWord = kSplitChannels / 3;
  uint64_t words[kBlock];
  for (size_t left = 3 * pixels; left > 0;) {
    const size_t count = std::min(left, kBlock);
    Words(input, count, words);
    // The fourth word of a copy is overwritten by the next.
    for (size_t i = 0; i + 1 < count; ++i)
      std::memcpy(split + i * kWord, &words[i], sizeof(uint64_t));
    std::memcpy(split + (count - 1) * kWord, &words[count - 1], kWord * sizeof(uint16_t));
    input += count;
    split += count * kWord;
    left -= count;
  }
}

std::vector<float> SplitWeights(absl::Span<const float> weight, size_t out) {
  const size_t taps = weight.size() / out / 3;
  std::vector<float> split;
  split.reserve(3 * weight.size());
  for (size_t channel = 0; channel < 3 * out; ++channel) {
    const absl::Span<const float> of = weight.subspan(channel * taps, taps);
    for (const bool low : {false, false, true}) {
      for (const float value : of) {
        const float high = Bf16ToFloat(FloatToBf16(value));
        split.push_back(!low ? high : Bf16ToFloat(FloatToBf16(value - high)));
      }
    }
  }
  return split;
}

}  // namespace dermis
