#include "worker/models/model.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/philox.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

constexpr char kFormat[] = "dermis model";
constexpr char kSeedCnn[] = "seed_cnn";

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
    auto parameter = [&](ParameterSpec spec) {
      Append(layout.parameters, layout.parameter_count, std::move(spec));
    };
    parameter({.name = conv + ".weight",
               .shape = {out, in, 3, 3},
               .fan_in = static_cast<uint64_t>(in * 9),
               .fan_out = static_cast<uint64_t>(out * 9),
               .decayed = true});
    parameter({.name = conv + ".bias", .shape = {out}});
    parameter({.name = bn + ".weight", .shape = {out}, .initial = 1});
    parameter({.name = bn + ".bias", .shape = {out}});
    Append(layout.statistics, layout.statistic_count,
           {.name = bn + ".running_mean", .shape = {out}});
    Append(layout.statistics, layout.statistic_count,
           {.name = bn + ".running_var", .shape = {out}, .initial = 1});
    in = out;
  }
  const int64_t features = in * (size / 8) * (size / 8);
  Append(layout.parameters, layout.parameter_count,
         {.name = "dense.weight",
          .shape = {classes, features},
          .fan_in = static_cast<uint64_t>(features),
          .fan_out = classes});
  Append(layout.parameters, layout.parameter_count, {.name = "dense.bias", .shape = {classes}});
  return layout;
}

void Initialize(const std::vector<ParameterSpec>& specs, uint64_t seed,
                std::vector<float>& values) {
  for (size_t k = 0; k < specs.size(); ++k) {
    const ParameterSpec& spec = specs[k];
    float* out = values.data() + spec.offset;
    if (spec.fan_in == 0) {
      std::fill(out, out + spec.count, spec.initial);
      continue;
    }
    const double limit = std::sqrt(6.0 / static_cast<double>(spec.fan_in + spec.fan_out));
    for (uint64_t i = 0; i < spec.count; i += 4) {
      const auto words = PhiloxBlock(seed, Purpose::kInit, k, 0, static_cast<uint32_t>(i / 4));
      for (uint64_t j = i; j < std::min(i + 4, spec.count); ++j) {
        out[j] = static_cast<float>((2.0 * ToUnitFloat(words[j - i]) - 1.0) * limit);
      }
    }
  }
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

absl::StatusOr<ModelLayout> LayoutOf(v1::ModelKind kind, uint32_t size, uint32_t classes) {
  if (classes < 2 || classes > 4096) {
    return absl::InvalidArgumentError(
        absl::StrCat("a classifier needs 2 to 4096 classes, the image set has ", classes));
  }
  switch (kind) {
    case v1::MODEL_KIND_SEED_CNN:
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
  return SerializeSafetensors(
      tensors, {{"format", kFormat},
                {"version", "1"},
                {"model", kSeedCnn},
                {"size", absl::StrCat(model.layout.size)},
                {"classes", absl::StrCat(model.layout.classes)},
                {"pixel_mean", absl::StrFormat("%.17g", model.pixel_mean)},
                {"pixel_deviation", absl::StrFormat("%.17g", model.pixel_deviation)}});
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
  if (kind != kSeedCnn) {
    return absl::InvalidArgumentError(absl::StrCat("model file: no such model: ", kind));
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
  ASSIGN_OR_RETURN(model.layout, LayoutOf(v1::MODEL_KIND_SEED_CNN, size, classes));
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
