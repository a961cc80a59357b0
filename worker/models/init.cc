#include "worker/models/init.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/safetensors.h"
#include "common/status_macros.h"
#include "worker/models/resnet.h"

namespace dermis {
namespace {

constexpr size_t kNamed = 5;  // Of each kind of problem; the rest is counted.

std::string Named(const std::string& what, const std::vector<std::string>& names) {
  const size_t shown = std::min(names.size(), kNamed);
  std::string text = absl::StrCat(
      what, " ", absl::StrJoin(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", "));
  if (names.size() > shown) absl::StrAppend(&text, " and ", names.size() - shown, " more");
  return text;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

bool IsHead(const std::string& name) {
  return absl::StartsWith(name, "fc.") || absl::StartsWith(name, "dense.");
}

// Whether the file's head is the network's for another number of classes: all but the first
// dimension agree.
bool OnlyClassesDiffer(const TensorView& tensor, const ParameterSpec& spec) {
  return tensor.dtype == "F32" && tensor.shape.size() == spec.shape.size() &&
         tensor.shape[0] != spec.shape[0] &&
         std::equal(tensor.shape.begin() + 1, tensor.shape.end(), spec.shape.begin() + 1);
}

}  // namespace

absl::StatusOr<std::string> LoadWeights(std::string_view safetensors, Model& model) {
  ASSIGN_OR_RETURN(const SafetensorsView file, ParseSafetensors(safetensors));
  const ModelLayout& layout = model.layout;
  Model loaded = model;
  std::vector<std::string> missing, misshapen, foreign, infinite;
  std::map<std::string, const ParameterSpec*> known;
  int64_t other_classes = 0;
  auto read = [&](const std::vector<ParameterSpec>& specs, std::vector<float>& values) {
    for (const ParameterSpec& spec : specs) {
      known[spec.name] = &spec;
      const auto it = file.tensors.find(spec.name);
      if (it == file.tensors.end()) {
        missing.push_back(spec.name);
        continue;
      }
      const TensorView& tensor = it->second;
      if (IsHead(spec.name) && OnlyClassesDiffer(tensor, spec)) {
        other_classes = tensor.shape[0];
        continue;
      }
      if (tensor.dtype != "F32" || tensor.shape != spec.shape) {
        misshapen.push_back(absl::StrCat(spec.name, " (", tensor.dtype, " ",
                                         ShapeText(tensor.shape), ", expected F32 ",
                                         ShapeText(spec.shape), ")"));
        continue;
      }
      float* const out = values.data() + spec.offset;
      std::memcpy(out, tensor.data.data(), tensor.data.size());
      if (!std::all_of(out, out + spec.count, [](float v) { return std::isfinite(v); })) {
        infinite.push_back(spec.name);
      }
    }
  };
  read(layout.parameters, loaded.parameters);
  read(layout.statistics, loaded.statistics);
  for (const auto& [name, tensor] : file.tensors) {
    if (!known.contains(name) && !absl::EndsWith(name, ".num_batches_tracked")) {
      foreign.push_back(name);
    }
  }
  std::vector<std::string> problems;
  if (!missing.empty()) problems.push_back(Named("it lacks", missing));
  if (!misshapen.empty()) problems.push_back(Named("misshapen are", misshapen));
  if (!foreign.empty()) problems.push_back(Named("the network has no", foreign));
  if (!infinite.empty()) problems.push_back(Named("NaN or infinity is in", infinite));
  if (!problems.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the weights do not fit ", ModelName(layout.kind), ": ", absl::StrJoin(problems, "; "),
        ". Give a file of the same network with torchvision's names, or choose the "
        "model that the file is of"));
  }
  if (other_classes != 0) {
    // Both of its tensors, whatever the file has.
    for (const ParameterSpec& spec : layout.parameters) {
      if (!IsHead(spec.name)) continue;
      std::copy_n(model.parameters.begin() + static_cast<ptrdiff_t>(spec.offset), spec.count,
                  loaded.parameters.begin() + static_cast<ptrdiff_t>(spec.offset));
    }
  }
  model.parameters = std::move(loaded.parameters);
  model.statistics = std::move(loaded.statistics);
  if (other_classes == 0) return std::string();
  return absl::StrCat("the weights are for ", other_classes, " classes, the image set has ",
                      layout.classes, ": the last layer starts afresh");
}

absl::Status FreezeBefore(const std::string& prefix, ModelLayout& layout) {
  if (prefix.empty()) return absl::OkStatus();
  if (!IsResNet(layout.kind)) {
    return absl::InvalidArgumentError(
        absl::StrCat(ModelName(layout.kind), " cannot be frozen in part, a ResNet can"));
  }
  constexpr std::string_view kParts[] = {"layer1", "layer2", "layer3", "layer4", "fc"};
  if (std::find(std::begin(kParts), std::end(kParts), prefix) == std::end(kParts)) {
    return absl::InvalidArgumentError(
        absl::StrCat("frozen_prefix is '", prefix, "'; ", ModelName(layout.kind),
                     " can be frozen before layer1, layer2, layer3, layer4 or fc"));
  }
  const std::string first = absl::StrCat(prefix, ".");
  for (ParameterSpec& spec : layout.parameters) {
    if (absl::StartsWith(spec.name, first)) break;
    spec.frozen = true;
  }
  return absl::OkStatus();
}

}  // namespace dermis
