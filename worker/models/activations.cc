#include "worker/models/activations.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "worker/data/noise.h"
#include "worker/models/model.h"
#include "worker/models/resnet.h"
#include "worker/models/resnet_graph.h"
#include "worker/models/seed_cnn.h"

namespace dermis {
namespace {

// f of the explanation, differentiable (its value alone: OutputOf in common/metrics.h).
torch::Tensor ScalarOutput(v1::OutputKind kind, const torch::Tensor& logits) {
  const int64_t classes = logits.size(1), positive = classes - 1;
  const torch::Tensor row = logits[0];
  switch (kind) {
    case v1::OUTPUT_KIND_LOGIT:
      return row[positive];
    case v1::OUTPUT_KIND_PROBABILITY:
      return torch::softmax(row, 0)[positive];
    default:
      return row[positive] - row.slice(0, 0, positive).mean();
  }
}

// The layers' names and taps, in the order of the network, and the logits.
struct Graph {
  std::vector<std::string> layers;
  std::vector<torch::Tensor> taps;
  torch::Tensor logits;
};

Graph GraphOf(const Model& model, const torch::Tensor& input) {
  Graph graph;
  if (IsResNet(model.layout.kind)) {
    ResNetGraph network = ResNetForward(model, input);
    graph.layers = {"conv1", "layer1", "layer2", "layer3", "layer4"};
    graph.taps = std::move(network.taps);
    graph.logits = network.logits;
    return graph;
  }
  SeedCnnGraph network = SeedCnnForward(model, input);
  for (int k = 1; k <= kSeedCnnConvolutions; ++k) graph.layers.push_back(absl::StrCat("conv", k));
  graph.taps = std::move(network.taps);
  graph.logits = network.logits;
  return graph;
}

// Grad-CAM before ReLU (Selvaraju 2017): sum over channels of A times the spatial mean of d output
// / d A. Own loops, so that the order of the sums is ours.
void FillMaps(const torch::Tensor& activation, const torch::Tensor& gradient, bool cams_only,
              v1::LayerMaps& maps) {
  const torch::Tensor a = activation.detach().contiguous(), g = gradient.detach().contiguous();
  const int64_t channels = a.size(1), pixels = a.size(2) * a.size(3);
  maps.set_channels(static_cast<uint32_t>(channels));
  maps.set_height(static_cast<uint32_t>(a.size(2)));
  maps.set_width(static_cast<uint32_t>(a.size(3)));
  const float* av = a.data_ptr<float>();
  const float* gv = g.data_ptr<float>();
  if (!cams_only) maps.mutable_activations()->Add(av, av + channels * pixels);
  std::vector<double> cam(static_cast<size_t>(pixels), 0.0);
  for (int64_t c = 0; c < channels; ++c) {
    double alpha = 0;
    for (int64_t p = 0; p < pixels; ++p) alpha += gv[c * pixels + p];
    alpha /= static_cast<double>(pixels);
    for (int64_t p = 0; p < pixels; ++p) cam[p] += alpha * av[c * pixels + p];
  }
  for (double v : cam) maps.add_grad_cam(static_cast<float>(v));
}

}  // namespace

absl::StatusOr<v1::ActivationOutput> RunActivations(const v1::ActivationTask& task,
                                                    const ImageData& data,
                                                    std::string_view weights) {
  ASSIGN_OR_RETURN(const Model model, ParseModel(weights));
  if (model.layout.kind != task.model().kind()) {
    return absl::InvalidArgumentError(
        absl::StrCat("activations: the task asks for ", v1::ModelKind_Name(task.model().kind()),
                     ", the weights are of ", v1::ModelKind_Name(model.layout.kind)));
  }
  if (data.size != model.layout.size) {
    return absl::InvalidArgumentError(absl::StrCat("activations: images of ", data.size,
                                                   " pixels a side, the model wants ",
                                                   model.layout.size));
  }
  if (task.image() >= data.labels.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("activations: no image ", task.image(), ", the set has ", data.labels.size()));
  }
  at::set_num_threads(1);
  const int64_t size = data.size;
  std::vector<float> input(static_cast<size_t>(3 * size * size));
  // The model file's own constants: the model is what was trained, whatever set it now looks at.
  const float mean = static_cast<float>(model.pixel_mean);
  const float inverse = static_cast<float>(1.0 / (model.pixel_deviation + 1e-7));
  ASSIGN_OR_RETURN(const std::vector<float> pixels,
                   EvaluatedPixels(data, task.images(), task.image()));
  for (int64_t p = 0; p < size * size; ++p) {
    for (int64_t c = 0; c < 3; ++c) {
      input[c * size * size + p] = (pixels[p * 3 + c] - mean) * inverse;
    }
  }
  try {
    // A leaf that requires gradients, so that every tap is part of the recorded graph.
    torch::Tensor x =
        torch::from_blob(input.data(), {1, 3, size, size}, torch::kFloat32).requires_grad_(true);
    const Graph graph = GraphOf(model, x);
    const std::vector<torch::Tensor> gradients =
        torch::autograd::grad({ScalarOutput(task.output(), graph.logits)}, graph.taps);
    v1::ActivationOutput output;
    for (size_t k = 0; k < graph.taps.size(); ++k) {
      v1::LayerMaps* maps = output.add_layers();
      maps->set_layer(graph.layers[k]);
      FillMaps(graph.taps[k], gradients[k], task.cams_only(), *maps);
    }
    return output;
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("activations of image ", task.image(), ": ", e.what()));
  }
}

}  // namespace dermis
