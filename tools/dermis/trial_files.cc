#include "tools/dermis/trial_files.h"

#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/sweep.h"
#include "tools/dermis/output.h"
#include "tools/dermis/tensorboard.pb.h"
#include "tools/ingest/csv.h"

namespace dermis {
namespace {

namespace tb = tensorboard;

// What is known of each epoch, and what TensorBoard calls it.
struct Measure {
  const char* key;
  const char* tag;
  double (v1::EpochMetrics::*value)() const;
};
constexpr Measure kMeasures[] = {
    {"training_loss", "loss/training", &v1::EpochMetrics::training_loss},
    {"training_accuracy", "accuracy/training", &v1::EpochMetrics::training_accuracy},
    {"validation_loss", "loss/validation", &v1::EpochMetrics::validation_loss},
    {"validation_accuracy", "accuracy/validation", &v1::EpochMetrics::validation_accuracy},
    {"learning_rate", "learning_rate", &v1::EpochMetrics::learning_rate},
};

Json RowOf(const StudyTrials& study, const v1::TrialHistory& trial) {
  const v1::TrialResult& result = trial.result();
  return {{"trial", result.trial()},
          {"state", result.state()},
          {"rung", result.rung()},
          {"epochs", result.epochs()},
          {"score", result.has_score() ? Json(result.score()) : Json()},
          {"deviation", result.has_score() ? Json(result.deviation()) : Json()},
          {"metric", study.metric},
          {"cause", result.cause()},
          {"recipe", result.recipe()}};
}

Json RowOf(const v1::TrialHistory& trial, const v1::TrainingHistory& training,
           const v1::EpochMetrics& epoch) {
  Json row = {{"trial", trial.result().trial()},
              {"seed", training.seed()},
              {"fold", training.has_fold() ? Json(training.fold()) : Json()},
              {"final", training.final()},
              {"epoch", epoch.epoch()}};
  for (const Measure& measure : kMeasures) row[measure.key] = (epoch.*measure.value)();
  return row;
}

template <typename Visit>
void ForEachEpoch(const StudyTrials& study, const Visit& visit) {
  for (const v1::TrialHistory& trial : study.trials) {
    for (const v1::TrainingHistory& training : trial.trainings()) {
      for (const v1::EpochMetrics& epoch : training.epochs()) visit(RowOf(trial, training, epoch));
    }
  }
}

std::string Cell(const Json& value) {
  if (value.is_null()) return "";
  if (!value.is_string()) {
    const bool number = !value.is_number_float() || std::isfinite(value.get<double>());
    return number ? value.dump() : absl::StrCat(value.get<double>());
  }
  const std::string& text = value.get_ref<const std::string&>();
  double number;
  const bool computed = !text.empty() &&
                        std::string_view("=+-@\t\r").find(text[0]) != std::string_view::npos &&
                        !absl::SimpleAtod(text, &number);
  return CsvField(computed ? "'" + text : text);
}

void AddLine(const std::vector<std::string>& cells, std::string& out) {
  for (size_t k = 0; k < cells.size(); ++k) absl::StrAppend(&out, k > 0 ? "," : "", cells[k]);
  out += "\r\n";
}

void AddRow(const Json& row, const std::vector<Json>& more, std::string& out) {
  std::vector<std::string> cells;
  for (const auto& [key, value] : row.items()) cells.push_back(Cell(value));
  for (const Json& value : more) cells.push_back(Cell(value));
  AddLine(cells, out);
}

std::vector<std::string> KeysOf(const Json& row) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : row.items()) keys.push_back(key);
  return keys;
}

// --- TensorBoard

double TimeOf(const StudyTrials& study) {
  return static_cast<double>(study.submitted_unix_ms) / 1000;
}

std::string FolderOf(const v1::TrialHistory& trial, const v1::TrainingHistory& training) {
  std::string name = absl::StrFormat("trial-%05u.seed-%u", trial.result().trial(), training.seed());
  if (training.has_fold()) absl::StrAppend(&name, ".fold-", training.fold());
  return training.final() ? name + ".final" : name;
}

