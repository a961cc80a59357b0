// The baselines as functions of images: to be evaluated, and explained by perturbation.
#ifndef DERMIS_WORKER_CLASSICAL_BLACK_BOX_H_
#define DERMIS_WORKER_CLASSICAL_BLACK_BOX_H_

#include <memory>

#include "absl/status/statusor.h"

#include "worker/blackbox/black_box.h"
#include "worker/classical/model_file.h"

namespace dermis {

// A forest's logits are logarithms of at least this probability.
inline constexpr double kLeastForestProbability = 1e-12;

// Logistic regression: logits 0 and the margin. Forest: logarithms of its probabilities, so softmax
// gives them back. INVALID_ARGUMENT: arrays do not fit the model's size.
absl::StatusOr<std::unique_ptr<BlackBox>> MakeClassicalBlackBox(ClassicalModel model);

}  // namespace dermis

#endif  // DERMIS_WORKER_CLASSICAL_BLACK_BOX_H_
