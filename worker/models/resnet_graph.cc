#include "worker/models/resnet_graph.h"

#include "worker/models/ops.h"
#include "worker/models/resnet.h"

namespace dermis {
namespace {

// The tensors of a model, wherever they lie.
struct Tensors {
  const ModelLayout& layout;
  torch::Tensor parameters, statistics;  // Flat.
  bool training;

  torch::Tensor parameter(const std::string& name) const {
    const ParameterSpec& spec = layout.parameter(name);
    return parameters.slice(0, spec.offset, spec.offset + spec.count).view(spec.shape);
  }
  torch::Tensor statistic(const std::string& name) const {
    const ParameterSpec& spec = layout.statistic(name);
    return statistics.slice(0, spec.offset, spec.offset + spec.count);
  }
};

torch::Tensor Channels(const torch::Tensor& t) { return t.view({1, -1, 1, 1}); }

// Convolution and batch norm. Nothing in place: taps need what was there.
torch::Tensor Apply(const ResNetLayer& layer, const Tensors& t, const torch::Tensor& x) {
  const torch::Tensor y = torch::conv2d(x, t.parameter(layer.convolution + ".weight"), {},
                                        layer.stride, layer.kernel / 2);
  const torch::Tensor gamma = t.parameter(layer.norm + ".weight"),
                      beta = t.parameter(layer.norm + ".bias");
  const double epsilon = t.layout.batch_norm_epsilon;
  if (t.training && !t.layout.parameter(layer.norm + ".weight").frozen) {
    const torch::Tensor mean = y.mean({0, 2, 3}, true);
    const torch::Tensor variance = (y - mean).square().mean({0, 2, 3}, true);
    return (y - mean) / torch::sqrt(variance + epsilon) * Channels(gamma) + Channels(beta);
  }
  const torch::Tensor scale =
      gamma / torch::sqrt(t.statistic(layer.norm + ".running_var") + epsilon);
  const torch::Tensor shift = beta - t.statistic(layer.norm + ".running_mean") * scale;
  return y * Channels(scale) + Channels(shift);
}

ResNetGraph Forward(const Tensors& t, const torch::Tensor& input) {
  const ResNetShape shape = ResNetShapeOf(t.layout.kind, t.layout.stem);
  ResNetGraph graph;
  torch::Tensor x = Activate(Activation::kRelu, Apply(shape.layers[0], t, input));
  graph.taps.push_back(x);
  if (shape.pooled_stem) x = MaxPool({.kernel = 3, .stride = 2, .padding = 1}, x);
  for (const ResNetBlock& block : shape.blocks) {
    torch::Tensor branch = x;
    for (uint32_t k = 0; k < block.count; ++k) {
      if (k > 0) branch = Activate(Activation::kRelu, branch);
      branch = Apply(shape.layers[block.first + k], t, branch);
    }
    const torch::Tensor shortcut =
        block.downsample ? Apply(shape.layers[block.first + block.count], t, x) : x;
    x = Activate(Activation::kRelu, branch + shortcut);
    if (block.last_of_stage) graph.taps.push_back(x);
  }
  graph.logits = torch::linear(x.mean({2, 3}), t.parameter("fc.weight"), t.parameter("fc.bias"));
  return graph;
}

torch::Tensor Flat(const std::vector<float>& values) {
  // from_blob wants a mutable pointer; nothing writes through it.
  return torch::from_blob(const_cast<float*>(values.data()), {static_cast<int64_t>(values.size())},
                          torch::kFloat32);
}

}  // namespace

ResNetGraph ResNetForward(const Model& model, const torch::Tensor& input) {
  return Forward({model.layout, Flat(model.parameters), Flat(model.statistics), false}, input);
}

ResNetGraph ResNetForwardTraining(const ModelLayout& layout, const torch::Tensor& parameters,
                                  const torch::Tensor& statistics, const torch::Tensor& input) {
  return Forward({layout, parameters, statistics, true}, input);
}

}  // namespace dermis
