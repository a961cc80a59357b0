#include "common/spec_yaml.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <exception>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/protobuf/util/message_differencer.h"
#include "yaml-cpp/yaml.h"

#include "common/background.h"
#include "common/baselines.h"
#include "common/digest.h"
#include "common/estimators.h"
#include "common/model_spec.h"
#include "common/nearest_word.h"
#include "common/number_text.h"
#include "common/status_macros.h"
#include "common/sweep.h"
#include "common/utf8.h"

namespace dermis {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr int kMaxDepth = 32;
constexpr size_t kMaxItems = 10'000;
constexpr uint32_t kEpochs = 100;  // Where a study names none.

// What others call it: the word that it has here, or the word itself.
std::string WordHere(const std::string& word) {
  static constexpr std::pair<const char*, const char*> kOthers[] = {
      {"adam", "adamw"},       {"amp", "bf16"},     {"asha", "halving"},
      {"deeplift", "deep_shap"}, {"float16", "bf16"}, {"fp16", "bf16"},
      {"half", "bf16"},        {"lr", "learning_rate"}, {"num_epochs", "epochs"},
      {"shap", "shapley"},     {"kernel_shap", "shapley"}};
  for (const auto& [other, here] : kOthers) {
    if (word == other) return here;
  }
  return word;
}

// ", did you mean 'epochs'?" or the list of what there is.
std::string Suggest(std::string_view word, const std::vector<std::string>& known) {
  const std::string here = WordHere(std::string(word));
  std::string nearest = NearestWord(here, known, here == word ? std::max<size_t>(2, word.size() / 3) : 0);
  // Two words of the package shap.
  if (word == "shap" && !nearest.empty()) nearest += "' or 'deep_shap";
  if (word == "kernel_shap" && !nearest.empty()) nearest += ": {estimator: kernel}";
  const std::string text = nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?");
  return absl::StrCat(text, " (there are: ", absl::StrJoin(known, ", "), ")");
}

// The key of this name that lies the fewest levels beneath `type`, as "optimizer.rmsprop.learning_rate";
// "" where there is none.
std::string KeyBeneath(const Descriptor& type, const std::string& name) {
  std::vector<std::pair<const Descriptor*, std::string>> level = {{&type, ""}};
  for (int depth = 0; depth < 6 && !level.empty(); ++depth) {
    std::vector<std::pair<const Descriptor*, std::string>> next;
    for (const auto& [message, path] : level) {
      if (message->FindFieldByName(name) != nullptr) return path + name;
      for (int i = 0; i < message->field_count(); ++i) {
        const FieldDescriptor& field = *message->field(i);
        if (field.message_type() == nullptr) continue;
        next.emplace_back(field.message_type(),
                          absl::StrCat(path, field.name(), field.is_repeated() ? "[]." : "."));
      }
    }
    level = std::move(next);
  }
  return "";
}

// For a key that `type`, at `path`, does not have: its neighbour if it is one letter off, a key of that name elsewhere, else what
// Suggest says.
std::string SuggestKey(const std::string& key, const Descriptor& type, const std::string& path,
                       const std::vector<std::string>& known) {
  if (known.empty()) {
    // As others write a grid.
    return absl::StrCat(": it takes no keys", path == "sweep.grid"
                            ? "; what varies stands in sweep.axes: [{key: "
                              "training.optimizer.sgd.momentum, values: [0, 0.9]}]"
                            : "");
  }
  const std::string word = WordHere(key);
  const bool here = std::find(known.begin(), known.end(), word) != known.end();
  if (!here && NearestWord(key, known, 1).empty()) {
    std::string meant = KeyBeneath(type, word);
    if (!meant.empty() && !path.empty()) meant = absl::StrCat(path, ".", meant);
    if (meant.empty()) meant = KeyBeneath(*v1::StudySpec::descriptor(), word);
    if (!meant.empty()) {
      return absl::StrCat("; did you mean '", meant, "'? (there are: ", absl::StrJoin(known, ", "), ")");
    }
  }
  return Suggest(key, known);
}

// MODEL_KIND_SEED_CNN -> seed_cnn: what is left without the prefix that value 0 shows.
std::string EnumSpelling(const EnumDescriptor& type, int number) {
  const std::string& zero = type.FindValueByNumber(0)->name();
  const size_t prefix = zero.size() - std::string_view("UNSPECIFIED").size();
  return absl::AsciiStrToLower(type.FindValueByNumber(number)->name().substr(prefix));
}

class Reader {
 public:
  // `lines`: places are told; a setting has none.
  explicit Reader(std::string file, bool lines = true) : file_(std::move(file)), lines_(lines) {}

  absl::Status ReadMessage(const YAML::Node& node, Message& message, const std::string& path, int depth) {
    if (depth > kMaxDepth) return Error(node, path, "is nested too deep");
    const Descriptor& type = *message.GetDescriptor();
    if (node.IsNull()) return absl::OkStatus();   // `grad_cam:` alone: all defaults.
    if (node.IsScalar()) return ReadShorthand(node, message, path);
    if (!node.IsMap()) return Error(node, path, "must be a mapping (key: value)");
    std::vector<std::string> known, seen;
    for (int i = 0; i < type.field_count(); ++i) known.push_back(type.field(i)->name());
    for (const auto& item : node) {
      const std::string key = item.first.IsScalar() ? item.first.Scalar() : "";
      const FieldDescriptor* field = type.FindFieldByName(key);
      const std::string inner = path.empty() ? key : absl::StrCat(path, ".", key);
      if (field == nullptr) {
        return absl::InvalidArgumentError(absl::StrCat(Where(item.first), "unknown key '", key, "'",
                                                       path.empty() ? "" : absl::StrCat(" in '", path, "'"),
                                                       SuggestKey(key, type, path, known)));
      }
      if (std::find(seen.begin(), seen.end(), key) != seen.end()) {
        return Error(item.first, inner, "stands there twice");
      }
      seen.push_back(key);
      if (const auto* choice = field->real_containing_oneof();
          choice != nullptr && message.GetReflection()->HasOneof(message, choice)) {
        const auto* other = message.GetReflection()->GetOneofFieldDescriptor(message, choice);
        return Error(item.first, inner, absl::StrCat("excludes '", other->name(), "': give one of them"));
      }
      RETURN_IF_ERROR(ReadField(item.second, message, *field, inner, depth));
    }
    return absl::OkStatus();
  }

