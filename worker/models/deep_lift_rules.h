// DeepLIFT's rules (Shrikumar et al. 2017; the rescale rule, as in DeepSHAP, Lundberg & Lee 2017)
// for the non-linear operations: how a multiplier of an operation's output becomes one of its
// input, such that multiplier x (explained - reference) adds up to what the output changes by. No
// Torch.
//
// Letters: x the explained image, r a reference; in and out of the operation; maps of one image.
#ifndef DERMIS_WORKER_MODELS_DEEP_LIFT_RULES_H_
#define DERMIS_WORKER_MODELS_DEEP_LIFT_RULES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "dermis/v1/spec.pb.h"

namespace dermis {

enum class Activation { kElu, kRelu };

// multiplier (out_x - out_r) / (in_x - in_r), element by element; where the inputs differ by less
// than 1e-6 the derivative at x stands for the quotient, as in the package shap.
void RescaleRule(Activation kind, const float* in_x, const float* out_x, const float* in_r,
                 const float* out_r, uint64_t count, const float* multiplier, float* result);

struct PoolWindow {
  int64_t kernel = 2, stride = 2, padding = 0;
};

// Maps h x w x C (channels innermost); windows may overlap and reach beyond the border, where
// nothing is. With c = max(out_x, out_r) each window gives (c - out_r) to where x has its maximum
// and (out_x - c) to where r has its own (both sums add up to out_x - out_r), and what an input
// pixel gathers is divided by in_x - in_r; below 1e-7 it gives nothing. The packages scatter by
// max_unpool, which keeps one of several windows and so is wrong where they overlap.
// `multiplier`: of the pooled maps; `result`: h x w x C.
void MaxPoolRule(const PoolWindow& window, int64_t height, int64_t width, int64_t channels,
                 const float* in_x, const float* in_r, const float* multiplier, float* result);

// Of the explained output as a function of the logits: sum of multiplier x (x - r) = f(x) - f(r),
// in double. Margin and logit are linear. A probability's multipliers are its mean gradient on the
// straight way from r to x (of two classes that is the rescale rule for a sigmoid of the margin).
std::vector<double> OutputMultipliers(v1::OutputKind kind, absl::Span<const float> x,
                                      absl::Span<const float> r);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_DEEP_LIFT_RULES_H_
