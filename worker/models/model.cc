#include "worker/models/model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/philox.h"
#include "common/status_macros.h"
#include "worker/models/normals.h"
#include "worker/models/resnet.h"

namespace dermis {
namespace {

constexpr char kFormat[] = "dermis model";
uint64_t CountOf(const std::vector<int64_t>& shape) {
  uint64_t count = 1;
  for (int64_t d : shape) count *= static_cast<uint64_t>(d);
  return count;
}

void Append(std::vector<ParameterSpec>& specs, uint64_t& total, ParameterSpec spec) {
  spec.count = CountOf(spec.shape);
  spec.offset = total;
  total += spec.count;
  specs.push_back(std::move(spec));
}

const ParameterSpec* Find(const std::vector<ParameterSpec>& specs, std::string_view name) {
  for (const ParameterSpec& spec : specs) {
    if (spec.name == name) return &spec;
  }
  return nullptr;
}

[[noreturn]] void NoSuchTensor(std::string_view name) {
  std::fprintf(stderr, "model: no tensor named %s\n", std::string(name).c_str());
  std::abort();
}

// Glorot and Bengio 2010, uniform.
double GlorotLimit(int64_t fan_in, int64_t fan_out) {
  return std::sqrt(6.0 / static_cast<double>(fan_in + fan_out));
}

// Channels 32 / 64 / 128, two convolutions a block (the seed's Table 2).
ModelLayout SeedCnnLayout(uint32_t size, uint32_t classes) {
  ModelLayout layout;
  layout.kind = v1::MODEL_KIND_SEED_CNN;
  layout.size = size;
  layout.classes = classes;
  int64_t in = 3;
  for (int k = 1; k <= 6; ++k) {
    const int64_t out = k <= 2 ? 32 : k <= 4 ? 64 : 128;
    const std::string conv = absl::StrCat("conv", k), bn = absl::StrCat("bn", k);
    layout.AddParameter({.name = conv + ".weight",
                         .shape = {out, in, 3, 3},
                         .draw = Draw::kUniform,
                         .spread = GlorotLimit(in * 9, out * 9),
                         .decayed = true});
    layout.AddParameter({.name = conv + ".bias", .shape = {out}});
    layout.AddParameter({.name = bn + ".weight", .shape = {out}, .spread = 1});
    layout.AddParameter({.name = bn + ".bias", .shape = {out}});
    layout.AddStatistic({.name = bn + ".running_mean", .shape = {out}});
    layout.AddStatistic({.name = bn + ".running_var", .shape = {out}, .spread = 1});
    in = out;
  }
  const int64_t features = in * (size / 8) * (size / 8);
  layout.AddParameter({.name = "dense.weight",
                       .shape = {classes, features},
                       .draw = Draw::kUniform,
                       .spread = GlorotLimit(features, classes)});
  layout.AddParameter({.name = "dense.bias", .shape = {classes}});
  return layout;
}

std::array<double, 4> DrawBlock(const ParameterSpec& spec, const std::array<uint32_t, 4>& words) {
  if (spec.draw == Draw::kNormal) {
    const auto [a, b] = Normals(words[0], words[1]);
    const auto [c, d] = Normals(words[2], words[3]);
    return {a * spec.spread, b * spec.spread, c * spec.spread, d * spec.spread};
  }
  std::array<double, 4> values;
  for (int j = 0; j < 4; ++j) values[j] = (2.0 * ToUnitFloat(words[j]) - 1.0) * spec.spread;
  return values;
}

void Initialize(const std::vector<ParameterSpec>& specs, uint64_t seed,
                std::vector<float>& values) {
  for (size_t k = 0; k < specs.size(); ++k) {
    const ParameterSpec& spec = specs[k];
    float* out = values.data() + spec.offset;
    if (spec.draw == Draw::kConstant) {
      std::fill(out, out + spec.count, static_cast<float>(spec.spread));
      continue;
    }
    for (uint64_t i = 0; i < spec.count; i += 4) {
      const auto values =
          DrawBlock(spec, PhiloxBlock(seed, Purpose::kInit, k, 0, static_cast<uint32_t>(i / 4)));
      for (uint64_t j = i; j < std::min(i + 4, spec.count); ++j) {
        out[j] = static_cast<float>(values[j - i]);
      }
    }
  }
}

absl::StatusOr<v1::ModelKind> KindOf(const std::string& name) {
  for (const v1::ModelKind kind : {v1::MODEL_KIND_SEED_CNN, v1::MODEL_KIND_RESNET18,
                                   v1::MODEL_KIND_RESNET34, v1::MODEL_KIND_RESNET50}) {
    if (name == ModelName(kind)) return kind;
  }
  return absl::InvalidArgumentError(absl::StrCat("model file: no such model: ", name));
}

const char* StemName(v1::Stem stem) { return stem == v1::STEM_SMALL ? "small" : "imagenet"; }

absl::StatusOr<v1::Stem> StemOf(const std::string& name) {
  for (const v1::Stem stem : {v1::STEM_IMAGENET, v1::STEM_SMALL}) {
    if (name == StemName(stem)) return stem;
  }
  return absl::InvalidArgumentError(absl::StrCat("model file: no such stem: ", name));
}

absl::StatusOr<std::string> MetadataOf(const SafetensorsView& file, const std::string& key) {
  auto it = file.metadata.find(key);
  if (it == file.metadata.end()) {
    return absl::InvalidArgumentError(absl::StrCat("model file: metadata lacks '", key, "'"));
  }
  return it->second;
}

}  // namespace

const ParameterSpec& ModelLayout::parameter(std::string_view name) const {
  const ParameterSpec* spec = Find(parameters, name);
  if (spec == nullptr) NoSuchTensor(name);
  return *spec;
}

const ParameterSpec& ModelLayout::statistic(std::string_view name) const {
  const ParameterSpec* spec = Find(statistics, name);
  if (spec == nullptr) NoSuchTensor(name);
  return *spec;
}

const float* Model::at(std::string_view name) const {
  if (const ParameterSpec* spec = Find(layout.parameters, name))
    return parameters.data() + spec->offset;
  return statistics.data() + layout.statistic(name).offset;
}

void ModelLayout::AddParameter(ParameterSpec spec) {
  Append(parameters, parameter_count, std::move(spec));
}

void ModelLayout::AddStatistic(ParameterSpec spec) {
  Append(statistics, statistic_count, std::move(spec));
}

// MODEL_KIND_RESNET18 -> resnet18
std::string ModelName(v1::ModelKind kind) {
  return absl::AsciiStrToLower(v1::ModelKind_Name(kind).substr(std::strlen("MODEL_KIND_")));
}

absl::StatusOr<ModelLayout> LayoutOf(v1::ModelKind kind, uint32_t size, uint32_t classes,
                                     v1::Stem stem) {
  if (classes < 2 || classes > 4096) {
    return absl::InvalidArgumentError(
        absl::StrCat("a classifier needs 2 to 4096 classes, the image set has ", classes));
  }
  switch (kind) {
    case v1::MODEL_KIND_RESNET18:
    case v1::MODEL_KIND_RESNET34:
    case v1::MODEL_KIND_RESNET50:
      return ResNetLayout(kind, stem, size, classes);
    case v1::MODEL_KIND_SEED_CNN:
      if (stem != v1::STEM_UNSPECIFIED) {
        return absl::InvalidArgumentError("seed_cnn has one form: no stem may be named");
      }
      // Three poolings by two; beyond 512 pixels the dense layer alone would hold a million
      // weights.
      if (size == 0 || size % 8 != 0 || size > 512) {
        return absl::InvalidArgumentError(absl::StrCat(
            "seed_cnn needs an image size that is a multiple of 8, at most 512; images.size is ",
            size));
      }
      return SeedCnnLayout(size, classes);
    default:
      return absl::InvalidArgumentError(absl::StrCat("no such model: ", v1::ModelKind_Name(kind)));
  }
}

void InitializeModel(uint64_t seed, Model& model) {
  model.parameters.assign(model.layout.parameter_count, 0);
  model.statistics.assign(model.layout.statistic_count, 0);
  Initialize(model.layout.parameters, seed, model.parameters);
  Initialize(model.layout.statistics, seed, model.statistics);
}

void AddTensors(const std::vector<ParameterSpec>& specs, const std::string& prefix,
                const std::vector<float>& values, std::map<std::string, TensorView>& tensors) {
  for (const ParameterSpec& spec : specs) {
    tensors[prefix + spec.name] =
        TensorView{"F32", spec.shape,
                   std::string_view(reinterpret_cast<const char*>(values.data() + spec.offset),
                                    spec.count * sizeof(float))};
  }
}

absl::Status ReadTensors(const SafetensorsView& file, const std::vector<ParameterSpec>& specs,
                         const std::string& prefix, std::vector<float>& values) {
  uint64_t total = 0;
  for (const ParameterSpec& spec : specs) total += spec.count;
  values.resize(total);
  for (const ParameterSpec& spec : specs) {
    auto it = file.tensors.find(prefix + spec.name);
    if (it == file.tensors.end()) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", prefix, spec.name, " is missing"));
    }
    const TensorView& tensor = it->second;
    if (tensor.dtype != "F32" || tensor.shape != spec.shape ||
        tensor.data.size() != spec.count * sizeof(float)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", prefix, spec.name, " is ", tensor.dtype, " [",
                       absl::StrJoin(tensor.shape, ", "), "], expected F32 [",
                       absl::StrJoin(spec.shape, ", "), "]"));
    }
    std::memcpy(values.data() + spec.offset, tensor.data.data(), tensor.data.size());
  }
  return absl::OkStatus();
}