  // From `message` down the dots of `key`.
  absl::Status SetByKey(Message& message, const std::string& key, const YAML::Node& value) {
    Message* inner = &message;
    std::vector<std::string> parts = absl::StrSplit(key, '.');
    for (size_t i = 0; i < parts.size(); ++i) {
      const std::optional<uint32_t> item = TakeIndex(parts[i]);
      const FieldDescriptor* field = inner->GetDescriptor()->FindFieldByName(parts[i]);
      if (item && field != nullptr && field->is_repeated() &&
          field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        const int size = inner->GetReflection()->FieldSize(*inner, field);
        if (*item >= static_cast<uint32_t>(size)) {
          return absl::InvalidArgumentError(absl::StrCat(
              "'", key, "': the study names ", size, " ", parts[i], ", which count from 0"));
        }
        inner = inner->GetReflection()->MutableRepeatedMessage(inner, field, static_cast<int>(*item));
        if (i + 1 == parts.size()) inner->Clear();
        continue;
      }
      if (field != nullptr && field->is_repeated() && i + 1 == parts.size() && value.IsSequence()) {
        inner->GetReflection()->ClearField(inner, field);
        return ReadField(value, *inner, *field, key, 0);
      }
      if (field != nullptr && field->is_repeated()) {
        return absl::InvalidArgumentError(absl::StrCat("'", key, "' is a list: give all of it, ", parts[i],
                                                       "=[...], or the place of one item, ",
                                                       parts[i], "[0]"));
      }
      if (field == nullptr) {
        std::vector<std::string> known;
        for (int k = 0; k < inner->GetDescriptor()->field_count(); ++k) {
          known.push_back(inner->GetDescriptor()->field(k)->name());
        }
        return absl::InvalidArgumentError(
            absl::StrCat("no key '", key, "' can be set",
                         SuggestKey(parts[i], *inner->GetDescriptor(),
                                    absl::StrJoin(parts.begin(), parts.begin() + i, "."), known)));
      }
      const bool last = i + 1 == parts.size();
      if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
        if (last) return ReadScalar(value, *inner, *field, key);
        return absl::InvalidArgumentError(absl::StrCat("'", key, "': ", parts[i], " has no parts"));
      }
      if (const auto* choice = field->real_containing_oneof();
          choice != nullptr && inner->GetReflection()->HasOneof(*inner, choice)) {
        const auto* other = inner->GetReflection()->GetOneofFieldDescriptor(*inner, choice);
        if (other != field) {
          return absl::InvalidArgumentError(absl::StrCat("'", key, "' excludes '", other->name(),
                                                         "', which the study names"));
        }
      }
      // A word for one of several choices begins afresh.
      if (last) inner->GetReflection()->ClearField(inner, field);
      inner = inner->GetReflection()->MutableMessage(inner, field);
    }
    return ReadMessage(value, *inner, key, 0);
  }

 private:
  // "methods[0]" -> "methods" and 0.
  static std::optional<uint32_t> TakeIndex(std::string& part) {
    const size_t open = part.find('[');
    uint32_t item = 0;
    if (open == std::string::npos || part.back() != ']' ||
        !absl::SimpleAtoi(part.substr(open + 1, part.size() - open - 2), &item)) {
      return std::nullopt;
    }
    part.resize(open);
    return item;
  }

  std::string Where(const YAML::Node& node) const {
    if (!lines_) return file_ + ": ";
    return absl::StrCat(file_, ":", node.Mark().line + 1, ":", node.Mark().column + 1, ": ");
  }
  absl::Status Error(const YAML::Node& node, const std::string& path, const std::string& why) const {
    return absl::InvalidArgumentError(
        absl::StrCat(Where(node), path.empty() ? "a study" : absl::StrCat("'", path, "'"), " ", why));
  }

  // `- grad_cam` for `- grad_cam: {}`: the name of one member of a choice.
  absl::Status ReadShorthand(const YAML::Node& node, Message& message, const std::string& path) {
    const Descriptor& type = *message.GetDescriptor();
    if (type.real_oneof_decl_count() != 1) return Error(node, path, "must be a mapping (key: value)");
    std::vector<std::string> known;
    for (int i = 0; i < type.field_count(); ++i) known.push_back(type.field(i)->name());
    const FieldDescriptor* field = type.FindFieldByName(node.Scalar());
    if (field == nullptr || field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      return Error(node, path, absl::StrCat("has no choice '", node.Scalar(), "'", Suggest(node.Scalar(), known)));
    }
    message.GetReflection()->MutableMessage(&message, field);
    return absl::OkStatus();
  }

  absl::Status ReadField(const YAML::Node& node, Message& message, const FieldDescriptor& field,
                         const std::string& path, int depth) {
    const Reflection& reflection = *message.GetReflection();
    if (!field.is_repeated()) {
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        return ReadMessage(node, *reflection.MutableMessage(&message, &field), path, depth + 1);
      }
      return ReadScalar(node, message, field, path);
    }
    if (!node.IsSequence()) return Error(node, path, "must be a list (- item)");
    if (node.size() > kMaxItems) return Error(node, path, "has too many items");
    for (size_t i = 0; i < node.size(); ++i) {
      const std::string inner = absl::StrCat(path, "[", i, "]");
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        RETURN_IF_ERROR(ReadMessage(node[i], *reflection.AddMessage(&message, &field), inner, depth + 1));
      } else {
        RETURN_IF_ERROR(ReadScalar(node[i], message, field, inner));
      }
    }
    return absl::OkStatus();
  }

  // Sets a field, or adds to a list.
#define DERMIS_PUT(type, value)                                       \
  (field.is_repeated() ? reflection.Add##type(&message, &field, value) \
                       : reflection.Set##type(&message, &field, value))

  absl::Status ReadScalar(const YAML::Node& node, Message& message, const FieldDescriptor& field,
                          const std::string& path) {
    const Reflection& reflection = *message.GetReflection();
    if (!node.IsScalar()) return Error(node, path, "must be a single value");
    const std::string& text = node.Scalar();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        if (!IsUtf8(text)) return Error(node, path, "is not UTF-8: save the file as UTF-8");
        DERMIS_PUT(String, text);
        return absl::OkStatus();
      case FieldDescriptor::CPPTYPE_BOOL: {
        const bool yes = text == "true" || text == "yes" || text == "on";
        if (!yes && text != "false" && text != "no" && text != "off") {
          return Error(node, path, absl::StrCat("must be true or false, not '", text, "'"));
        }
        DERMIS_PUT(Bool, yes);
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_UINT32:
      case FieldDescriptor::CPPTYPE_UINT64: {
        uint64_t value = 0;
        const bool narrow = field.cpp_type() == FieldDescriptor::CPPTYPE_UINT32;
        if (!absl::SimpleAtoi(text, &value) || (narrow && value > UINT32_MAX)) {
          return Error(node, path,
                       absl::StrCat("must be a whole number from 0 to ",
                                    narrow ? NumberText(UINT32_MAX) : absl::StrCat(UINT64_MAX),
                                    ", not '", text, "'"));
        }
        if (narrow) {
          DERMIS_PUT(UInt32, static_cast<uint32_t>(value));
        } else {
          DERMIS_PUT(UInt64, value);
        }
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        double value = 0;
        if (!absl::SimpleAtod(text, &value) || !std::isfinite(value)) {
          return Error(node, path, absl::StrCat("must be a number, not '", text, "'"));
        }
        DERMIS_PUT(Double, value);
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_ENUM: {
        const EnumDescriptor& type = *field.enum_type();
        std::vector<std::string> known;
        for (int i = 1; i < type.value_count(); ++i) {
          known.push_back(EnumSpelling(type, type.value(i)->number()));
          if (known.back() == text) {
            DERMIS_PUT(EnumValue, type.value(i)->number());
            return absl::OkStatus();
          }
        }
        return Error(node, path, absl::StrCat("has no value '", text, "'", Suggest(text, known)));
      }
      default:
        return Error(node, path, "cannot be written in YAML");
    }
  }
#undef DERMIS_PUT

  std::string file_;
  bool lines_;
};

// The shortest decimal that reads back as the same number: 0.2, not 0.20000000000000001.
std::string Shortest(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return std::string(text, end);
}

void Emit(const Message& message, YAML::Emitter& out) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  out << YAML::BeginMap;
  // The value, or the i-th of a list.
#define DERMIS_GET(type)                                             \
  (field.is_repeated() ? reflection.GetRepeated##type(message, &field, i) \
                       : reflection.Get##type(message, &field))
  const auto emit = [&](const FieldDescriptor& field, int i) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING: out << DERMIS_GET(String); break;
      case FieldDescriptor::CPPTYPE_BOOL: out << DERMIS_GET(Bool); break;
      case FieldDescriptor::CPPTYPE_UINT32: out << DERMIS_GET(UInt32); break;
      case FieldDescriptor::CPPTYPE_UINT64: out << DERMIS_GET(UInt64); break;
      case FieldDescriptor::CPPTYPE_DOUBLE: out << Shortest(DERMIS_GET(Double)); break;
      case FieldDescriptor::CPPTYPE_ENUM:
        out << EnumSpelling(*field.enum_type(), DERMIS_GET(EnumValue));
        break;
      case FieldDescriptor::CPPTYPE_MESSAGE: Emit(DERMIS_GET(Message), out); break;
      default: break;
    }
  };
