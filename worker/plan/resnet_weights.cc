#include "worker/plan/resnet_weights.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace dermis {
namespace {

absl::Status CheckFinite(const Model& model, const std::vector<ParameterSpec>& specs,
                         const std::vector<float>& values) {
  for (const ParameterSpec& spec : specs) {
    const float* const v = values.data() + spec.offset;
    if (!std::all_of(v, v + spec.count, [](float x) { return std::isfinite(x); })) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor \"", spec.name, "\" of the ", ModelName(model.layout.kind),
                       " model file holds NaN or infinity: the training diverged"));
    }
  }
  return absl::OkStatus();
}

std::vector<float> Copy(const Model& model, const std::string& name) {
  const float* const v = model.at(name);
  return std::vector<float>(v, v + model.layout.parameter(name).count);
}

}  // namespace

absl::StatusOr<ResNetWeights> ReadResNetWeights(std::string_view safetensors, v1::ModelKind kind,
                                                uint32_t size) {
  ASSIGN_OR_RETURN(const Model model, ParseModel(safetensors));
  const ModelLayout& layout = model.layout;
  if (layout.kind != kind || layout.size != size) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model file is of ", ModelName(layout.kind), " for inputs of ",
                     layout.size, " pixels a side, wanted is ", ModelName(kind), " for ", size));
  }
  RETURN_IF_ERROR(CheckFinite(model, layout.parameters, model.parameters));
  RETURN_IF_ERROR(CheckFinite(model, layout.statistics, model.statistics));
  ResNetWeights weights;
  weights.kind = kind;
  weights.shape = ResNetShapeOf(kind, layout.stem);
  weights.size = size;
  weights.classes = layout.classes;
  for (const ResNetLayer& form : weights.shape.layers) {
    ResNetPlanLayer layer;
    layer.form = form;
    layer.weight = Copy(model, form.convolution + ".weight");
    const float* const gamma = model.at(form.norm + ".weight");
    const float* const beta = model.at(form.norm + ".bias");
    const float* const mean = model.at(form.norm + ".running_mean");
    const float* const variance = model.at(form.norm + ".running_var");
    for (uint32_t c = 0; c < form.out; ++c) {
      if (variance[c] < 0) {
        return absl::InvalidArgumentError(absl::StrCat(
            "tensor \"", form.norm, ".running_var\" of the model file has a negative variance"));
      }
      layer.scale.push_back(gamma[c] / std::sqrt(variance[c] + layout.batch_norm_epsilon));
      layer.shift.push_back(beta[c] - mean[c] * layer.scale.back());
    }
    weights.layers.push_back(std::move(layer));
  }
  weights.fc_weight = Copy(model, "fc.weight");
  weights.fc_bias = Copy(model, "fc.bias");
  return weights;
}

}  // namespace dermis
