// Logistic regression with an absolute penalty: few pixels count, the others' weights are 0.
#ifndef DERMIS_WORKER_CLASSICAL_LOGISTIC_L1_H_
#define DERMIS_WORKER_CLASSICAL_LOGISTIC_L1_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "worker/classical/logistic.h"
#include "worker/classical/pixel_columns.h"

namespace dermis {

// Minimises ||w||_1 + C sum_i log(1 + exp(-y_i (w . x_i + b))): scikit-learn's C, intercept free.
// x: pixels / 255 minus their training mean.
struct L1Fit {
  double strength = 0;             // C.
  std::vector<uint32_t> features;  // Whose weight is not 0, ascending.
  std::vector<double> weights;     // Theirs.
  double intercept = 0;
  double objective = 0;
  // (objective - dual objective) / objective, the dual point being the residuals scaled until they
  // are feasible: how far the objective is above the optimum, at most.
  double gap = 0;
  uint32_t passes = 0;     // Over all pixels, those on the way here included.
  bool converged = false;  // gap <= tolerance.
};

struct L1Options {
  double tolerance = 1e-6;
  uint32_t max_passes = 200;  // Each strength, and a few that end the way there.
};

// One fit a strength, in the order given; each starts where the one before it ended, so ascending
// strengths are fastest; on the way to one far above, smaller ones are solved roughly. Proximal
// Newton steps by coordinate descent on a working set of the pixels that break the optimality
// conditions most, which grows between passes over all pixels. In double on one thread; fit k
// depends on strengths 0..k alone. columns: the training images, bytes. labels: 0 or 1, one a row.
// No dense copy is made: m working pixels cost 16 m n + 16 m^2 bytes, m being the weights that are
// not 0 and 100 to 400 more. INVALID_ARGUMENT: sizes do not fit, one class only, a strength that is
// not positive and finite.
absl::StatusOr<std::vector<L1Fit>> FitL1Path(const PixelColumns& columns,
                                             absl::Span<const uint8_t> labels,
                                             absl::Span<const double> strengths,
                                             const L1Options& options = {});

// mean: MeanPixels of the training images; size * size * 3 features.
LogisticModel L1Model(const L1Fit& fit, uint32_t size, std::vector<double> mean);

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_LOGISTIC_L1_H_