void Add(const tb::Event& event, std::string& file) {
  file += EventRecord(event.SerializeAsString());
}

std::string NewFile(double time) {
  tb::Event event;
  event.set_wall_time(time);
  event.set_file_version("brain.Event:2");
  std::string file;
  Add(event, file);
  return file;
}

void AddHParams(double time, const char* tag, const tb::HParams& hparams, std::string& file) {
  tb::Event event;
  event.set_wall_time(time);
  tb::Summary::Value& value = *event.mutable_summary()->add_value();
  value.set_tag(absl::StrCat("_hparams_/", tag));
  value.mutable_metadata()->mutable_plugin_data()->set_plugin_name("hparams");
  value.mutable_metadata()->mutable_plugin_data()->set_content(hparams.SerializeAsString());
  // It asks for a value and does not look at it.
  value.mutable_tensor()->set_dtype(1);
  value.mutable_tensor()->mutable_tensor_shape()->add_dim()->set_size(1);
  value.mutable_tensor()->add_float_val(0);
  Add(event, file);
}

// 1: text, 2: true or false, 3: numbers.
int TypeOf(const StudyTrials& study, int axis) {
  bool numbers = true, truths = true;
  for (const v1::TrialHistory& trial : study.trials) {
    const std::string& value = trial.settings(axis).value();
    double number;
    numbers &= absl::SimpleAtod(value, &number);
    truths &= value == "true" || value == "false";
  }
  return numbers ? 3 : truths ? 2 : 1;
}

}  // namespace

TrialFiles TrialsAsCsv(const StudyTrials& study) {
  TrialFiles files;
  std::string& trials = files["trials.csv"];
  std::vector<std::string> header = KeysOf(RowOf(study, v1::TrialHistory()));
  if (!study.trials.empty()) {
    for (const v1::Setting& setting : study.trials[0].settings())
      header.push_back(CsvField(setting.key()));
  }
  AddLine(header, trials);
  for (const v1::TrialHistory& trial : study.trials) {
    std::vector<Json> settings;
    for (const v1::Setting& setting : trial.settings()) settings.push_back(setting.value());
    AddRow(RowOf(study, trial), settings, trials);
  }
  std::string& epochs = files["epochs.csv"];
  AddLine(KeysOf(RowOf(v1::TrialHistory(), v1::TrainingHistory(), v1::EpochMetrics())), epochs);
  ForEachEpoch(study, [&](const Json& row) { AddRow(row, {}, epochs); });
  return files;
}

TrialFiles TrialsAsJsonLines(const StudyTrials& study) {
  TrialFiles files;
  std::string& trials = files["trials.jsonl"];
  for (const v1::TrialHistory& trial : study.trials) {
    Json row = RowOf(study, trial);
    Json& settings = row["settings"] = Json::object();
    for (const v1::Setting& setting : trial.settings()) {
      // Numbers and truths as such.
      const Json value = Json::parse(setting.value(), nullptr, /*allow_exceptions=*/false);
      settings[setting.key()] =
          value.is_number() || value.is_boolean() ? value : Json(setting.value());
    }
    trials += row.dump() + "\n";
  }
  std::string& epochs = files["epochs.jsonl"];
  ForEachEpoch(study, [&](const Json& row) { epochs += row.dump() + "\n"; });
  return files;
}

