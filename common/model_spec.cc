#include "common/model_spec.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/digest.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

absl::Status Wrong(const std::string& key, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("'model.", key, "' ", why));
}

absl::StatusOr<v1::ModelFormat> FormatOf(const std::string& file) {
  const std::string name = absl::AsciiStrToLower(file);
  if (absl::EndsWith(name, ".safetensors")) return v1::MODEL_FORMAT_SAFETENSORS;
  if (absl::EndsWith(name, ".onnx")) return v1::MODEL_FORMAT_ONNX;
  for (const char* ending : {".pt", ".pth", ".torchscript"}) {
    if (absl::EndsWith(name, ending)) return v1::MODEL_FORMAT_TORCHSCRIPT;
  }
  return Wrong("format", absl::StrCat("is not told by the name of ", file,
                                      ": give safetensors, torchscript or onnx"));
}

// One value stands for all three channels.
template <typename Values>
absl::Status FillChannels(const std::string& key, double by_default, double low, double high,
                          Values& values) {
  if (values.empty()) values.Add(by_default);
  const double first = values.Get(0);  // Resize may move what it would be given.
  if (values.size() == 1) values.Resize(3, first);
  if (values.size() != 3) {
    return Wrong(key, absl::StrCat("has ", values.size(), " values; one or three are needed"));
  }
  for (const double value : values) {
    if (!(value >= low && value <= high)) {
      return Wrong(key, absl::StrCat("is ", value, "; it must be from ", low, " to ", high));
    }
  }
  return absl::OkStatus();
}

absl::Status ResolveBlackBox(v1::ModelSpec& model) {
  if (model.kind() != v1::MODEL_KIND_UNSPECIFIED) return Wrong("kind", "is for safetensors");
  if (model.precision() == v1::PRECISION_BF16) {
    return Wrong("precision", "is for safetensors: a black box computes as it was made");
  }
  model.clear_precision();
  v1::ModelInputSpec& input = *model.mutable_input();
  if (!input.has_range()) input.set_range(1);
  if (!(input.range() >= 1e-6 && input.range() <= 65535)) {
    return Wrong("input.range",
                 absl::StrCat("is ", input.range(), "; it must be from 1e-6 to 65535"));
  }
  RETURN_IF_ERROR(FillChannels("input.mean", 0, -1e6, 1e6, *input.mutable_mean()));
  RETURN_IF_ERROR(FillChannels("input.deviation", 1, 1e-6, 1e6, *input.mutable_deviation()));
  if (input.channels() == v1::CHANNEL_ORDER_UNSPECIFIED) input.set_channels(v1::CHANNEL_ORDER_RGB);
  if (model.outputs() == v1::MODEL_OUTPUTS_UNSPECIFIED) model.set_outputs(v1::MODEL_OUTPUTS_LOGITS);
  std::vector<std::string> names(model.classes().begin(), model.classes().end());
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end()) {
    return Wrong("classes", absl::StrCat("has '", *twice, "' twice"));
  }
  return absl::OkStatus();
}

absl::Status ResolveSafetensors(v1::ModelSpec& model) {
  if (model.kind() == v1::MODEL_KIND_UNSPECIFIED) {
    return Wrong("kind", "is missing: submit with `dermis run`, which reads it from the file");
  }
  for (const auto& [set, key] : {std::pair(model.has_input(), "input"),
                                 {model.classes_size() > 0, "classes"},
                                 {model.outputs() != v1::MODEL_OUTPUTS_UNSPECIFIED, "outputs"}}) {
    if (set) return Wrong(key, "is for TorchScript and ONNX: a safetensors file says it itself");
  }
  if (model.precision() == v1::PRECISION_UNSPECIFIED) model.set_precision(v1::PRECISION_FP32);
  return absl::OkStatus();
}

}  // namespace

bool TakesBlackBoxes(const v1::MethodSpec& method) {
  switch (method.kind_case()) {
    case v1::MethodSpec::kLime:
    case v1::MethodSpec::kShapley:
    case v1::MethodSpec::kOcclusion:
    case v1::MethodSpec::kRise:
      return true;
    default:
      return false;
  }
}