std::string SerializeModel(const Model& model) {
  std::map<std::string, TensorView> tensors;
  AddTensors(model.layout.parameters, "", model.parameters, tensors);
  AddTensors(model.layout.statistics, "", model.statistics, tensors);
  std::map<std::string, std::string> metadata = {
      {"format", kFormat},
      {"version", "1"},
      {"model", ModelName(model.layout.kind)},
      {"size", absl::StrCat(model.layout.size)},
      {"classes", absl::StrCat(model.layout.classes)},
      {"pixel_mean", absl::StrFormat("%.17g", model.pixel_mean)},
      {"pixel_deviation", absl::StrFormat("%.17g", model.pixel_deviation)}};
  if (model.layout.stem != v1::STEM_UNSPECIFIED) metadata["stem"] = StemName(model.layout.stem);
  return SerializeSafetensors(tensors, metadata);
}

absl::StatusOr<Model> ParseModel(std::string_view bytes) {
  ASSIGN_OR_RETURN(const SafetensorsView file, ParseSafetensors(bytes));
  ASSIGN_OR_RETURN(const std::string format, MetadataOf(file, "format"));
  if (format != kFormat) {
    return absl::InvalidArgumentError(absl::StrCat("not a model file: format is '", format, "'"));
  }
  ASSIGN_OR_RETURN(const std::string version, MetadataOf(file, "version"));
  if (version != "1") {
    return absl::InvalidArgumentError(
        absl::StrCat("model file of version ", version, "; this software reads version 1"));
  }
  ASSIGN_OR_RETURN(const std::string kind, MetadataOf(file, "model"));
  ASSIGN_OR_RETURN(const v1::ModelKind model_kind, KindOf(kind));
  v1::Stem stem = v1::STEM_UNSPECIFIED;
  if (file.metadata.contains("stem")) {
    ASSIGN_OR_RETURN(stem, StemOf(file.metadata.at("stem")));
  }
  ASSIGN_OR_RETURN(const std::string size_text, MetadataOf(file, "size"));
  ASSIGN_OR_RETURN(const std::string classes_text, MetadataOf(file, "classes"));
  ASSIGN_OR_RETURN(const std::string mean_text, MetadataOf(file, "pixel_mean"));
  ASSIGN_OR_RETURN(const std::string deviation_text, MetadataOf(file, "pixel_deviation"));
  uint32_t size = 0, classes = 0;
  Model model;
  if (!absl::SimpleAtoi(size_text, &size) || !absl::SimpleAtoi(classes_text, &classes) ||
      !absl::SimpleAtod(mean_text, &model.pixel_mean) ||
      !absl::SimpleAtod(deviation_text, &model.pixel_deviation)) {
    return absl::InvalidArgumentError("model file: metadata is not a number where one is due");
  }
  ASSIGN_OR_RETURN(model.layout, LayoutOf(model_kind, size, classes, stem));
  if (file.tensors.size() != model.layout.parameters.size() + model.layout.statistics.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("model file holds ", file.tensors.size(), " tensors, ", kind, " has ",
                     model.layout.parameters.size() + model.layout.statistics.size()));
  }
  RETURN_IF_ERROR(ReadTensors(file, model.layout.parameters, "", model.parameters));
  RETURN_IF_ERROR(ReadTensors(file, model.layout.statistics, "", model.statistics));
  return model;
}

}  // namespace dermis
