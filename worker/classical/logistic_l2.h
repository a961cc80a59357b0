// Logistic regression with a quadratic penalty, solved on the kernel of the training images: their
// number decides the work, not that of the pixels.
#ifndef DERMIS_WORKER_CLASSICAL_LOGISTIC_L2_H_
#define DERMIS_WORKER_CLASSICAL_LOGISTIC_L2_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "worker/classical/gram.h"
#include "worker/classical/logistic.h"

namespace dermis {

// Minimises ||w||^2 / 2 + C sum_i log(1 + exp(-y_i (w . x_i + b))): scikit-learn's C, intercept
// free. x: pixels / 255 minus their training mean; w = sum_i dual_i x_i.
struct L2Fit {
  double strength = 0;       // C.
  std::vector<double> dual;  // One a training image, in the kernel's order.
  double intercept = 0;
  double objective = 0;
  double norm = 0;  // ||w||.
  // The larger of ||gradient by w|| / ||w|| and |sum r| / sum |r|, r_i = y_i / (1 + exp(y_i
  // margin_i)). The objective is 1-strongly convex in w, so ||w - optimum|| / ||w|| is about as
  // small.
  double gradient = 0;
  uint32_t steps = 0;      // Newton's.
  bool converged = false;  // gradient <= tolerance.
};

struct L2Options {
  double tolerance = 1e-6;
  uint32_t max_steps = 100;  // Each strength.
};

// One fit a strength, in the order given; each starts where the one before it ended, so ascending
// strengths are fastest. Newton's method in double on one thread; a step solves its system by
// conjugate gradients behind a Cholesky factor, which is made anew where the weights have moved too
// far from it. Fit k depends on strengths 0..k alone.
// kernel: CentredKernel of the training images, n x n. labels: 0 or 1. n images cost 8 n^2 bytes
// besides as many of the kernel: n up to about 10,000. There is no other way for more images than
// that, whatever the number of pixels. INVALID_ARGUMENT: sizes do not fit, one class only, a
// strength that is not positive and finite.
absl::StatusOr<std::vector<L2Fit>> FitL2Path(const Kernel& kernel, absl::Span<const uint8_t> labels,
                                             absl::Span<const double> strengths,
                                             const L2Options& options = {});

// Margins of other images from their CrossKernel: no pixels needed.
std::vector<double> Margins(const Kernel& cross, const L2Fit& fit);

// The fit as a model of pixels: one pass over the training images. rows: the training images in the
// kernel's order, size * size * 3 bytes each.
LogisticModel L2Model(absl::Span<const uint8_t* const> rows, uint32_t size, const L2Fit& fit);

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_LOGISTIC_L2_H_
