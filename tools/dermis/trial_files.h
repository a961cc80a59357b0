// A study's trials for other programs: event files for TensorBoard, tables for everything else. The same trials give the same
// bytes.
#ifndef DERMIS_TOOLS_DERMIS_TRIAL_FILES_H_
#define DERMIS_TOOLS_DERMIS_TRIAL_FILES_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "dermis/v1/studies.pb.h"

namespace dermis {

struct StudyTrials {
  std::string study;
  uint64_t submitted_unix_ms = 0;
  std::string metric;  // Of their scores: "validation_loss"; empty without a sweep.
  std::vector<v1::TrialHistory> trials;  // By number.
};

// Path beneath the folder that is to be made -> its bytes.
using TrialFiles = std::map<std::string, std::string>;

// trials.csv, a row a trial: trial, state, rung, epochs (that the score is of), score, deviation, metric (what the score is), cause, recipe, then its
// settings by their keys; and epochs.csv, a row an epoch of each of its trainings. What is not known is empty; the text of a
// cell that a spreadsheet would compute begins with an apostrophe.
TrialFiles TrialsAsCsv(const StudyTrials& study);
// trials.jsonl and epochs.jsonl: an object a row with the same keys, settings in an object of their own. What is not a number
// is null.
TrialFiles TrialsAsJsonLines(const StudyTrials& study);
// A folder a training (trial-00007.seed-1.fold-0) with one event file: losses, accuracies and learning rate by epoch, and the
// trial's settings for the HPARAMS page, whose columns are in a file beside these folders. All events have the time of the
// study's submission: when an epoch ended is not kept.
TrialFiles TrialsAsEvents(const StudyTrials& study);

// "csv", "jsonl" or "tensorboard", into a folder that is made. ALREADY_EXISTS: it is there.
absl::Status WriteTrialFiles(const StudyTrials& study, const std::string& format, const std::string& folder);

// A record of an event file (TFRecord): length and data, each with its masked CRC-32C.
std::string EventRecord(std::string_view data);
uint32_t Crc32c(std::string_view data);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_TRIAL_FILES_H_