#undef DERMIS_GET
  for (const FieldDescriptor* field : fields) {
    out << YAML::Key << field->name() << YAML::Value;
    if (!field->is_repeated()) {
      emit(*field, 0);
      continue;
    }
    out << YAML::BeginSeq;
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) emit(*field, i);
    out << YAML::EndSeq;
  }
  out << YAML::EndMap;
}

absl::Status Wrong(const std::string& key, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("'", key, "' ", why));
}

absl::Status InRange(const std::string& key, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return Wrong(key, absl::StrCat("is ", NumberText(value), "; it must be from ", NumberText(low), " to ",
                                 NumberText(high)));
}

#define DERMIS_DEFAULT(message, field, value) \
  if (!(message).has_##field()) (message).set_##field(value)

// `trains`: there must be images to train on.
absl::Status ResolveImages(bool trains, v1::ImagesSpec& images) {
  DERMIS_DEFAULT(images, size, 32);
  v1::SplitSpec& split = *images.mutable_split();
  DERMIS_DEFAULT(split, validation, 0.1);
  RETURN_IF_ERROR(InRange("images.split.validation", split.validation(), 0.01, 0.9));
  if (split.has_folds() || split.has_fold()) {
    return Wrong("images.split.folds", "is a sweep's to set: give sweep.folds");
  }
  if (!split.column().empty()) {
    if (split.has_test()) return Wrong("images.split.test", "excludes 'column': the column says which images test");
    return absl::OkStatus();
  }
  DERMIS_DEFAULT(split, test, 0.2);
  if (!trains && split.test() == 1) return absl::OkStatus();
  return InRange("images.split.test", split.test(), 0.01, 0.9);
}

absl::Status ResolveRmsprop(v1::RmspropSpec& rmsprop) {
  DERMIS_DEFAULT(rmsprop, learning_rate, 1e-3);
  DERMIS_DEFAULT(rmsprop, alpha, 0.9);
  DERMIS_DEFAULT(rmsprop, epsilon, 1e-7);
  DERMIS_DEFAULT(rmsprop, decay, 1e-6);
  DERMIS_DEFAULT(rmsprop, weight_decay, 1e-4);
  const std::string at = "training.optimizer.rmsprop.";
  RETURN_IF_ERROR(InRange(at + "learning_rate", rmsprop.learning_rate(), 1e-12, 1e3));
  RETURN_IF_ERROR(InRange(at + "alpha", rmsprop.alpha(), 0, 1));
  RETURN_IF_ERROR(InRange(at + "epsilon", rmsprop.epsilon(), 1e-30, 1));
  RETURN_IF_ERROR(InRange(at + "decay", rmsprop.decay(), 0, 1));
  RETURN_IF_ERROR(InRange(at + "weight_decay", rmsprop.weight_decay(), 0, 10));
  RETURN_IF_ERROR(InRange(at + "other_weight_decay", rmsprop.other_weight_decay(), 0, 10));
  uint32_t last = 0;
  for (const v1::RateDrop& drop : rmsprop.drops()) {
    if (drop.epoch() <= last) return Wrong(at + "drops", "must have ascending epochs from 1");
    RETURN_IF_ERROR(InRange(at + "drops.learning_rate", drop.learning_rate(), 1e-12, 1e3));
    last = drop.epoch();
  }
  return absl::OkStatus();
}

absl::Status ResolveSgd(v1::SgdSpec& sgd) {
  DERMIS_DEFAULT(sgd, learning_rate, 0.01);
  DERMIS_DEFAULT(sgd, momentum, 0.9);
  DERMIS_DEFAULT(sgd, nesterov, false);
  DERMIS_DEFAULT(sgd, weight_decay, 1e-4);
  DERMIS_DEFAULT(sgd, other_weight_decay, 0);
  const std::string at = "training.optimizer.sgd.";
  RETURN_IF_ERROR(InRange(at + "learning_rate", sgd.learning_rate(), 1e-12, 1e3));
  RETURN_IF_ERROR(InRange(at + "momentum", sgd.momentum(), 0, 0.9999));
  if (sgd.nesterov() && sgd.momentum() == 0) return Wrong(at + "nesterov", "needs a momentum above 0");
  RETURN_IF_ERROR(InRange(at + "weight_decay", sgd.weight_decay(), 0, 10));
  return InRange(at + "other_weight_decay", sgd.other_weight_decay(), 0, 10);
}

absl::Status ResolveAdamw(v1::AdamwSpec& adamw) {
  DERMIS_DEFAULT(adamw, learning_rate, 1e-3);
  DERMIS_DEFAULT(adamw, beta1, 0.9);
  DERMIS_DEFAULT(adamw, beta2, 0.999);
  DERMIS_DEFAULT(adamw, epsilon, 1e-8);
  DERMIS_DEFAULT(adamw, weight_decay, 0.01);
  DERMIS_DEFAULT(adamw, other_weight_decay, 0);
  const std::string at = "training.optimizer.adamw.";
  RETURN_IF_ERROR(InRange(at + "learning_rate", adamw.learning_rate(), 1e-12, 1e3));
  RETURN_IF_ERROR(InRange(at + "beta1", adamw.beta1(), 0, 0.999999));
  RETURN_IF_ERROR(InRange(at + "beta2", adamw.beta2(), 0, 0.999999));
  RETURN_IF_ERROR(InRange(at + "epsilon", adamw.epsilon(), 1e-30, 1));
  RETURN_IF_ERROR(InRange(at + "weight_decay", adamw.weight_decay(), 0, 10));
  return InRange(at + "other_weight_decay", adamw.other_weight_decay(), 0, 10);
}

absl::Status ResolveOptimizer(v1::OptimizerSpec& optimizer) {
  if (optimizer.has_sgd()) return ResolveSgd(*optimizer.mutable_sgd());
  if (optimizer.has_adamw()) return ResolveAdamw(*optimizer.mutable_adamw());
  return ResolveRmsprop(*optimizer.mutable_rmsprop());
}

absl::Status ResolveSchedule(uint32_t epochs, v1::ScheduleSpec& schedule) {
  const std::string at = "training.schedule.";
  DERMIS_DEFAULT(schedule, warmup_epochs, 0);
  RETURN_IF_ERROR(InRange(at + "warmup_epochs", schedule.warmup_epochs(), 0, 1e6));
  if (schedule.has_step()) {
    v1::StepScheduleSpec& step = *schedule.mutable_step();
    DERMIS_DEFAULT(step, every, 30);
    DERMIS_DEFAULT(step, factor, 0.1);
    RETURN_IF_ERROR(InRange(at + "step.every", step.every(), 1, 1e6));
    return InRange(at + "step.factor", step.factor(), 1e-6, 1);
  }
  if (schedule.has_cosine()) {
    v1::CosineScheduleSpec& cosine = *schedule.mutable_cosine();
    DERMIS_DEFAULT(cosine, epochs, epochs);
    DERMIS_DEFAULT(cosine, final, 0);
    RETURN_IF_ERROR(InRange(at + "cosine.epochs", cosine.epochs(), 1, 1e6));
    if (cosine.epochs() <= schedule.warmup_epochs()) {
      return Wrong(at + "cosine.epochs", "must lie after warmup_epochs");
    }
    return InRange(at + "cosine.final", cosine.final(), 0, 1);
  }
  schedule.mutable_constant();
  return absl::OkStatus();
}

absl::Status CheckLoss(const v1::TrainingSpec& training) {
  RETURN_IF_ERROR(InRange("training.label_smoothing", training.label_smoothing(), 0, 0.99));
  if (training.balance_classes() && training.class_weights_size() > 0) {
    return Wrong("training.class_weights", "excludes 'balance_classes': give one of them");
  }
  for (double weight : training.class_weights()) {
    RETURN_IF_ERROR(InRange("training.class_weights", weight, 1e-6, 1e6));
  }
  if (training.has_clip_norm()) {
    RETURN_IF_ERROR(InRange("training.clip_norm", training.clip_norm(), 1e-6, 1e9));
  }
  return InRange("training.ema_decay", training.ema_decay(), 0, 0.999999);
}

absl::Status CheckInit(const v1::TrainingSpec& training) {
  const v1::InitSpec& init = training.init();
  if (init.digest().empty()) {
    return Wrong("training.init.file", init.file().empty() ? "is missing: name a safetensors file"
                                                           : "was not uploaded: submit with `dermis run`");
  }
  if (!Digest::FromHex(init.digest()).ok()) return Wrong("training.init.digest", "must be 64 hex digits");
  if (init.frozen_before().empty()) return absl::OkStatus();
  if (training.model() == v1::MODEL_KIND_SEED_CNN) {
    return Wrong("training.init.frozen_before", "is for ResNets");
  }
  const std::vector<std::string> parts = {"layer1", "layer2", "layer3", "layer4", "fc"};
  if (std::find(parts.begin(), parts.end(), init.frozen_before()) != parts.end()) return absl::OkStatus();
  return Wrong("training.init.frozen_before",
               absl::StrCat("names no part of a ResNet", Suggest(init.frozen_before(), parts)));
}

absl::Status CheckSize(const std::string& network, uint32_t size, uint32_t step, uint32_t low, uint32_t high) {
  if (size >= low && size <= high && size % step == 0) return absl::OkStatus();
  return Wrong("images.size", absl::StrCat("is ", size, "; for ", network, " it must be a multiple of ", step,
                                           " from ", low, " to ", high));
}

// What the network is, and that it can take images of this size.
absl::Status ResolveModel(uint32_t size, v1::TrainingSpec& training) {
  if (training.model() == v1::MODEL_KIND_UNSPECIFIED) training.set_model(v1::MODEL_KIND_SEED_CNN);
  if (training.model() == v1::MODEL_KIND_SEED_CNN) {
    if (training.stem() != v1::STEM_UNSPECIFIED) return Wrong("training.stem", "is for ResNets; seed_cnn has one form");
    DERMIS_DEFAULT(training, dropout, true);
    return CheckSize("seed_cnn", size, 8, 16, 224);   // It halves the input three times.
  }
  DERMIS_DEFAULT(training, dropout, false);
  if (training.dropout()) return Wrong("training.dropout", "is for seed_cnn; a ResNet has none");
  if (training.stem() == v1::STEM_UNSPECIFIED || training.stem() == v1::STEM_AUTO) {
    training.set_stem(size <= 64 ? v1::STEM_SMALL : v1::STEM_IMAGENET);
  }
  return training.stem() == v1::STEM_SMALL ? CheckSize("a ResNet with the small stem", size, 8, 16, 256)
                                           : CheckSize("a ResNet with the imagenet stem", size, 32, 32, 512);
}

absl::Status ResolveCrop(v1::RandomResizedCropSpec& crop) {
  DERMIS_DEFAULT(crop, min_area, 0.08);
  DERMIS_DEFAULT(crop, max_area, 1);
  DERMIS_DEFAULT(crop, min_aspect, 3.0 / 4);
  DERMIS_DEFAULT(crop, max_aspect, 4.0 / 3);
  const std::string at = "training.augmentation.crop.";
  RETURN_IF_ERROR(InRange(at + "max_area", crop.max_area(), 0.01, 1));
  RETURN_IF_ERROR(InRange(at + "min_area", crop.min_area(), 0.01, crop.max_area()));
  RETURN_IF_ERROR(InRange(at + "max_aspect", crop.max_aspect(), 0.1, 10));
  RETURN_IF_ERROR(InRange(at + "min_aspect", crop.min_aspect(), 0.1, crop.max_aspect()));
  // A rectangle of aspect r and area A fits into a square while A <= r <= 1 / A.
  const double most = std::min(crop.max_aspect(), 1 / crop.min_aspect());
  if (crop.max_area() <= most) return absl::OkStatus();
  return Wrong(at + "max_area",
               absl::StrCat("is ", crop.max_area(), "; no rectangle of width / height from ", crop.min_aspect(),
                            " to ", crop.max_aspect(), " covers so much of a square: give at most ", most,
                            ", or aspects on both sides of 1"));
}

absl::Status ResolveAugmentation(v1::AugmentationSpec& augmentation) {
  DERMIS_DEFAULT(augmentation, rotation, 15);
  DERMIS_DEFAULT(augmentation, shift, 0.1);
  DERMIS_DEFAULT(augmentation, scale, 0);
  DERMIS_DEFAULT(augmentation, shear, 0);
  DERMIS_DEFAULT(augmentation, horizontal_flip, true);
  DERMIS_DEFAULT(augmentation, vertical_flip, false);
  DERMIS_DEFAULT(augmentation, brightness, 0);
  DERMIS_DEFAULT(augmentation, contrast, 0);
  DERMIS_DEFAULT(augmentation, saturation, 0);
  DERMIS_DEFAULT(augmentation, hue, 0);
  const std::string at = "training.augmentation.";
  RETURN_IF_ERROR(InRange(at + "rotation", augmentation.rotation(), 0, 180));
  RETURN_IF_ERROR(InRange(at + "shift", augmentation.shift(), 0, 1));
  RETURN_IF_ERROR(InRange(at + "scale", augmentation.scale(), 0, 0.9));
  RETURN_IF_ERROR(InRange(at + "shear", augmentation.shear(), 0, 80));
  RETURN_IF_ERROR(InRange(at + "brightness", augmentation.brightness(), 0, 10));
  RETURN_IF_ERROR(InRange(at + "contrast", augmentation.contrast(), 0, 10));
  RETURN_IF_ERROR(InRange(at + "saturation", augmentation.saturation(), 0, 10));
  RETURN_IF_ERROR(InRange(at + "hue", augmentation.hue(), 0, 0.5));
  return augmentation.has_crop() ? ResolveCrop(*augmentation.mutable_crop()) : absl::OkStatus();
}

absl::Status ResolveTrainingAugmentation(v1::TrainingSpec& training) {
  DERMIS_DEFAULT(training, augment, true);
  if (!training.has_augmentation()) return absl::OkStatus();
  if (!training.augment()) {
    return Wrong("training.augmentation", "is given, but 'training.augment' is false: remove one of the two");
  }
  RETURN_IF_ERROR(ResolveAugmentation(*training.mutable_augmentation()));
  // One meaning has one address: what spells out the defaults is what says nothing.
  v1::AugmentationSpec defaults;
  RETURN_IF_ERROR(ResolveAugmentation(defaults));
  if (google::protobuf::util::MessageDifferencer::Equals(training.augmentation(), defaults)) {
    training.clear_augmentation();
  }
  return absl::OkStatus();
}

absl::Status ResolveTraining(v1::TrainingSpec& training) {
  if (training.precision() == v1::PRECISION_UNSPECIFIED) training.set_precision(v1::PRECISION_FP32);
  // Said or not, it is one study.
  if (training.reduction() == v1::REDUCTION_ORDERED) training.clear_reduction();
  DERMIS_DEFAULT(training, logical_shards, 4);
  DERMIS_DEFAULT(training, batch_size, 64);
  DERMIS_DEFAULT(training, epochs, kEpochs);
  RETURN_IF_ERROR(ResolveTrainingAugmentation(training));
  RETURN_IF_ERROR(InRange("training.batch_size", training.batch_size(), 1, 65536));
  RETURN_IF_ERROR(InRange("training.epochs", training.epochs(), 1, 1e6));
  const uint32_t v = training.logical_shards();
  if (!std::has_single_bit(v) || v > 1024 || training.batch_size() % v != 0) {
    return Wrong("training.logical_shards",
                 absl::StrCat("is ", v, "; it must be a power of two that divides batch_size (",
                              training.batch_size(), ")"));
  }
  if (training.has_shuffle_window()) {
    // Below a batch, a step's images would be neighbours in the set.
    RETURN_IF_ERROR(
        InRange("training.shuffle_window", training.shuffle_window(), training.batch_size(), 1e9));
  }
  if (training.has_early_stopping()) {
    v1::EarlyStoppingSpec& stopping = *training.mutable_early_stopping();
    if (stopping.metric() == v1::SELECTION_METRIC_UNSPECIFIED) {
      stopping.set_metric(v1::SELECTION_METRIC_VALIDATION_LOSS);
    }
    DERMIS_DEFAULT(stopping, patience, 15);
    RETURN_IF_ERROR(InRange("training.early_stopping.patience", stopping.patience(), 1, 1e6));
  }
  if (training.has_schedule()) {
    RETURN_IF_ERROR(ResolveSchedule(training.epochs(), *training.mutable_schedule()));
  }
  RETURN_IF_ERROR(CheckLoss(training));
  if (training.has_init()) RETURN_IF_ERROR(CheckInit(training));
  return ResolveOptimizer(*training.mutable_optimizer());
}

// What can stand in the place of a part of an image before anything sees it.
absl::Status CheckHidesParts(const std::string& at, v1::HiddenValue hidden) {
  switch (hidden) {
    case v1::HIDDEN_VALUE_TRAINING_MEAN:
    case v1::HIDDEN_VALUE_SUPERPIXEL_MEAN:
    case v1::HIDDEN_VALUE_BLUR:
    case v1::HIDDEN_VALUE_INPAINT:
      return absl::OkStatus();
    default:
      return Wrong(at, "must be training_mean, superpixel_mean, blur or inpaint");
  }
}

absl::Status ResolveSuperpixels(const std::string& at, v1::SuperpixelSpec& superpixels) {
  // The display's stays unsaid, as it was before there was a choice.
  if (superpixels.resolution() == v1::RESOLUTION_DISPLAY) superpixels.clear_resolution();
  if (superpixels.has_grid()) {
    v1::GridSpec& grid = *superpixels.mutable_grid();
    DERMIS_DEFAULT(grid, rows, 7);
    DERMIS_DEFAULT(grid, columns, grid.rows());
    RETURN_IF_ERROR(InRange(at + ".grid.rows", grid.rows(), 1, 256));
    RETURN_IF_ERROR(InRange(at + ".grid.columns", grid.columns(), 1, 256));
    if (grid.rows() * grid.columns() > 1) return absl::OkStatus();
    return Wrong(at + ".grid", "has one cell; it needs two at least");
  }
  if (superpixels.has_label_map()) return absl::OkStatus();
  if (superpixels.has_lesion_zones()) {
    v1::LesionZonesSpec& zones = *superpixels.mutable_lesion_zones();
    DERMIS_DEFAULT(zones, band, 0.1);
    return InRange(at + ".lesion_zones.band", zones.band(), 0, 1);
  }
  if (superpixels.has_quickshift()) {
    v1::QuickshiftSpec& quickshift = *superpixels.mutable_quickshift();
    DERMIS_DEFAULT(quickshift, kernel_size, 4);
    DERMIS_DEFAULT(quickshift, max_dist, 200);
    DERMIS_DEFAULT(quickshift, ratio, 0.2);
    RETURN_IF_ERROR(InRange(at + ".quickshift.kernel_size", quickshift.kernel_size(), 1, 20));
    RETURN_IF_ERROR(InRange(at + ".quickshift.max_dist", quickshift.max_dist(), 1, 1e6));
    return InRange(at + ".quickshift.ratio", quickshift.ratio(), 0, 1);
  }
  v1::SlicSpec& slic = *superpixels.mutable_slic();
  DERMIS_DEFAULT(slic, count, 50);
  DERMIS_DEFAULT(slic, compactness, 10);
  DERMIS_DEFAULT(slic, sigma, 1);
  RETURN_IF_ERROR(InRange(at + ".slic.count", slic.count(), 2, 2000));
  RETURN_IF_ERROR(InRange(at + ".slic.compactness", slic.compactness(), 1e-3, 1e4));
  return InRange(at + ".slic.sigma", slic.sigma(), 0, 20);
}

absl::Status CheckTolerance(const std::string& at, double tolerance, bool given) {
  return given ? InRange(at + ".tolerance", tolerance, 1e-6, 1) : absl::OkStatus();
}

// What is not given stays absent: LIME's defaults are the fit's own.
absl::Status ResolveLimeFit(const std::string& at, v1::LimeSpec& lime) {
  if (lime.has_num_features()) {
    RETURN_IF_ERROR(InRange(at + ".num_features", lime.num_features(), 1, 65536));
    if (lime.feature_selection() == v1::FEATURE_SELECTION_UNSPECIFIED) {
      lime.set_feature_selection(v1::FEATURE_SELECTION_AUTO);
    }
  } else if (lime.feature_selection() != v1::FEATURE_SELECTION_UNSPECIFIED) {
    return Wrong(at + ".feature_selection", "needs num_features: how many superpixels are kept");
  } else if (lime.has_selection_errors()) {
    return Wrong(
        at + ".selection_errors",
        "needs num_features: where all superpixels are kept there are standard errors anyway");
  }
  if (!lime.selection_errors()) lime.clear_selection_errors();
  if (lime.has_kernel_width()) {
    RETURN_IF_ERROR(InRange(at + ".kernel_width", lime.kernel_width(), 1e-2, 1e3));
  }
  if (lime.has_alpha()) RETURN_IF_ERROR(InRange(at + ".alpha", lime.alpha(), 1e-6, 1e6));
  return CheckTolerance(at, lime.tolerance(), lime.has_tolerance());
}

absl::Status ResolveEstimator(const std::string& at, v1::ShapleySpec& shapley) {
  const bool permutation = shapley.estimator() == v1::ESTIMATOR_UNSPECIFIED ||
                           shapley.estimator() == v1::ESTIMATOR_PERMUTATION;
  if (shapley.has_permutations() && !permutation) {
    return Wrong(at + ".permutations", "belongs to `estimator: permutation`; `budget` bounds the others");
  }
  if (shapley.has_permutations() && shapley.has_budget()) {
    return Wrong(at + ".budget", "and permutations say the same twice: leave one of them out");
  }
  if (shapley.has_budget() && shapley.estimator() == v1::ESTIMATOR_EXACT) {
    return Wrong(at + ".budget", "does not bound `estimator: exact`, which runs all subsets; `auto` heeds it");
  }
  if (shapley.has_tolerance() && (shapley.estimator() == v1::ESTIMATOR_EXACT ||
                                  shapley.estimator() == v1::ESTIMATOR_PARTITION)) {
    return Wrong(at + ".tolerance", "needs an estimator by sampling: auto, permutation, kernel or leverage");
  }
  if (permutation && !shapley.has_budget()) {
    DERMIS_DEFAULT(shapley, permutations, 64);
    RETURN_IF_ERROR(InRange(at + ".permutations", shapley.permutations(), 2, 1e5));
  }
  if (shapley.has_budget()) RETURN_IF_ERROR(InRange(at + ".budget", shapley.budget(), 16, kMostBudget));
  return CheckTolerance(at, shapley.tolerance(), shapley.has_tolerance());
}

absl::Status ResolveMethod(const std::string& at, v1::MethodSpec& method) {
  switch (method.kind_case()) {
    case v1::MethodSpec::kLime: {
      v1::LimeSpec& lime = *method.mutable_lime();
      DERMIS_DEFAULT(lime, samples, 1000);
      if (lime.hidden() == v1::HIDDEN_VALUE_UNSPECIFIED) lime.set_hidden(v1::HIDDEN_VALUE_SUPERPIXEL_MEAN);
      RETURN_IF_ERROR(InRange(at + ".lime.samples", lime.samples(), 10, 1e6));
      RETURN_IF_ERROR(ResolveLimeFit(at + ".lime", lime));
      return ResolveSuperpixels(at + ".lime.superpixels", *lime.mutable_superpixels());
    }
    case v1::MethodSpec::kShapley: {
      v1::ShapleySpec& shapley = *method.mutable_shapley();
      if (shapley.hidden() == v1::HIDDEN_VALUE_UNSPECIFIED) shapley.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
      RETURN_IF_ERROR(ResolveEstimator(at + ".shapley", shapley));
      return ResolveSuperpixels(at + ".shapley.superpixels", *shapley.mutable_superpixels());
    }
    case v1::MethodSpec::kOcclusion: {
      v1::OcclusionSpec& occlusion = *method.mutable_occlusion();
      if (occlusion.hidden() == v1::HIDDEN_VALUE_UNSPECIFIED) occlusion.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
      return ResolveSuperpixels(at + ".occlusion.superpixels", *occlusion.mutable_superpixels());
    }
    case v1::MethodSpec::kRise: {
      v1::RiseSpec& rise = *method.mutable_rise();
      DERMIS_DEFAULT(rise, samples, 4000);
      DERMIS_DEFAULT(rise, probability, 0.5);
      if (rise.hidden() == v1::HIDDEN_VALUE_UNSPECIFIED) rise.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
      RETURN_IF_ERROR(InRange(at + ".rise.samples", rise.samples(), 10, 1e6));
      RETURN_IF_ERROR(InRange(at + ".rise.probability", rise.probability(), 0.01, 0.99));
      return ResolveSuperpixels(at + ".rise.superpixels", *rise.mutable_superpixels());
    }
    case v1::MethodSpec::kExpectedGradients: {
      v1::ExpectedGradientsSpec& expected = *method.mutable_expected_gradients();
      DERMIS_DEFAULT(expected, samples, 200);
      return InRange(at + ".expected_gradients.samples", expected.samples(), 1, 1e6);
    }
    case v1::MethodSpec::kIntegratedGradients: {
      v1::IntegratedGradientsSpec& integrated = *method.mutable_integrated_gradients();
      DERMIS_DEFAULT(integrated, steps, 50);
      return InRange(at + ".integrated_gradients.steps", integrated.steps(), 1, 10000);
    }
    case v1::MethodSpec::kSmoothGrad: {
      v1::SmoothGradSpec& smooth = *method.mutable_smooth_grad();
      DERMIS_DEFAULT(smooth, samples, 50);
      DERMIS_DEFAULT(smooth, noise, 0.1);
      RETURN_IF_ERROR(InRange(at + ".smooth_grad.samples", smooth.samples(), 1, 1e6));
      return InRange(at + ".smooth_grad.noise", smooth.noise(), 0, 1);
    }
    case v1::MethodSpec::kDeepShap:
    case v1::MethodSpec::kCam:
    case v1::MethodSpec::kGradCam:
    case v1::MethodSpec::kGradCamPlusPlus:
    case v1::MethodSpec::kHiresCam:
    case v1::MethodSpec::kLayerCam:
    case v1::MethodSpec::kActivationMaps:
      return absl::OkStatus();
    case v1::MethodSpec::KIND_NOT_SET:
      break;
  }
  std::vector<std::string> known;
  for (int i = 0; i < v1::MethodSpec::descriptor()->field_count(); ++i) {
    known.push_back(v1::MethodSpec::descriptor()->field(i)->name());
  }
  return Wrong(at, absl::StrCat("names no method (", absl::StrJoin(known, ", "), ")"));
}

// Those of the first method that has some; else the defaults.
v1::SuperpixelSpec CommonSuperpixels(const v1::ExplanationSpec& explanation) {
  for (const v1::MethodSpec& method : explanation.methods()) {
    if (method.has_lime()) return method.lime().superpixels();
    if (method.has_shapley()) return method.shapley().superpixels();
  }
  return {};
}

// After the methods: whose superpixels they are.
absl::Status ResolveChecks(v1::ExplanationSpec& explanation) {
  const std::string at = "explanation.checks";
  v1::ChecksSpec& checks = *explanation.mutable_checks();
  DERMIS_DEFAULT(checks, fidelity, true);
  DERMIS_DEFAULT(checks, blur, 0.1);
  DERMIS_DEFAULT(checks, halves, 64);
  DERMIS_DEFAULT(checks, random_orders, 5);
  if (checks.hidden() == v1::HIDDEN_VALUE_UNSPECIFIED) checks.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  if (!checks.has_superpixels()) *checks.mutable_superpixels() = CommonSuperpixels(explanation);
  RETURN_IF_ERROR(InRange(at + ".blur", checks.blur(), 0.001, 1));
  RETURN_IF_ERROR(InRange(at + ".halves", checks.halves(), 2, 1e5));
  RETURN_IF_ERROR(InRange(at + ".random_orders", checks.random_orders(), 1, 1000));
  RETURN_IF_ERROR(ResolveSuperpixels(at + ".superpixels", *checks.mutable_superpixels()));
  if (!checks.has_stability()) return absl::OkStatus();
  v1::StabilitySpec& stability = *checks.mutable_stability();
  DERMIS_DEFAULT(stability, images, 32);
  DERMIS_DEFAULT(stability, noise_draws, 10);
  DERMIS_DEFAULT(stability, noise_radius, 0.02);
  DERMIS_DEFAULT(stability, seeds, 3);
  DERMIS_DEFAULT(stability, randomisation, true);
  RETURN_IF_ERROR(InRange(at + ".stability.images", stability.images(), 1, 1e6));
  RETURN_IF_ERROR(InRange(at + ".stability.noise_draws", stability.noise_draws(), 0, 1000));
  RETURN_IF_ERROR(InRange(at + ".stability.noise_radius", stability.noise_radius(), 1e-6, 1));
  return InRange(at + ".stability.seeds", stability.seeds(), 0, 100);
}

// Whether anything is hidden by a value that explanation.hiding describes.
bool HidesByNumbers(const v1::ExplanationSpec& explanation) {
  std::vector<int> values = {explanation.checks().hidden(),
                             explanation.checks().stability().second_hidden(),
                             explanation.lesion_test().hidden()};
  values.insert(values.end(), explanation.shortcut().hidden().begin(),
                explanation.shortcut().hidden().end());
  for (const v1::MethodSpec& method : explanation.methods()) {
    values.insert(values.end(), {method.lime().hidden(), method.shapley().hidden(),
                                 method.occlusion().hidden(), method.rise().hidden()});
  }
  return std::any_of(values.begin(), values.end(), [](int value) {
    return value == v1::HIDDEN_VALUE_CONSTANT || value == v1::HIDDEN_VALUE_BLUR ||
           value == v1::HIDDEN_VALUE_BACKGROUND;
  });
}

absl::Status ResolveHiding(v1::HidingSpec& hiding) {
  const std::string at = "explanation.hiding";
  if (hiding.color_size() == 0) hiding.mutable_color()->Resize(3, 0);
  DERMIS_DEFAULT(hiding, blur, 0.1);
  DERMIS_DEFAULT(hiding, background_per_class, 5);
  if (hiding.color_size() != 3) return Wrong(at + ".color", "has not three numbers: red, green, blue");
  for (const double value : hiding.color()) RETURN_IF_ERROR(InRange(at + ".color", value, 0, 255));
  RETURN_IF_ERROR(InRange(at + ".blur", hiding.blur(), 0.001, 1));
  return InRange(at + ".background_per_class", hiding.background_per_class(), 1, 500);
}

absl::Status ResolveLesionTest(v1::LesionTestSpec& test) {
  const std::string at = "explanation.lesion_test";
  if (test.primary() == v1::LESION_HYPOTHESIS_UNSPECIFIED) {
    test.set_primary(v1::LESION_HYPOTHESIS_BANDS_OVER_CORE);
  }
  if (test.against() == v1::LESION_NULL_UNSPECIFIED) test.set_against(v1::LESION_NULL_SHIFTED);
  if (test.hidden() == v1::HIDDEN_VALUE_UNSPECIFIED) test.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  DERMIS_DEFAULT(test, band, 0.1);
  DERMIS_DEFAULT(test, placements, 3);
  DERMIS_DEFAULT(test, draws, 9999);
  RETURN_IF_ERROR(InRange(at + ".band", test.band(), 0.01, 1));
  // A square has seven turns but for none.
  RETURN_IF_ERROR(InRange(at + ".placements", test.placements(), 1, 7));
  return InRange(at + ".draws", test.draws(), 99, 1e6);
}

absl::Status ResolveShortcut(v1::ShortcutSpec& shortcut) {
  const std::string at = "explanation.shortcut";
  if (shortcut.hidden_size() == 0) {
    shortcut.add_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
    shortcut.add_hidden(v1::HIDDEN_VALUE_BLUR);
  }
  for (const int hidden : shortcut.hidden()) {
    RETURN_IF_ERROR(CheckHidesParts(at + ".hidden", static_cast<v1::HiddenValue>(hidden)));
  }
  DERMIS_DEFAULT(shortcut, draws, 2000);
  return InRange(at + ".draws", shortcut.draws(), 100, 1e6);
}

absl::Status ResolveExplanation(v1::ExplanationSpec& explanation) {
  v1::ExplainedImages& images = *explanation.mutable_images();
  DERMIS_DEFAULT(images, all_test, false);
  v1::CellChoice& cell = *images.mutable_per_confusion_cell();
  DERMIS_DEFAULT(cell, most_confident, 2);
  DERMIS_DEFAULT(cell, least_confident, 1);
  DERMIS_DEFAULT(cell, random, 2);
  if (explanation.output() == v1::OUTPUT_KIND_UNSPECIFIED) explanation.set_output(v1::OUTPUT_KIND_MARGIN);
  if (explanation.methods_size() == 0) {
    explanation.add_methods()->mutable_lime();
    explanation.add_methods()->mutable_shapley();
    explanation.add_methods()->mutable_grad_cam();
    explanation.add_methods()->mutable_activation_maps();
  }
  for (int i = 0; i < explanation.methods_size(); ++i) {
    RETURN_IF_ERROR(ResolveMethod(absl::StrCat("explanation.methods[", i, "]"), *explanation.mutable_methods(i)));
    const v1::MethodSpec& method = explanation.methods(i);
    // Only where it is looked at: a study without it stays the study it was.
    if (method.has_deep_shap() || method.has_expected_gradients()) explanation.mutable_background();
    if (method.has_cam() && explanation.output() == v1::OUTPUT_KIND_PROBABILITY) {
      return Wrong(absl::StrCat("explanation.methods[", i, "].cam"),
                   "explains a margin or a logit; explanation.output is probability");
    }
  }
  if (explanation.has_background()) {
    explanation.mutable_background()->set_per_class(BackgroundPerClass(explanation));
    RETURN_IF_ERROR(InRange("explanation.background.per_class", explanation.background().per_class(), 1, 10000));
  }
  if (explanation.has_lesion_test()) {
    RETURN_IF_ERROR(ResolveLesionTest(*explanation.mutable_lesion_test()));
  }
  if (explanation.has_shortcut()) {
    RETURN_IF_ERROR(ResolveShortcut(*explanation.mutable_shortcut()));
  }
  RETURN_IF_ERROR(ResolveChecks(explanation));
  // Only where it is looked at: a study without it stays the study it was.
  if (!explanation.has_hiding() && !HidesByNumbers(explanation)) return absl::OkStatus();
  return ResolveHiding(*explanation.mutable_hiding());
}

// Of a whole study, whose images are never seen whole.
absl::Status ResolveHide(v1::StudySpec& spec) {
  v1::HideSpec& hide = *spec.mutable_images()->mutable_hide();
  if (hide.show() == v1::LESION_REGION_UNSPECIFIED) {
    return Wrong("images.hide.show", "is missing: lesion, surroundings or box");
  }
  if (hide.hidden() == v1::HIDDEN_VALUE_UNSPECIFIED) {
    hide.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  }
  RETURN_IF_ERROR(CheckHidesParts("images.hide.hidden", hide.hidden()));
  spec.mutable_images()->mutable_split()->set_masked_only(true);
  if (!spec.has_explanation()) return absl::OkStatus();
  return Wrong("images.hide", "is given, and so is explanation: explanations would show images that "
                              "the network never saw; leave one of them out");
}

absl::Status CheckName(const std::string& name) {
  const bool good = !name.empty() && name.size() <= 100 && name[0] != '.' &&
                    std::all_of(name.begin(), name.end(), [](char c) {
                      return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
                    });
  if (good) return absl::OkStatus();
  return Wrong("name", absl::StrCat("is '", name.substr(0, 100),
                                    "'; it must have 1 to 100 letters, digits, '-', '_' or '.'"));
}

}  // namespace