TrialFiles TrialsAsEvents(const StudyTrials& study) {
  constexpr char kName[] = "events.out.tfevents.0.dermis";
  TrialFiles files;
  const double time = TimeOf(study);
  const int axes = study.trials.empty() ? 0 : study.trials[0].settings_size();
  std::vector<int> types;
  if (axes > 0) {
    tb::HParams hparams;
    hparams.mutable_experiment()->set_name(study.study);
    for (int axis = 0; axis < axes; ++axis) {
      types.push_back(TypeOf(study, axis));
      tb::HParam& info = *hparams.mutable_experiment()->add_hparam_infos();
      info.set_name(study.trials[0].settings(axis).key());
      info.set_type(types.back());
    }
    for (const Measure& measure : kMeasures) {
      hparams.mutable_experiment()->add_metric_infos()->mutable_name()->set_tag(measure.tag);
    }
    std::string& file = files[kName] = NewFile(time);
    AddHParams(time, "experiment", hparams, file);
  }
  for (const v1::TrialHistory& trial : study.trials) {
    for (const v1::TrainingHistory& training : trial.trainings()) {
      std::string& file = files[FolderOf(trial, training) + "/" + kName] = NewFile(time);
      if (axes > 0) {
        tb::HParams start;
        tb::SessionStart& info = *start.mutable_session_start_info();
        for (int axis = 0; axis < axes; ++axis) {
          tb::SessionStart::Setting& setting = *info.add_hparams();
          setting.set_key(trial.settings(axis).key());
          const std::string& value = trial.settings(axis).value();
          double number = 0;
          if (types[static_cast<size_t>(axis)] == 3 && absl::SimpleAtod(value, &number)) {
            setting.mutable_value()->set_number_value(number);
          } else if (types[static_cast<size_t>(axis)] == 2) {
            setting.mutable_value()->set_bool_value(value == "true");
          } else {
            setting.mutable_value()->set_string_value(value);
          }
        }
        info.set_group_name(absl::StrFormat("trial-%05u", trial.result().trial()));
        info.set_start_time_secs(time);
        AddHParams(time, "session_start_info", start, file);
      }
      for (const v1::EpochMetrics& epoch : training.epochs()) {
        tb::Event event;
        event.set_wall_time(time);
        event.set_step(epoch.epoch());
        for (const Measure& measure : kMeasures) {
          tb::Summary::Value& value = *event.mutable_summary()->add_value();
          value.set_tag(measure.tag);
          value.set_simple_value(static_cast<float>((epoch.*measure.value)()));
        }
        Add(event, file);
      }
      if (axes > 0) {
        const std::string& state = trial.result().state();
        tb::HParams end;
        end.mutable_session_end_info()->set_status(state == "failed"     ? 2
                                                   : state == "training" ? 3
                                                                         : 1);
        end.mutable_session_end_info()->set_end_time_secs(time);
        AddHParams(time, "session_end_info", end, file);
      }
    }
  }
  return files;
}

absl::Status WriteTrialFiles(const StudyTrials& study, const std::string& format,
                             const std::string& folder) {
  const TrialFiles files = format == "tensorboard" ? TrialsAsEvents(study)
                           : format == "jsonl"     ? TrialsAsJsonLines(study)
                                                   : TrialsAsCsv(study);
  std::error_code error;
  if (!std::filesystem::create_directory(folder, error)) {
    if (error)
      return absl::UnavailableError(absl::StrCat(folder, " cannot be made: ", error.message()));
    return absl::AlreadyExistsError(
        absl::StrCat(folder, " is there already (--trials): name a new folder"));
  }
  for (const auto& [name, bytes] : files) {
    const std::filesystem::path path = std::filesystem::path(folder) / name;
    std::filesystem::create_directories(path.parent_path(), error);
    std::ofstream out(path, std::ios::binary);
    out << bytes;
    out.flush();
    if (!out) return absl::UnavailableError(absl::StrCat(path.string(), " cannot be written"));
  }
  return absl::OkStatus();
}

uint32_t Crc32c(std::string_view data) {
  static constexpr std::array<uint32_t, 256> kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
      uint32_t crc = byte;
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
      table[byte] = crc;
    }
    return table;
  }();
  uint32_t crc = ~0u;
  for (const char c : data) crc = kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

std::string EventRecord(std::string_view data) {
  const auto little = [](uint64_t value, int bytes) {
    std::string out;
    for (int k = 0; k < bytes; ++k) out += static_cast<char>(value >> (8 * k) & 0xff);
    return out;
  };
  const auto masked = [](std::string_view bytes) {
    const uint32_t crc = Crc32c(bytes);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
  };
  const std::string length = little(data.size(), 8);
  return length + little(masked(length), 4) + std::string(data) + little(masked(data), 4);
}

}  // namespace dermis
