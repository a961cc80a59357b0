#include "worker/models/activations.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <torch/autograd.h>

#include "common/metrics.h"
#include "common/model_methods.h"
#include "common/status_macros.h"
#include "worker/models/cams.h"
#include "worker/models/model.h"
#include "worker/models/network.h"
#include "worker/models/resnet.h"

namespace dermis {
namespace {

std::vector<float> CamOf(v1::CamKind kind, const LayerView& layer) {
  switch (kind) {
    case v1::CAM_KIND_GRAD_CAM_PLUS_PLUS:
      return GradCamPlusPlus(layer);
    case v1::CAM_KIND_LAYER_CAM:
      return LayerCam(layer);
    case v1::CAM_KIND_CAM:  // Of a network that averages: w_c / P is the gradient everywhere.
    case v1::CAM_KIND_HIRES_CAM:
      return HiresCam(layer);
    default:
      return GradCam(layer);
  }
}

// f of the logits' biases: what an exact map leaves to add. f is linear.
double OffsetOf(const Model& model, v1::OutputKind output) {
  const char* const bias = IsResNet(model.layout.kind) ? "fc.bias" : "dense.bias";
  return OutputOf(output, {model.at(bias), model.layout.classes});
}

// The layers that the task is about.
std::vector<Tap> TapsOf(const NetworkGraph& graph, v1::CamKind kind) {
  if (kind == v1::CAM_KIND_CAM) return {graph.last};
  std::vector<Tap> taps = graph.taps;
  if (kind != v1::CAM_KIND_UNSPECIFIED && taps.back().layer != graph.last.layer) {
    taps.push_back(graph.last);
  }
  return taps;
}

absl::Status CheckCam(const v1::ActivationTask& task, const Model& model) {
  if (task.cam() != v1::CAM_KIND_CAM) return absl::OkStatus();
  if (!IsResNet(model.layout.kind)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "activations: ", ModelName(model.layout.kind),
        " has no CAM, it does not average its last maps; hires_cam at its last pool is exact"));
  }
  if (task.output() == v1::OUTPUT_KIND_PROBABILITY) {
    return absl::InvalidArgumentError(
        "activations: a probability has no CAM, it is not linear in the maps; explain the margin "
        "or the logit");
  }
  return absl::OkStatus();
}

void FillMaps(const Tap& tap, const torch::Tensor& gradient, const v1::ActivationTask& task,
              v1::LayerMaps& maps) {
  const torch::Tensor a = tap.maps.detach().contiguous(), g = gradient.detach().contiguous();
  const auto channels = static_cast<size_t>(a.size(1));
  const auto pixels = static_cast<size_t>(a.size(2) * a.size(3));
  const LayerView layer{{a.const_data_ptr<float>(), channels * pixels},
                        {g.const_data_ptr<float>(), channels * pixels},
                        channels,
                        pixels};
  maps.set_layer(tap.layer);
  maps.set_channels(static_cast<uint32_t>(channels));
  maps.set_height(static_cast<uint32_t>(a.size(2)));
  maps.set_width(static_cast<uint32_t>(a.size(3)));
  const v1::CamKind kind = task.cam();
  const std::vector<float> cam = CamOf(kind, layer);
  if (kind != v1::CAM_KIND_UNSPECIFIED) {
    maps.mutable_cam()->Add(cam.begin(), cam.end());
    if (!IsLinearCam(kind)) {
      std::vector<float> negative(layer.gradient.begin(), layer.gradient.end());
      for (float& v : negative) v = -v;
      const std::vector<float> against = CamOf(kind, {layer.maps, negative, channels, pixels});
      maps.mutable_cam()->Add(against.begin(), against.end());
    }
    return;
  }
  if (!task.cams_only()) maps.mutable_activations()->Add(layer.maps.begin(), layer.maps.end());
  maps.mutable_grad_cam()->Add(cam.begin(), cam.end());
}

}  // namespace

absl::StatusOr<v1::ActivationOutput> RunActivations(const v1::ActivationTask& task,
                                                    const ImageData& data,
                                                    std::string_view weights) {
  ASSIGN_OR_RETURN(const Model model, ModelOf(task.model(), weights, data, "activations"));
  RETURN_IF_ERROR(CheckCam(task, model));
  at::set_num_threads(1);
  ASSIGN_OR_RETURN(torch::Tensor input, ExplainedInput(model, data, task.images(), task.image()));
  try {
    // A leaf that requires gradients, so that every tap is part of the recorded graph.
    const NetworkGraph graph = GraphOf(model, input.requires_grad_(true));
    const std::vector<Tap> taps = TapsOf(graph, task.cam());
    std::vector<torch::Tensor> maps;
    for (const Tap& tap : taps) maps.push_back(tap.maps);
    const std::vector<torch::Tensor> gradients =
        torch::autograd::grad({OutputsOf(task.output(), graph.logits)[0]}, maps);
    v1::ActivationOutput output;
    if (task.cam() != v1::CAM_KIND_UNSPECIFIED) {
      output.set_full(OutputOfRow(task.output(), graph.logits, 0));
    }
    const bool exact = task.output() != v1::OUTPUT_KIND_PROBABILITY &&
                       (task.cam() == v1::CAM_KIND_CAM || task.cam() == v1::CAM_KIND_HIRES_CAM);
    for (size_t k = 0; k < taps.size(); ++k) {
      v1::LayerMaps* layer = output.add_layers();
      FillMaps(taps[k], gradients[k], task, *layer);
      if (exact && taps[k].layer == graph.last.layer) {
        layer->set_offset(OffsetOf(model, task.output()));
      }
    }
    return output;
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("activations of image ", task.image(), ": ", e.what()));
  }
}

}  // namespace dermis