absl::StatusOr<v1::StudySpec> ParseStudyYaml(std::string_view text, std::string_view file) {
  const std::string name(file);
  if (text.size() > kMaxYamlBytes) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": a study file has at most 1 MiB"));
  }
  try {  // yaml-cpp reports by exceptions.
    const YAML::Node root = YAML::Load(std::string(text));
    if (!root.IsMap()) {
      return absl::InvalidArgumentError(absl::StrCat(
          name, root.IsNull() ? " is empty" : " is not a mapping (key: value)",
          ": a study begins like `name: demo` (studies/start.yaml is a short one)"));
    }
    v1::StudySpec spec;
    RETURN_IF_ERROR(Reader(name).ReadMessage(root, spec, "", 0));
    return spec;
  } catch (const YAML::Exception& e) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ":", e.mark.line + 1, ":", e.mark.column + 1, ": ", e.msg));
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": ", e.what()));
  }
}

std::string PlaceOf(std::string_view text, std::string_view key) {
  try {
    YAML::Node node = YAML::Load(std::string(text));
    YAML::Mark mark = YAML::Mark::null_mark();
    for (absl::string_view part : absl::StrSplit(absl::string_view(key.data(), key.size()),
                                                 absl::ByAnyChar(".[]"), absl::SkipEmpty())) {
      uint32_t item = 0;
      if (node.IsSequence() && absl::SimpleAtoi(part, &item) && item < node.size()) {
        node.reset(node[item]);
        mark = node.Mark();
        continue;
      }
      if (node.IsScalar()) break;  // `- lime`: a choice by its name.
      if (!node.IsMap()) return "";
      bool found = false;
      for (const auto& entry : node) {
        if (!entry.first.IsScalar() || entry.first.Scalar() != part) continue;
        mark = entry.first.Mark();
        node.reset(entry.second);
        found = true;
        break;
      }
      if (!found) return "";
    }
    return mark.is_null() ? "" : absl::StrCat(":", mark.line + 1, ":", mark.column + 1);
  } catch (const std::exception&) {
    return "";
  }
}

