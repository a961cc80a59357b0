#include "worker/models/ops.h"

#include <utility>

namespace dermis {
namespace {

thread_local Ops* current = nullptr;

}  // namespace

OpsGuard::OpsGuard(Ops& ops) : outer_(std::exchange(current, &ops)) {}
OpsGuard::~OpsGuard() { current = outer_; }

torch::Tensor PlainActivate(Activation kind, const torch::Tensor& x) {
  return kind == Activation::kElu ? torch::elu(x) : torch::relu(x);
}

torch::Tensor PlainMaxPool(const PoolWindow& window, const torch::Tensor& x) {
  return torch::max_pool2d(x, window.kernel, window.stride, window.padding);
}

torch::Tensor Activate(Activation kind, const torch::Tensor& x) {
  return current == nullptr ? PlainActivate(kind, x) : current->Activate(kind, x);
}

torch::Tensor MaxPool(const PoolWindow& window, const torch::Tensor& x) {
  return current == nullptr ? PlainMaxPool(window, x) : current->MaxPool(window, x);
}

}  // namespace dermis
