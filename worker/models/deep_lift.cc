#include "worker/models/deep_lift.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include <torch/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/variable.h>

#include "common/status_macros.h"
#include "worker/models/deep_lift_rules.h"
#include "worker/models/ops.h"

namespace dermis {
namespace {

using torch::autograd::Node;
using torch::autograd::variable_list;

// Channels innermost: what the rules read, and what convolutions are fastest with.
torch::Tensor Packed(const torch::Tensor& t) {
  return t.contiguous(at::MemoryFormat::ChannelsLast);
}

// One call of a non-linear operation: what went in and came out, [N, C, H, W] of the references and
// [1, C, H, W] of the explained image.
struct Site {
  bool pool = false;
  Activation activation = Activation::kElu;
  PoolWindow window;
  torch::Tensor in_r, out_r;  // out_r and out_x: activations only.
  torch::Tensor in_x, out_x;

  std::string name() const {
    return pool ? "max pool" : activation == Activation::kElu ? "ELU" : "ReLU";
  }
};

torch::Tensor ApplyRule(const Site& site, const torch::Tensor& multipliers) {
  const torch::Tensor m = Packed(multipliers);
  torch::Tensor result = torch::empty_like(site.in_r);
  const int64_t rows = site.in_r.size(0), stride = site.in_r.numel() / rows;
  const int64_t out_stride = m.numel() / rows;
  const float* in_x = site.in_x.const_data_ptr<float>();
  for (int64_t n = 0; n < rows; ++n) {
    const float* in_r = site.in_r.const_data_ptr<float>() + n * stride;
    const float* from = m.const_data_ptr<float>() + n * out_stride;
    float* to = result.data_ptr<float>() + n * stride;
    if (site.pool) {
      MaxPoolRule(site.window, site.in_r.size(2), site.in_r.size(3), site.in_r.size(1), in_x, in_r,
                  from, to);
    } else {
      RescaleRule(site.activation, in_x, site.out_x.const_data_ptr<float>(), in_r,
                  site.out_r.const_data_ptr<float>() + n * stride, static_cast<uint64_t>(stride),
                  from, to);
    }
  }
  return result;
}

// An operation's place in the recorded graph, with the rule instead of its gradient.
class RuleNode final : public Node {
 public:
  explicit RuleNode(std::shared_ptr<const Site> site) : site_(std::move(site)) {}
  std::string name() const override { return absl::StrCat("DeepLIFT of ", site_->name()); }
  variable_list apply(variable_list&& multipliers) override {
    return {ApplyRule(*site_, multipliers[0])};
  }

 private:
  const std::shared_ptr<const Site> site_;
};

// Records the references: values of every call, and a graph that goes through the rules.
class RecordReferences final : public Ops {
 public:
  explicit RecordReferences(std::vector<std::shared_ptr<Site>>& sites) : sites_(sites) {}

  torch::Tensor Activate(Activation kind, const torch::Tensor& x) override {
    auto site = std::make_shared<Site>();
    site->activation = kind;
    torch::Tensor out;
    {
      torch::NoGradGuard no_graph;
      site->in_r = Packed(x.detach());
      out = site->out_r = PlainActivate(kind, site->in_r);
    }
    // Not site->out_r itself: it must not know its own node, or neither would ever go.
    return Connect(std::move(site), x, out.detach());
  }

  torch::Tensor MaxPool(const PoolWindow& window, const torch::Tensor& x) override {
    auto site = std::make_shared<Site>();
    site->pool = true;
    site->window = window;
    torch::Tensor out;
    {
      torch::NoGradGuard no_graph;
      site->in_r = Packed(x.detach());
      out = Packed(PlainMaxPool(window, site->in_r));
    }
    return Connect(std::move(site), x, out);
  }

 private:
  torch::Tensor Connect(std::shared_ptr<Site> site, const torch::Tensor& x, torch::Tensor out) {
    sites_.push_back(site);
    std::shared_ptr<RuleNode> node(new RuleNode(std::move(site)), torch::autograd::deleteNode);
    node->set_next_edges(torch::autograd::collect_next_edges(x));
    torch::autograd::create_gradient_edge(out, node);
    return out;
  }

  std::vector<std::shared_ptr<Site>>& sites_;
};

// The explained image's values, call by call in the same order.
class RecordExplained final : public Ops {
 public:
  explicit RecordExplained(const std::vector<std::shared_ptr<Site>>& sites) : sites_(sites) {}

