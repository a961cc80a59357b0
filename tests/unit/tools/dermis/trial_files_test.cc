#include "tools/dermis/trial_files.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "tools/dermis/tensorboard.pb.h"
#include "tools/ingest/csv.h"

namespace dermis {
namespace {

// Two trials: one trained with two seeds, one that failed.
StudyTrials Study() {
  StudyTrials study;
  study.study = "demo";
  study.submitted_unix_ms = 1'700'000'000'500;
  study.metric = "validation_loss";
  for (uint32_t t = 0; t < 2; ++t) {
    v1::TrialHistory& trial = study.trials.emplace_back();
    trial.mutable_result()->set_trial(t);
    trial.mutable_result()->set_state(t == 0 ? "chosen" : "failed");
    trial.mutable_result()->set_recipe("abc");
    for (const auto& [key, value] : {std::pair("training.clip_norm", t == 0 ? "0.5" : "1e-3"),
                                     std::pair("training.model", "resnet18")}) {
      v1::Setting& setting = *trial.add_settings();
      setting.set_key(key);
      setting.set_value(value);
    }
    for (uint64_t seed = 1; seed <= 2; ++seed) {
      v1::TrainingHistory& training = *trial.add_trainings();
      training.set_seed(seed);
      for (uint32_t e = 1; e <= 3 && t == 0; ++e) {
        v1::EpochMetrics& epoch = *training.add_epochs();
        epoch.set_epoch(e);
        epoch.set_training_loss(1.0 / e);
        epoch.set_validation_loss(e == 3 ? std::numeric_limits<double>::quiet_NaN() : 0.5);
        epoch.set_learning_rate(0.1);
      }
    }
  }
  study.trials[0].mutable_result()->set_score(0.5);
  study.trials[1].mutable_result()->set_cause("=HYPERLINK(\"x\"), it said");
  return study;
}

// The records of an event file, each checked by its own sums.
std::vector<tensorboard::Event> Events(const std::string& file) {
  std::vector<tensorboard::Event> events;
  for (size_t at = 0; at < file.size();) {
    uint64_t size = 0;
    std::memcpy(&size, file.data() + at, 8);
    const std::string data = file.substr(at + 12, size);
    EXPECT_EQ(EventRecord(data), file.substr(at, size + 16));
    EXPECT_TRUE(events.emplace_back().ParseFromString(data));
    at += size + 16;
  }
  return events;
}

TEST(TrialFiles, Crc32cIsCastagnolis) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, B.4.
}

TEST(TrialFiles, ARecordIsATFRecord) {
  // As `tf.io.TFRecordWriter` frames it: length, its masked sum, data, its masked sum.
  const std::string record = EventRecord("abc");
  ASSERT_EQ(record.size(), 8u + 4 + 3 + 4);
  EXPECT_EQ(record.substr(0, 8), std::string("\3\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(record.substr(12, 3), "abc");
}

TEST(TrialFiles, EventFiles_HaveAFolderATraining_WithItsEpochsAndSettings) {
  const TrialFiles files = TrialsAsEvents(Study());
  std::vector<std::string> names;
  for (const auto& [name, bytes] : files) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"events.out.tfevents.0.dermis",
                                             "trial-00000.seed-1/events.out.tfevents.0.dermis",
                                             "trial-00000.seed-2/events.out.tfevents.0.dermis",
                                             "trial-00001.seed-1/events.out.tfevents.0.dermis",
                                             "trial-00001.seed-2/events.out.tfevents.0.dermis"}));
  const auto events = Events(files.at(names[1]));
  ASSERT_EQ(events.size(), 6u);  // Version, settings, three epochs, the end.
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  for (const auto& event : events) EXPECT_EQ(event.wall_time(), 1'700'000'000.5);
  EXPECT_EQ(events[3].step(), 2);
  std::map<std::string, float> values;
  for (const auto& value : events[3].summary().value()) values[value.tag()] = value.simple_value();
  EXPECT_EQ(values.at("loss/training"), 0.5f);
  EXPECT_EQ(values.at("learning_rate"), 0.1f);
  EXPECT_EQ(values.size(), 5u);
  tensorboard::HParams start, end;
  ASSERT_TRUE(
      start.ParseFromString(events[1].summary().value(0).metadata().plugin_data().content()));
  EXPECT_EQ(start.session_start_info().hparams(0).value().number_value(), 0.5);
  EXPECT_EQ(start.session_start_info().hparams(1).value().string_value(), "resnet18");
  EXPECT_EQ(start.session_start_info().group_name(), "trial-00000")
      << "seeds of one trial are one group";
  ASSERT_TRUE(end.ParseFromString(events[5].summary().value(0).metadata().plugin_data().content()));
  EXPECT_EQ(end.session_end_info().status(), 1);
  ASSERT_TRUE(end.ParseFromString(
      Events(files.at(names[3])).back().summary().value(0).metadata().plugin_data().content()));
  EXPECT_EQ(end.session_end_info().status(), 2) << "it failed";
}

TEST(TrialFiles, Csv_HasARowATrialAndARowAnEpoch_AndNothingThatASpreadsheetComputes) {
  const TrialFiles files = TrialsAsCsv(Study());
  const auto trials = ParseCsv(files.at("trials.csv")), epochs = ParseCsv(files.at("epochs.csv"));
  ASSERT_TRUE(trials.ok() && epochs.ok());
  EXPECT_EQ(trials->header.back(), "training.model");
  ASSERT_EQ(trials->rows.size(), 2u);
  EXPECT_EQ(trials->rows[0][4], "0.5");
  EXPECT_EQ(trials->rows[1][4], "") << "no score";
  EXPECT_EQ(trials->rows[1][7], "'=HYPERLINK(\"x\"), it said");
  EXPECT_EQ(trials->rows[1][9], "1e-3");
  ASSERT_EQ(epochs->rows.size(), 6u);
  EXPECT_EQ(epochs->header[7], "validation_loss");
  EXPECT_EQ(epochs->rows[2][7], "nan");
}

TEST(TrialFiles, JsonLines_HaveTheSameKeys) {
  const TrialFiles files = TrialsAsJsonLines(Study());
  const std::string& text = files.at("trials.jsonl");
  const auto first = nlohmann::json::parse(text.substr(0, text.find('\n')));
  EXPECT_EQ(first.at("state"), "chosen");
  EXPECT_EQ(first.at("metric"), "validation_loss");
  EXPECT_EQ(first.at("settings").at("training.clip_norm"), 0.5);
  const std::string& epochs = files.at("epochs.jsonl");
  EXPECT_EQ(std::count(epochs.begin(), epochs.end(), '\n'), 6);
  EXPECT_NE(epochs.find("\"validation_loss\":null"), std::string::npos);
}

TEST(TrialFiles, SameTrials_GiveTheSameBytes) {
  EXPECT_EQ(TrialsAsEvents(Study()), TrialsAsEvents(Study()));
  EXPECT_EQ(TrialsAsCsv(Study()), TrialsAsCsv(Study()));
}

}  // namespace
}  // namespace dermis
