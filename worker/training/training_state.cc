#include "worker/training/training_state.h"

#include <cstring>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/safetensors.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

constexpr char kFormat[] = "dermis training state";
constexpr int kColumns = 6;

TensorView Doubles(const std::vector<double>& values, std::vector<int64_t> shape) {
  return {"F64", std::move(shape),
          std::string_view(reinterpret_cast<const char*>(values.data()),
                           values.size() * sizeof(double))};
}

absl::StatusOr<std::vector<double>> ReadDoubles(const SafetensorsView& file,
                                                const std::string& name, size_t multiple) {
  auto it = file.tensors.find(name);
  if (it == file.tensors.end() || it->second.dtype != "F64" || it->second.data.empty() ||
      it->second.data.size() % (multiple * sizeof(double)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("training state: tensor ", name, " is missing or misshapen"));
  }
  std::vector<double> values(it->second.data.size() / sizeof(double));
  std::memcpy(values.data(), it->second.data.data(), it->second.data.size());
  return values;
}

std::map<std::string, std::string> MetadataOf(const TrainingState& state,
                                              const std::string& recipe) {
  const Model& model = state.model;
  return {{"format", kFormat},
          {"version", "1"},
          {"model", ModelName(model.layout.kind)},
          {"size", absl::StrCat(model.layout.size)},
          {"classes", absl::StrCat(model.layout.classes)},
          {"pixel_mean", absl::StrFormat("%.17g", model.pixel_mean)},
          {"pixel_deviation", absl::StrFormat("%.17g", model.pixel_deviation)},
          {"recipe", recipe},
          {"step", absl::StrCat(state.step)},
          {"best_epoch", absl::StrCat(state.best_epoch)}};
}

}  // namespace

std::string SerializeTrainingState(const TrainingState& state, const std::string& recipe) {
  const ModelLayout& layout = state.model.layout;
  std::map<std::string, TensorView> tensors;
  AddTensors(layout.parameters, "model.", state.model.parameters, tensors);
  AddTensors(layout.statistics, "model.", state.model.statistics, tensors);
  for (size_t k = 0; k < state.slots.size(); ++k) {
    AddTensors(layout.parameters, state.slot_names[k] + ".", state.slots[k], tensors);
  }
  if (state.averaged) {
    AddTensors(layout.parameters, "ema.", state.average_parameters, tensors);
    AddTensors(layout.statistics, "ema.", state.average_statistics, tensors);
  }
  if (state.best_epoch > 0) {
    AddTensors(layout.parameters, "best.", state.best_parameters, tensors);
    AddTensors(layout.statistics, "best.", state.best_statistics, tensors);
  }
  std::vector<double> rows;
  for (const v1::EpochMetrics& e : state.epochs) {
    rows.insert(rows.end(),
                {static_cast<double>(e.epoch()), e.training_loss(), e.training_accuracy(),
                 e.validation_loss(), e.validation_accuracy(), e.learning_rate()});
  }
  if (!rows.empty()) {
    tensors["epochs"] = Doubles(rows, {static_cast<int64_t>(state.epochs.size()), kColumns});
  }
  const std::vector<double> sums = {state.epoch_loss, static_cast<double>(state.epoch_correct)};
  tensors["epoch_sums"] = Doubles(sums, {2});
  return SerializeSafetensors(tensors, MetadataOf(state, recipe));
}

absl::StatusOr<TrainingState> ParseTrainingState(std::string_view bytes, const std::string& recipe,
                                                 const TrainingState& like) {
  ASSIGN_OR_RETURN(const SafetensorsView file, ParseSafetensors(bytes));
  TrainingState state;
  state.model.layout = like.model.layout;
  state.model.pixel_mean = like.model.pixel_mean;
  state.model.pixel_deviation = like.model.pixel_deviation;
  state.slot_names = like.slot_names;
  state.averaged = like.averaged;
  auto metadata = [&file](const std::string& key) {
    auto it = file.metadata.find(key);
    return it == file.metadata.end() ? std::string() : it->second;
  };
  if (metadata("format") != kFormat || !absl::SimpleAtoi(metadata("step"), &state.step) ||
      !absl::SimpleAtoi(metadata("best_epoch"), &state.best_epoch)) {
    return absl::InvalidArgumentError("not a training state: its metadata says otherwise");
  }
  for (const auto& [key, value] : MetadataOf(state, recipe)) {
    if (metadata(key) != value) {
      return absl::InvalidArgumentError(absl::StrCat("training state of another recipe: ", key,
                                                     " is '", metadata(key), "', expected '", value,
                                                     "'"));
    }
  }
  const ModelLayout& layout = state.model.layout;
  RETURN_IF_ERROR(ReadTensors(file, layout.parameters, "model.", state.model.parameters));
  RETURN_IF_ERROR(ReadTensors(file, layout.statistics, "model.", state.model.statistics));
  for (const std::string& name : state.slot_names) {
    state.slots.emplace_back();
    RETURN_IF_ERROR(ReadTensors(file, layout.parameters, name + ".", state.slots.back()));
  }
  if (state.averaged) {
    RETURN_IF_ERROR(ReadTensors(file, layout.parameters, "ema.", state.average_parameters));
    RETURN_IF_ERROR(ReadTensors(file, layout.statistics, "ema.", state.average_statistics));
  }
  if (state.best_epoch > 0) {
    RETURN_IF_ERROR(ReadTensors(file, layout.parameters, "best.", state.best_parameters));
    RETURN_IF_ERROR(ReadTensors(file, layout.statistics, "best.", state.best_statistics));
    ASSIGN_OR_RETURN(const std::vector<double> rows, ReadDoubles(file, "epochs", kColumns));
    for (size_t i = 0; i < rows.size(); i += kColumns) {
      v1::EpochMetrics e;
      e.set_epoch(static_cast<uint32_t>(rows[i]));
      e.set_training_loss(rows[i + 1]);
      e.set_training_accuracy(rows[i + 2]);
      e.set_validation_loss(rows[i + 3]);
      e.set_validation_accuracy(rows[i + 4]);
      e.set_learning_rate(rows[i + 5]);
      if (e.epoch() != i / kColumns + 1) {
        return absl::InvalidArgumentError("training state: epochs are not 1, 2, 3, ...");
      }
      state.epochs.push_back(std::move(e));
    }
    if (state.best_epoch > state.epochs.size()) {
      return absl::InvalidArgumentError("training state: the best epoch is not among its epochs");
    }
  }
  ASSIGN_OR_RETURN(const std::vector<double> sums, ReadDoubles(file, "epoch_sums", 2));
  state.epoch_loss = sums[0];
  state.epoch_correct = static_cast<uint64_t>(sums[1]);
  return state;
}

Model CurrentModel(const TrainingState& state) {
  Model model = state.model;
  if (state.averaged) {
    model.parameters = state.average_parameters;
    model.statistics = state.average_statistics;
  }
  return model;
}

std::string LastModel(const TrainingState& state) { return SerializeModel(CurrentModel(state)); }

std::string BestModel(const TrainingState& state) {
  if (state.best_epoch == 0) return "";
  Model best = state.model;
  best.parameters = state.best_parameters;
  best.statistics = state.best_statistics;
  return SerializeModel(best);
}

}  // namespace dermis
