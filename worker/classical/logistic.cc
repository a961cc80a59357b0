#include "worker/classical/logistic.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

#include "common/simd.h"

namespace dermis {
namespace {

constexpr size_t kLanes = 32;

// Lane k mod 32 sums apart, then the lanes in order.
template <typename Pixel>
DERMIS_INLINE double SumOfProducts(const double* weights, const double* mean, const Pixel* image,
                                   size_t count) {
  double lanes[kLanes] = {};
  size_t k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] +=
          weights[k + lane] * (static_cast<double>(image[k + lane]) / 255.0 - mean[k + lane]);
    }
  }
  for (; k < count; ++k) {
    lanes[k % kLanes] += weights[k] * (static_cast<double>(image[k]) / 255.0 - mean[k]);
  }
  double sum = 0;
  for (double lane : lanes) sum += lane;
  return sum;
}

DERMIS_SIMD double SumOfBytes(const double* weights, const double* mean, const uint8_t* image,
                              size_t count) {
  return SumOfProducts(weights, mean, image, count);
}

DERMIS_SIMD double SumOfFloats(const double* weights, const double* mean, const float* image,
                               size_t count) {
  return SumOfProducts(weights, mean, image, count);
}

}  // namespace

double Margin(const LogisticModel& model, const uint8_t* image) {
  return SumOfBytes(model.weights.data(), model.mean.data(), image, model.weights.size()) +
         model.intercept;
}

double Margin(const LogisticModel& model, const float* image) {
  return SumOfFloats(model.weights.data(), model.mean.data(), image, model.weights.size()) +
         model.intercept;
}

absl::Status CheckFit(absl::Span<const uint8_t> labels, absl::Span<const double> strengths) {
  bool seen[2] = {false, false};
  for (uint8_t label : labels) {
    if (label > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("logistic regression: label ", label, "; two classes are possible"));
    }
    seen[label] = true;
  }
  if (!seen[0] || !seen[1]) {
    return absl::InvalidArgumentError(
        "logistic regression: the training images are of one class only");
  }
  if (strengths.empty()) return absl::InvalidArgumentError("logistic regression: no strength");
  for (double strength : strengths) {
    if (!(strength > 0) || !std::isfinite(strength)) {
      return absl::InvalidArgumentError(
          absl::StrCat("logistic regression: strength ", strength, " is not above 0 and finite"));
    }
  }
  return absl::OkStatus();
}

double LogisticLoss(double z) { return std::max(0.0, -z) + std::log1p(std::exp(-std::abs(z))); }

double LogisticSigmoid(double z) {
  const double e = std::exp(-std::abs(z));
  return z >= 0 ? 1 / (1 + e) : e / (1 + e);
}

}  // namespace dermis