  torch::Tensor Activate(Activation kind, const torch::Tensor& x) override {
    Site& site = *sites_.at(next_++);
    site.in_x = Packed(x);
    return site.out_x = PlainActivate(kind, site.in_x);
  }
  torch::Tensor MaxPool(const PoolWindow& window, const torch::Tensor& x) override {
    Site& site = *sites_.at(next_++);
    site.in_x = Packed(x);
    return PlainMaxPool(window, site.in_x);
  }

 private:
  const std::vector<std::shared_ptr<Site>>& sites_;
  size_t next_ = 0;
};

// Operations whose gradient is the same whatever the values, where only one input depends on the
// image (Bilinear) or any number of them do (Linear). As PyTorch names their nodes.
constexpr std::array<std::string_view, 6> kBilinear = {"ConvolutionBackward0", "AddmmBackward0",
                                                       "MmBackward0",          "MulBackward0",
                                                       "DivBackward0",         "LinearBackward0"};
constexpr std::array<std::string_view, 14> kLinear = {
    "AddBackward0",   "SubBackward0",
    "MeanBackward0",  "MeanBackward1",
    "SumBackward0",   "SumBackward1",
    "ViewBackward0",  "ReshapeAliasBackward0",
    "CloneBackward0", "PermuteBackward0",
    "TBackward0",     "UnsafeViewBackward0",
    "SliceBackward0", "torch::autograd::AccumulateGrad"};

template <size_t n>
bool Holds(const std::array<std::string_view, n>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

absl::Status CheckOperations(const torch::Tensor& logits) {
  std::set<const Node*> seen;
  std::vector<const Node*> left = {logits.grad_fn().get()};
  while (!left.empty()) {
    const Node* node = left.back();
    left.pop_back();
    if (node == nullptr || !seen.insert(node).second) continue;
    size_t inputs = 0;
    for (const torch::autograd::Edge& edge : node->next_edges()) {
      inputs += edge.is_valid() ? 1 : 0;
      left.push_back(edge.function.get());
    }
    const std::string name = node->name();
    const bool known = dynamic_cast<const RuleNode*>(node) != nullptr || Holds(kLinear, name) ||
                       (Holds(kBilinear, name) && inputs <= 1);
    if (!known) {
      return absl::UnimplementedError(absl::StrCat(
          "DeepSHAP: the network has an operation without a rule, ", name,
          inputs > 1 ? " of several inputs that depend on the image" : "",
          "; give it one in worker/models/ops.h, or use expected_gradients, which needs none"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

struct DeepLift::State {
  Network network;
  torch::Tensor references;  // The leaf that multipliers come back to.
  torch::Tensor logits;      // With the recorded graph.
  std::vector<std::shared_ptr<Site>> sites;
};

DeepLift::DeepLift(std::unique_ptr<State> state) : state_(std::move(state)) {}
DeepLift::~DeepLift() = default;

absl::StatusOr<std::unique_ptr<DeepLift>> DeepLift::Make(Network network,
                                                         const torch::Tensor& references) {
  auto state = std::make_unique<State>();
  state->network = std::move(network);
  state->references = Packed(references.detach()).clone().requires_grad_(true);
  {
    RecordReferences record(state->sites);
    OpsGuard guard(record);
    state->logits = state->network(state->references);
  }
  RETURN_IF_ERROR(CheckOperations(state->logits));
  return std::unique_ptr<DeepLift>(new DeepLift(std::move(state)));
}

torch::Tensor DeepLift::reference_logits() const { return state_->logits.detach().contiguous(); }

uint64_t DeepLift::bytes() const {
  uint64_t floats = 0;
  for (const auto& site : state_->sites) {
    floats += static_cast<uint64_t>(site->in_r.numel());
    if (!site->pool) floats += static_cast<uint64_t>(site->out_r.numel());
  }
  return floats * sizeof(float) * 3 / 2;  // The graph keeps inputs of convolutions, too.
}

torch::Tensor DeepLift::Explain(const torch::Tensor& image) {
  torch::NoGradGuard no_graph;
  RecordExplained record(state_->sites);
  OpsGuard guard(record);
  return state_->network(Packed(image)).contiguous();
}

torch::Tensor DeepLift::Multipliers(const torch::Tensor& of_logits) const {
  return torch::autograd::grad({state_->logits}, {state_->references}, {of_logits},
                               /*retain_graph=*/true)[0];
}

}  // namespace dermis
