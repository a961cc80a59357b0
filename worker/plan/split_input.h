// What a bf16 network's first layer reads. Rounding pixels to bf16's 8 bits makes most of the error
// of its Shapley values (docs/benchmarks.md): the hidden value is rounded alike in every mask, so
// nothing averages out. Here a value is the sum of two bf16 words, and x w = high(x) high(w) +
// low(x) high(w) + high(x) low(w), which leaves out 2^-16: nine channels in place of three, for the
// same primitive, whose blocks are wider than that.
#ifndef DERMIS_WORKER_PLAN_SPLIT_INPUT_H_
#define DERMIS_WORKER_PLAN_SPLIT_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace dermis {

inline constexpr int64_t kSplitChannels = 9;

// `pixels` of three finite channels to as many of nine bf16 words: high, low, high of each.
void SplitInput(const float* input, size_t pixels, uint16_t* split);

// [out][3][kernel][kernel] to [out][9][kernel][kernel], of numbers that bf16 holds.
std::vector<float> SplitWeights(absl::Span<const float> weight, size_t out);

}  // namespace dermis

#endif  // DERMIS_WORKER_PLAN_SPLIT_INPUT_H_
