#include "worker/plan/seed_cnn_weights.h"
#include "worker/models/model.h"

#include <cmath>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/safetensors.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

absl::StatusOr<std::vector<float>> Read(const SafetensorsView& file, const std::string& name,
                                        const std::vector<int64_t>& shape) {
  const auto it = file.tensors.find(name);
  if (it == file.tensors.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("model file has no tensor \"", name, "\": it is not a seed_cnn model"));
  }
  const TensorView& tensor = it->second;
  if (tensor.dtype != "F32" || tensor.shape != shape) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", name, "\" of the model file is ", tensor.dtype, " [",
        absl::StrJoin(tensor.shape, ", "), "], expected F32 [", absl::StrJoin(shape, ", "),
        "]: another network or another image size"));
  }
  std::vector<float> values(tensor.data.size() / sizeof(float));
  std::memcpy(values.data(), tensor.data.data(), values.size() * sizeof(float));
  for (float v : values) {
    if (!std::isfinite(v)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor \"", name, "\" of the model file holds NaN or infinity: the training diverged"));
    }
  }
  return values;
}

}  // namespace

absl::StatusOr<SeedCnnWeights> ReadSeedCnnWeights(std::string_view safetensors, uint32_t size) {
  if (size < 8 || size % 8 != 0 || size > 1024) {
    return absl::InvalidArgumentError(absl::StrCat(
        "seed_cnn takes inputs of 8, 16, ..., 1024 pixels a side, not ", size));
  }
  ASSIGN_OR_RETURN(const SafetensorsView file, ParseSafetensors(safetensors));
  constexpr std::array<uint32_t, 7> kChannels = {3, 32, 32, 64, 64, 128, 128};
  SeedCnnWeights weights;
  weights.cells = size / 8;
  for (uint32_t i = 0; i < weights.layers.size(); ++i) {
    SeedCnnLayer& layer = weights.layers[i];
    layer.in = kChannels[i];
    layer.out = kChannels[i + 1];
    const int64_t out = layer.out;
    const std::string conv = absl::StrCat("conv", i + 1), norm = absl::StrCat("bn", i + 1);
    ASSIGN_OR_RETURN(layer.weight, Read(file, conv + ".weight", {out, layer.in, 3, 3}));
    ASSIGN_OR_RETURN(layer.bias, Read(file, conv + ".bias", {out}));
    ASSIGN_OR_RETURN(const std::vector<float> gamma, Read(file, norm + ".weight", {out}));
    ASSIGN_OR_RETURN(const std::vector<float> beta, Read(file, norm + ".bias", {out}));
    ASSIGN_OR_RETURN(const std::vector<float> mean, Read(file, norm + ".running_mean", {out}));
    ASSIGN_OR_RETURN(const std::vector<float> variance, Read(file, norm + ".running_var", {out}));
    layer.scale.resize(layer.out);
    layer.shift.resize(layer.out);
    for (uint32_t c = 0; c < layer.out; ++c) {
      if (variance[c] < 0) {
        return absl::InvalidArgumentError(absl::StrCat(
            "tensor \"", norm, ".running_var\" of the model file has a negative variance"));
      }
      const double scale = gamma[c] / std::sqrt(variance[c] + kBatchNormEpsilon);
      layer.scale[c] = static_cast<float>(scale);
      layer.shift[c] = static_cast<float>(beta[c] - mean[c] * scale);
    }
  }
  const auto dense = file.tensors.find("dense.bias");
  if (dense == file.tensors.end() || dense->second.shape.size() != 1 ||
      dense->second.shape[0] < 2 || dense->second.shape[0] > 65536) {
    return absl::InvalidArgumentError(
        "model file has no tensor \"dense.bias\" of at least two classes");
  }
  const int64_t classes = dense->second.shape[0];
  const int64_t features = int64_t{kChannels[6]} * weights.cells * weights.cells;
  weights.classes = static_cast<uint32_t>(classes);
  ASSIGN_OR_RETURN(weights.dense_weight, Read(file, "dense.weight", {classes, features}));
  ASSIGN_OR_RETURN(weights.dense_bias, Read(file, "dense.bias", {classes}));
  return weights;
}

}  // namespace dermis
