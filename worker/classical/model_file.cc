#include "worker/classical/model_file.h"

#include <cmath>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "common/safetensors.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

constexpr char kModelKey[] = "dermis_model";
constexpr uint32_t kLargestSize = 4096;
constexpr uint32_t kMostClasses = 1024;

absl::Status Bad(const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("a baseline's file: ", why));
}

template <typename T>
TensorView View(const char* dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
  return {dtype,
          std::move(shape),
          {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)}};
}

absl::StatusOr<uint32_t> Number(const SafetensorsView& file, const std::string& key, uint32_t least,
                                uint32_t most) {
  const auto it = file.metadata.find(key);
  uint32_t value = 0;
  if (it == file.metadata.end() || !absl::SimpleAtoi(it->second, &value) || value < least ||
      value > most) {
    return Bad(absl::StrCat("metadata '", key, "' is missing or not in ", least, "..", most));
  }
  return value;
}

// A tensor of this type and shape; -1 in `shape`: any number.
template <typename T>
absl::Status Take(const SafetensorsView& file, const std::string& name, const char* dtype,
                  const std::vector<int64_t>& shape, std::vector<T>* values) {
  const auto it = file.tensors.find(name);
  if (it == file.tensors.end()) return Bad(absl::StrCat("no tensor '", name, "'"));
  const TensorView& tensor = it->second;
  bool fits = tensor.dtype == dtype && tensor.shape.size() == shape.size();
  for (size_t k = 0; fits && k < shape.size(); ++k) {
    fits = shape[k] == -1 || tensor.shape[k] == shape[k];
  }
  if (!fits) return Bad(absl::StrCat("tensor '", name, "' has another type or shape"));
  values->resize(tensor.data.size() / sizeof(T));
  if (!values->empty()) std::memcpy(values->data(), tensor.data.data(), tensor.data.size());
  return absl::OkStatus();
}

absl::Status CheckRange(const std::string& name, const std::vector<double>& values, double low,
                        double high) {
  for (double value : values) {
    if (!(value >= low && value <= high)) {
      return Bad(absl::StrCat("'", name, "' has a value that is not finite or not possible"));
    }
  }
  return absl::OkStatus();
}

constexpr double kLargest = 1e100;  // What is multiplied and summed stays finite.

absl::StatusOr<LogisticModel> TakeLogistic(const SafetensorsView& file) {
  LogisticModel model;
  ASSIGN_OR_RETURN(model.size, Number(file, "size", 1, kLargestSize));
  const std::vector<int64_t> shape = {model.size, model.size, 3};
  std::vector<double> intercept;
  RETURN_IF_ERROR(Take(file, "weights", "F64", shape, &model.weights));
  RETURN_IF_ERROR(Take(file, "mean", "F64", shape, &model.mean));
  RETURN_IF_ERROR(Take(file, "intercept", "F64", {1}, &intercept));
  RETURN_IF_ERROR(CheckRange("weights", model.weights, -kLargest, kLargest));
  RETURN_IF_ERROR(CheckRange("mean", model.mean, 0, 1));
  RETURN_IF_ERROR(CheckRange("intercept", intercept, -kLargest, kLargest));
  model.intercept = intercept[0];
  return model;
}

