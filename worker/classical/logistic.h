// A logistic regression on pixels, however it was fitted (logistic_l2.h, logistic_l1.h).
#ifndef DERMIS_WORKER_CLASSICAL_LOGISTIC_H_
#define DERMIS_WORKER_CLASSICAL_LOGISTIC_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace dermis {

// margin(x) = weights . (x / 255 - mean) + intercept; positive: class 1. Pixels as in an image:
// size x size x 3, red first.
struct LogisticModel {
  uint32_t size = 0;            // Pixels a side; size * size * 3 features.
  std::vector<double> weights;  // Of pixels / 255: the picture.
  std::vector<double> mean;     // Of the training images, 0..1.
  double intercept = 0;
};

// Margins of one image, of bytes or of values 0..255 that need not be whole. The same pixels have
// the same margin in both forms. Sums run in a fixed order on every vector width.
double Margin(const LogisticModel& model, const uint8_t* image);
double Margin(const LogisticModel& model, const float* image);

// INVALID_ARGUMENT: labels other than 0 and 1 or of one class only, no strength, or one that is not
// positive and finite.
absl::Status CheckFit(absl::Span<const uint8_t> labels, absl::Span<const double> strengths);

// log(1 + e^-z) without overflow, and 1 / (1 + e^-z).
double LogisticLoss(double z);
double LogisticSigmoid(double z);

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_LOGISTIC_H_