absl::Status FillFormat(v1::ModelSpec& model) {
  if (model.format() != v1::MODEL_FORMAT_UNSPECIFIED) return absl::OkStatus();
  ASSIGN_OR_RETURN(const v1::ModelFormat format, FormatOf(model.file()));
  model.set_format(format);
  return absl::OkStatus();
}

absl::Status ResolveModelSpec(v1::StudySpec& spec) {
  v1::ModelSpec& model = *spec.mutable_model();
  if (spec.has_sweep()) return Wrong("", "excludes 'sweep': the model is there already");
  if (spec.training().ByteSizeLong() > 0) {
    return absl::InvalidArgumentError(
        "'model' excludes 'training': the model is there already. To train on from a file give "
        "training.init");
  }
  spec.clear_training();
  if (model.digest().empty()) {
    return Wrong("file", model.file().empty() ? "is missing: name the model's file"
                                              : "was not uploaded: submit with `dermis run`");
  }
  if (!Digest::FromHex(model.digest()).ok()) return Wrong("digest", "must be 64 hex digits");
  RETURN_IF_ERROR(FillFormat(model));
  if (!IsBlackBox(model)) return ResolveSafetensors(model);
  RETURN_IF_ERROR(ResolveBlackBox(model));
  if (!spec.has_explanation()) return absl::OkStatus();
  if (spec.explanation().methods_size() == 0) {
    spec.mutable_explanation()->add_methods()->mutable_lime();
    spec.mutable_explanation()->add_methods()->mutable_shapley();
  }
  for (const v1::MethodSpec& method : spec.explanation().methods()) {
    if (method.kind_case() == v1::MethodSpec::KIND_NOT_SET || TakesBlackBoxes(method)) continue;
    const auto* field = v1::MethodSpec::descriptor()->FindFieldByNumber(method.kind_case());
    return absl::InvalidArgumentError(absl::StrCat(
        "'explanation.methods' has ", field->name(), ", which looks inside the network; of ",
        model.file(), " only the outputs are known. Take lime or shapley, or a safetensors model"));
  }
  if (!spec.explanation().checks().has_stability()) return absl::OkStatus();
  v1::StabilitySpec& stability = *spec.mutable_explanation()->mutable_checks()->mutable_stability();
  if (!stability.has_randomisation()) stability.set_randomisation(false);
  if (!stability.randomisation()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "'explanation.checks.stability.randomisation' needs the layers of a network; of ",
      model.file(), " only the outputs are known: leave it out"));
}

absl::StatusOr<v1::ModelRef> ModelRefOf(const v1::ModelSpec& model,
                                        const v1::ImageSetManifest& manifest) {
  v1::ModelRef ref;
  ASSIGN_OR_RETURN(const Digest digest, Digest::FromHex(model.digest()));
  ref.set_weights(digest.bytes());
  if (!IsBlackBox(model)) {
    ref.set_kind(model.kind());
    return ref;
  }
  v1::ForeignModel& foreign = *ref.mutable_foreign();
  foreign.set_format(model.format());
  *foreign.mutable_input() = model.input();
  foreign.set_outputs(model.outputs());
  foreign.set_width(static_cast<uint32_t>(model.classes_size()));
  const int classes = manifest.classes_size();
  if (model.classes_size() == 0) return ref;
  if (model.classes_size() == 1 && classes == 2 && model.classes(0) == manifest.classes(1))
    return ref;
  std::vector<uint32_t> columns;
  for (const std::string& name : manifest.classes()) {
    const auto at = std::find(model.classes().begin(), model.classes().end(), name);
    if (at == model.classes().end()) {
      return Wrong("classes",
                   absl::StrCat("has no '", name, "', which is a class of the image set; it has ",
                                absl::StrJoin(model.classes(), ", ")));
    }
    columns.push_back(static_cast<uint32_t>(std::distance(model.classes().begin(), at)));
  }
  // One meaning has one address: what is in order needs no list.
  bool in_order = model.classes_size() == classes;
  for (uint32_t c = 0; c < columns.size(); ++c) in_order = in_order && columns[c] == c;
  if (!in_order) foreign.mutable_columns()->Assign(columns.begin(), columns.end());
  return ref;
}

}  // namespace dermis