absl::StatusOr<Forest> TakeForest(const SafetensorsView& file) {
  Forest forest;
  ASSIGN_OR_RETURN(forest.size, Number(file, "size", 1, kLargestSize));
  ASSIGN_OR_RETURN(forest.classes, Number(file, "classes", 2, kMostClasses));
  Tree all;
  std::vector<int64_t> starts;
  RETURN_IF_ERROR(Take(file, "starts", "I64", {-1}, &starts));
  RETURN_IF_ERROR(Take(file, "feature", "I32", {-1}, &all.feature));
  const auto nodes = static_cast<int64_t>(all.nodes());
  RETURN_IF_ERROR(Take(file, "left", "I32", {nodes}, &all.left));
  RETURN_IF_ERROR(Take(file, "right", "I32", {nodes}, &all.right));
  RETURN_IF_ERROR(Take(file, "threshold", "F32", {nodes}, &all.threshold));
  RETURN_IF_ERROR(Take(file, "weight", "U32", {nodes}, &all.weight));
  RETURN_IF_ERROR(Take(file, "probability", "F64", {nodes, forest.classes}, &all.probability));
  RETURN_IF_ERROR(Take(file, "mean_color", "F64", {3}, &forest.mean_color));
  RETURN_IF_ERROR(CheckRange("mean_color", forest.mean_color, 0, 255));
  if (starts.size() < 2 || starts.front() != 0 || starts.back() != nodes) {
    return Bad("'starts' does not divide the nodes into trees");
  }
  for (size_t k = 0; k + 1 < starts.size(); ++k) {
    if (starts[k] >= starts[k + 1] || starts[k + 1] > nodes) {
      return Bad("'starts' does not divide the nodes into trees");
    }
    const auto part = [begin = starts[k], end = starts[k + 1]](const auto& values, int64_t width) {
      return std::decay_t<decltype(values)>(values.begin() + begin * width,
                                            values.begin() + end * width);
    };
    forest.trees.push_back({part(all.feature, 1), part(all.threshold, 1), part(all.left, 1),
                            part(all.right, 1), part(all.weight, 1),
                            part(all.probability, forest.classes)});
    RETURN_IF_ERROR(
        CheckTree(forest.trees.back(), uint64_t{forest.size} * forest.size * 3, forest.classes));
  }
  return forest;
}

}  // namespace

std::string SerializeLogistic(const LogisticModel& model) {
  const std::vector<int64_t> shape = {model.size, model.size, 3};
  const std::vector<double> intercept = {model.intercept};
  return SerializeSafetensors({{"weights", View("F64", shape, model.weights)},
                               {"mean", View("F64", shape, model.mean)},
                               {"intercept", View("F64", {1}, intercept)}},
                              {{kModelKey, "logistic"}, {"size", absl::StrCat(model.size)}});
}

std::string SerializeForest(const Forest& forest) {
  Tree all;
  std::vector<int64_t> starts = {0};
  const auto append = [](const auto& from, auto* to) {
    to->insert(to->end(), from.begin(), from.end());
  };
  for (const Tree& tree : forest.trees) {
    append(tree.feature, &all.feature);
    append(tree.threshold, &all.threshold);
    append(tree.left, &all.left);
    append(tree.right, &all.right);
    append(tree.weight, &all.weight);
    append(tree.probability, &all.probability);
    starts.push_back(static_cast<int64_t>(all.nodes()));
  }
  const auto nodes = static_cast<int64_t>(all.nodes());
  return SerializeSafetensors(
      {{"starts", View("I64", {static_cast<int64_t>(starts.size())}, starts)},
       {"feature", View("I32", {nodes}, all.feature)},
       {"left", View("I32", {nodes}, all.left)},
       {"right", View("I32", {nodes}, all.right)},
       {"threshold", View("F32", {nodes}, all.threshold)},
       {"weight", View("U32", {nodes}, all.weight)},
       {"probability", View("F64", {nodes, forest.classes}, all.probability)},
       {"mean_color", View("F64", {3}, forest.mean_color)}},
      {{kModelKey, "forest"},
       {"size", absl::StrCat(forest.size)},
       {"classes", absl::StrCat(forest.classes)}});
}

absl::StatusOr<ClassicalModel> ParseClassicalModel(std::string_view bytes) {
  ASSIGN_OR_RETURN(const SafetensorsView file, ParseSafetensors(bytes));
  const auto it = file.metadata.find(kModelKey);
  const std::string kind = it == file.metadata.end() ? "" : it->second;
  if (kind == "logistic") {
    ASSIGN_OR_RETURN(LogisticModel model, TakeLogistic(file));
    return model;
  }
  if (kind == "forest") {
    ASSIGN_OR_RETURN(Forest forest, TakeForest(file));
    return forest;
  }
  return Bad(
      absl::StrCat("metadata '", kModelKey, "' is '", kind, "'; logistic and forest are known"));
}

}  // namespace dermis
