// DeepLIFT through a network's own graph: multipliers m with sum m (x - r) = f(x) - f(r), for one
// explained image x against many references r at once. For .cc files under worker/ and tests.
//
// Linear operations pass multipliers on as they pass gradients, whatever the values. So the graph
// is recorded once, of the references, and serves every image: explaining one takes a forward pass
// of it alone (for the non-linear operations to know its values) and one backward pass over the
// references. What an operation needs is kept per call, so a module that is used twice has two.
#ifndef DERMIS_WORKER_MODELS_DEEP_LIFT_H_
#define DERMIS_WORKER_MODELS_DEEP_LIFT_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include <torch/types.h>

namespace dermis {

class DeepLift {
 public:
  // Inputs [n, 3, H, W] to logits [n, classes]; its non-linear operations are those of
  // models/ops.h.
  using Network = std::function<torch::Tensor(const torch::Tensor&)>;

  // references: [N, 3, H, W]; memory: all of their activations, while this lives. Errors:
  // UNIMPLEMENTED naming an operation that is not linear and has no rule.
  static absl::StatusOr<std::unique_ptr<DeepLift>> Make(Network network,
                                                        const torch::Tensor& references);
  ~DeepLift();

  torch::Tensor reference_logits() const;  // [N, classes], no graph.
  uint64_t bytes() const;                  // What it holds, about.

  // Logits [1, classes] of the image [1, 3, H, W] that Multipliers is about from now on.
  torch::Tensor Explain(const torch::Tensor& image);
  // [N, 3, H, W], of the output whose multipliers of the logits, [N, classes], are given
  // (OutputMultipliers). One that is not finite means that the model diverged.
  torch::Tensor Multipliers(const torch::Tensor& of_logits) const;

 private:
  struct State;
  explicit DeepLift(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_DEEP_LIFT_H_
