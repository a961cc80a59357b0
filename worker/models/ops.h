// The non-linear operations of the networks' graphs, in one place: another rule for gradients
// (deep_lift.h) takes them over for a while, and no graph knows. Anything else in a graph must be
// linear in what depends on the input. Nothing here works in place. For .cc files under worker/.
#ifndef DERMIS_WORKER_MODELS_OPS_H_
#define DERMIS_WORKER_MODELS_OPS_H_

#include <torch/types.h>

#include "worker/models/deep_lift_rules.h"

namespace dermis {

// What stands in for the operations while an OpsGuard holds it. `x`: [N, C, H, W].
class Ops {
 public:
  virtual ~Ops() = default;
  virtual torch::Tensor Activate(Activation kind, const torch::Tensor& x) = 0;
  virtual torch::Tensor MaxPool(const PoolWindow& window, const torch::Tensor& x) = 0;
};

// On the calling thread, until it is destroyed. They nest.
class OpsGuard {
 public:
  explicit OpsGuard(Ops& ops);
  ~OpsGuard();
  OpsGuard(const OpsGuard&) = delete;
  OpsGuard& operator=(const OpsGuard&) = delete;

 private:
  Ops* const outer_;
};

// What the graphs call: PyTorch's operations where no guard is.
torch::Tensor Activate(Activation kind, const torch::Tensor& x);
torch::Tensor MaxPool(const PoolWindow& window, const torch::Tensor& x);

// PyTorch's, guard or not.
torch::Tensor PlainActivate(Activation kind, const torch::Tensor& x);
torch::Tensor PlainMaxPool(const PoolWindow& window, const torch::Tensor& x);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_OPS_H_