absl::Status SetByKey(v1::StudySpec& spec, const std::string& key, const std::string& value) {
  try {  // yaml-cpp reports by exceptions.
    return Reader("setting").SetByKey(spec, key, YAML::Node(value));
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("'", key, "': ", e.what()));
  }
}

absl::Status Override(v1::StudySpec& spec, std::string_view setting) {
  const std::string where = absl::StrCat("--set ", std::string(setting));
  const size_t equals = setting.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": must be KEY=VALUE, e.g. training.epochs=20"));
  }
  if (setting.size() > kMaxYamlBytes) return absl::InvalidArgumentError("--set: at most 1 MiB");
  const std::string key(setting.substr(0, equals));
  try {  // yaml-cpp reports by exceptions.
    const YAML::Node value = YAML::Load(std::string(setting.substr(equals + 1)));
    const absl::Status status = Reader(where, false).SetByKey(spec, key, value);
    // What the setting itself is wrong in, not a place within its value.
    if (status.ok() || status.message().rfind(where, 0) == 0) return status;
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", status.message()));
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", e.what()));
  }
}

uint32_t EpochsOf(const v1::StudySpec& spec) {
  return spec.training().has_epochs() ? spec.training().epochs() : kEpochs;
}

namespace {

// Of a sweep the model may vary: there the task says it.
absl::Status CheckMethodsFitModel(const v1::StudySpec& spec) {
  const v1::ModelKind kind = spec.has_model() ? spec.model().kind() : spec.training().model();
  if (spec.has_sweep() || kind != v1::MODEL_KIND_SEED_CNN) return absl::OkStatus();
  for (const v1::MethodSpec& method : spec.explanation().methods()) {
    if (method.has_cam()) {
      return Wrong("explanation.methods: cam",
                   "needs a network that averages its last maps, a ResNet; on seed_cnn hires_cam is exact");
    }
  }
  return absl::OkStatus();
}

// The default stays unsaid: a study that does without is the study it was.
absl::Status CheckExplainsBaselines(v1::StudySpec& spec) {
  if (!spec.explanation().has_baselines()) return absl::OkStatus();
  v1::ExplanationSpec& explanation = *spec.mutable_explanation();
  if (!explanation.baselines()) {
    explanation.clear_baselines();
    return absl::OkStatus();
  }
  const std::string at = "explanation.baselines";
  if (!spec.has_baselines()) {
    return Wrong(at,
                 "is true, and the study has none: give `baselines` a random_forest or a "
                 "logistic_regression");
  }
  if (std::none_of(explanation.methods().begin(), explanation.methods().end(), HasMasks)) {
    return Wrong(at,
                 "needs a method that hides superpixels (lime, shapley, occlusion or rise): "
                 "baselines have no "
                 "gradients and no maps");
  }
  const auto& sizes = spec.baselines().sizes();
  const uint32_t smallest = *std::min_element(sizes.begin(), sizes.end());
  for (const v1::MethodSpec& method : explanation.methods()) {
    const v1::SuperpixelSpec& superpixels = SuperpixelsOf(method);
    const v1::GridSpec& grid = superpixels.grid();
    if (superpixels.resolution() != v1::RESOLUTION_MODEL ||
        std::max(grid.rows(), grid.columns()) <= smallest)
      continue;
    return Wrong(at, absl::StrCat("is true, and superpixels of `resolution: model` are of a "
                                  "baseline's own size: a grid of ",
                                  grid.rows(), " x ", grid.columns(), " does not fit on ", smallest,
                                  " pixels a side (baselines.sizes)"));
  }
  return absl::OkStatus();
}

absl::Status CheckTrials(v1::StudySpec& spec) {
  v1::SweepSpec& sweep = *spec.mutable_sweep();
  RETURN_IF_ERROR(ResolveSweep(sweep));
  if (sweep.metric() == v1::SELECTION_METRIC_UNSPECIFIED) {
    const v1::SelectionMetric metric = spec.training().early_stopping().metric();
    sweep.set_metric(metric == v1::SELECTION_METRIC_UNSPECIFIED
                         ? v1::SELECTION_METRIC_VALIDATION_LOSS
                         : metric);
  }
  const uint64_t trials = TrialCount(sweep, EpochsOf(spec));
  if (trials == 0 || trials > kMostTrials) {
    return Wrong("sweep", absl::StrCat("has ", trials == 0 ? "no" : absl::StrCat("more than ", kMostTrials),
                                       " trials; it must have from 1 to ", kMostTrials));
  }
  const uint64_t trainings = trials * sweep.seeds() * std::max(1u, sweep.folds());
  if (trainings > kMostTrials) {
    return Wrong("sweep", absl::StrCat("has ", trainings, " trainings (trials x seeds x folds); at most ",
                                       kMostTrials, " are taken"));
  }
  uint32_t next = 0;
  const absl::Status status = ForEachTrial(spec, [&](uint32_t trial, const v1::StudySpec&) {
    next = trial + 1;
    return absl::OkStatus();
  });
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(status.message(), " (trial ", next, ": ",
                                                 Describe(SettingsOf(sweep, spec.seed(), next)), ")"));
}

}  // namespace

absl::StatusOr<v1::StudySpec> ResolveSpec(const v1::StudySpec& spec) {
  v1::StudySpec resolved = spec;
  RETURN_IF_ERROR(CheckName(resolved.name()));
  DERMIS_DEFAULT(resolved, seed, 1);
  RETURN_IF_ERROR(ResolveImages(!resolved.has_model(), *resolved.mutable_images()));
  if (resolved.has_model()) {
    RETURN_IF_ERROR(ResolveModelSpec(resolved));
  } else if (resolved.has_sweep()) {
    RETURN_IF_ERROR(CheckTrials(resolved));
  } else {
    RETURN_IF_ERROR(ResolveModel(resolved.images().size(), *resolved.mutable_training()));
    RETURN_IF_ERROR(ResolveTraining(*resolved.mutable_training()));
  }
  DERMIS_DEFAULT(*resolved.mutable_evaluation(), batch_size, 64);
  RETURN_IF_ERROR(InRange("evaluation.batch_size", resolved.evaluation().batch_size(), 1, 1024));
  if (resolved.has_explanation()) {
    RETURN_IF_ERROR(ResolveExplanation(*resolved.mutable_explanation()));
    RETURN_IF_ERROR(CheckMethodsFitModel(resolved));
  }
  if (resolved.images().has_hide()) RETURN_IF_ERROR(ResolveHide(resolved));
  if (resolved.has_baselines()) {
    RETURN_IF_ERROR(ResolveBaselines(resolved.images().size(), *resolved.mutable_baselines()));
  }
  if (resolved.has_embeddings()) RETURN_IF_ERROR(ResolveEmbeddings(*resolved.mutable_embeddings()));
  RETURN_IF_ERROR(CheckExplainsBaselines(resolved));
  return resolved;
}

std::string ToYaml(const v1::StudySpec& spec) {
  YAML::Emitter out;
  Emit(spec, out);
  return std::string(out.c_str()) + "\n";
}

}  // namespace dermis
