#include "coordinator/dashboard/trial_table.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "common/status_macros.h"

namespace dermis {
namespace {

using nlohmann::json;

constexpr size_t kCurvesShown = 12;
constexpr size_t kPointsOfACurve = 500;
// Values that span so much are drawn over their logarithm.
constexpr double kLogSpan = 10;

// The smaller the better; NaN: no score, or one that is no number.
double Rank(const StudySnapshot& study, uint32_t trial) {
  const double score = study.trials[trial].score;
  return study.by_accuracy() ? -score : score;
}

std::vector<uint32_t> AllTrials(const StudySnapshot& study) {
  std::vector<uint32_t> all(study.trials.size());
  std::iota(all.begin(), all.end(), 0u);
  return all;
}

// Stable, so equal ones stay in the order of their numbers; NaN last.
void SortBy(std::vector<uint32_t>& trials, const std::vector<double>& by, bool descending) {
  std::stable_sort(trials.begin(), trials.end(), [&](uint32_t a, uint32_t b) {
    if (std::isnan(by[a]) || std::isnan(by[b])) return !std::isnan(by[a]) && std::isnan(by[b]);
    return descending ? by[a] > by[b] : by[a] < by[b];
  });
}

std::vector<uint32_t> BestFirst(const StudySnapshot& study) {
  std::vector<double> rank;
  for (uint32_t t = 0; t < study.trials.size(); ++t) rank.push_back(Rank(study, t));
  std::vector<uint32_t> trials = AllTrials(study);
  SortBy(trials, rank, false);
  return trials;
}

absl::StatusOr<size_t> KeyOf(const StudySnapshot& study, const std::string& key) {
  const std::vector<std::string>& keys = study.settings->table().keys;
  const auto found = std::find(keys.begin(), keys.end(), key);
  if (found == keys.end()) {
    return absl::InvalidArgumentError(absl::StrCat("no setting '", key, "' in this sweep"));
  }
  return static_cast<size_t>(found - keys.begin());
}

absl::Status SortTrials(const StudySnapshot& study, const TrialQuery& query,
                        std::vector<uint32_t>& trials) {
  std::vector<double> by(study.trials.size());
  if (query.sort == "trial") {
    std::iota(by.begin(), by.end(), 0.0);
  } else if (query.sort == "score") {
    for (uint32_t t = 0; t < by.size(); ++t) by[t] = Rank(study, t);
  } else if (query.sort == "epochs") {
    for (uint32_t t = 0; t < by.size(); ++t) by[t] = study.trials[t].epochs;
  } else if (query.sort == "state") {
    for (uint32_t t = 0; t < by.size(); ++t) by[t] = -static_cast<double>(study.trials[t].state);
  } else {
    ASSIGN_OR_RETURN(const size_t k, KeyOf(study, query.sort));
    const TrialSettings::Table& table = study.settings->table();
    if (!table.numbers[k].empty()) {
      by = table.numbers[k];
    } else {
      const std::set<std::string> distinct(table.values[k].begin(), table.values[k].end());
      std::map<std::string, double> place;
      for (const std::string& value : distinct) place.emplace(value, place.size());
      for (uint32_t t = 0; t < by.size(); ++t) by[t] = place[table.values[k][t]];
    }
  }
  SortBy(trials, by, query.descending);
  return absl::OkStatus();
}

absl::Status Keep(const StudySnapshot& study, const std::string& clause,
                  std::vector<uint32_t>& trials) {
  const TrialSettings::Table& table = study.settings->table();
  if (const size_t equals = clause.find('='); equals != std::string::npos) {
    ASSIGN_OR_RETURN(const size_t k, KeyOf(study, clause.substr(0, equals)));
    const std::vector<std::string> list = absl::StrSplit(clause.substr(equals + 1), '|');
    const std::set<std::string> wanted(list.begin(), list.end());
    std::erase_if(trials, [&](uint32_t t) { return !wanted.contains(table.values[k][t]); });
    return absl::OkStatus();
  }
  const std::vector<std::string> parts = absl::StrSplit(clause, ':');
  double low = 0, high = 0;
  if (parts.size() != 3 || !absl::SimpleAtod(parts[1], &low) ||
      !absl::SimpleAtod(parts[2], &high)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", clause, "' is neither key:low:high nor key=value|value"));
  }
  if (parts[0] == "score") {
    std::erase_if(trials, [&](uint32_t t) {
      const TrialRow& row = study.trials[t];
      return !(row.score >= low && row.score <= high);
    });
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const size_t k, KeyOf(study, parts[0]));
  if (table.numbers[k].empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", parts[0], "' has values that are no numbers"));
  }
  std::erase_if(trials, [&](uint32_t t) {
    return !(table.numbers[k][t] >= low && table.numbers[k][t] <= high);
  });
  return absl::OkStatus();
}

json TrialAsJson(const StudySnapshot& study, uint32_t t) {
  const TrialRow& row = study.trials[t];
  json out = {{"trial", t},
              {"state", NameOf(row.state)},
              {"rung", row.rung},
              {"epochs", row.epochs},
              {"score", Short(row.score)}};
  if (row.scored) {
    out["score_epochs"] = row.score_epochs;
  } else if (row.epochs > 0) {
    out["so_far"] = true;
  }
  if (row.deviation > 0) out["deviation"] = Short(row.deviation);
  return out;
}

std::string Quoted(std::string text) {
  if (!text.empty() && std::string_view("=+-@\t\r").find(text[0]) != std::string_view::npos) {
    double number = 0;
    if (!absl::SimpleAtod(text, &number)) text = absl::StrCat("'", text);
  }
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) absl::StrAppend(&quoted, c == '"' ? "\"\"" : std::string(1, c));
  return quoted + "\"";
}

json AxisOf(const std::string& key, const std::vector<std::string>& values,
            const std::vector<double>& numbers) {
  json axis = {{"key", key}};
  if (numbers.empty()) {
    const std::set<std::string> distinct(values.begin(), values.end());
    axis["values"] = std::vector<std::string>(distinct.begin(), distinct.end());
    return axis;
  }
  const auto [low, high] = std::minmax_element(numbers.begin(), numbers.end());
  axis["low"] = *low;
  axis["high"] = *high;
  axis["log"] = *low > 0 && *high / *low >= kLogSpan;
  return axis;
}

}  // namespace

json Short(double value) {
  if (!std::isfinite(value)) return nullptr;
  return std::strtod(absl::StrFormat("%.6g", value).c_str(), nullptr);
}

absl::StatusOr<std::vector<uint32_t>> SelectTrials(const StudySnapshot& study,
                                                   const TrialQuery& query) {
  std::vector<uint32_t> trials = AllTrials(study);
  if (!query.state.empty()) {
    std::erase_if(trials, [&](uint32_t t) { return query.state != NameOf(study.trials[t].state); });
  }
  for (const std::string& clause :
       std::vector<std::string>(absl::StrSplit(query.where, ';', absl::SkipEmpty()))) {
    RETURN_IF_ERROR(Keep(study, clause, trials));
  }
  RETURN_IF_ERROR(SortTrials(study, query, trials));
  return trials;
}

absl::StatusOr<json> TrialPage(const StudySnapshot& study, const TrialQuery& query) {
  ASSIGN_OR_RETURN(const std::vector<uint32_t> trials, SelectTrials(study, query));
  const TrialSettings::Table& table = study.settings->table();
  json rows = json::array();
  const size_t end =
      std::min(trials.size(), query.offset + std::min(query.limit, kMostTrialsOfAPage));
  for (size_t i = query.offset; i < end; ++i) {
    json row = TrialAsJson(study, trials[i]);
    json settings = json::array();
    for (const std::vector<std::string>& values : table.values)
      settings.push_back(values[trials[i]]);
    row["settings"] = std::move(settings);
    rows.push_back(std::move(row));
  }
  return json{{"keys", table.keys},
              {"total", study.trials.size()},
              {"matching", trials.size()},
              {"offset", query.offset},
              {"higher_is_better", study.by_accuracy()},
              {"trials", std::move(rows)}};
}

json ParallelCoordinates(const StudySnapshot& study, size_t most) {
  const TrialSettings::Table& table = study.settings->table();
  std::vector<uint32_t> trials = BestFirst(study);
  if (trials.size() > most) {
    std::vector<uint32_t> fewer(trials.begin(), trials.begin() + static_cast<ptrdiff_t>(most / 2));
    const size_t rest = trials.size() - fewer.size(), want = most - fewer.size(),
                 first = fewer.size();
    for (size_t i = 0; i < want; ++i) fewer.push_back(trials[first + i * rest / want]);
    trials = std::move(fewer);
  }
  // The best are drawn last, on top.
  std::reverse(trials.begin(), trials.end());
  json axes = json::array(), columns = json::array();
  for (size_t k = 0; k < table.keys.size(); ++k) {
    axes.push_back(AxisOf(table.keys[k], table.values[k], table.numbers[k]));
    json column = json::array();
    std::map<std::string, size_t> place;
    if (table.numbers[k].empty()) {
      for (const auto& value : axes.back()["values"]) place.emplace(value, place.size());
    }
    for (const uint32_t t : trials) {
      column.push_back(table.numbers[k].empty() ? json(place[table.values[k][t]])
                                                : Short(table.numbers[k][t]));
    }
    columns.push_back(std::move(column));
  }
  json scores = json::array(), states = json::array();
  for (const uint32_t t : trials) {
    scores.push_back(Short(study.trials[t].score));
    states.push_back(static_cast<int>(study.trials[t].state));
  }
  return json{{"axes", std::move(axes)},
              {"columns", std::move(columns)},
              {"trials", trials},
              {"scores", std::move(scores)},
              {"states", std::move(states)},
              {"total", study.trials.size()},
              {"higher_is_better", study.by_accuracy()}};
}

json CurvesOf(const StudySnapshot& study, std::vector<uint32_t> trials) {
  if (trials.empty()) {
    for (const RunningTraining& running : study.running) {
      if (trials.size() < kCurvesShown / 3) trials.push_back(running.trial);
    }
    for (const uint32_t t : BestFirst(study)) {
      if (trials.size() >= kCurvesShown) break;
      trials.push_back(t);
    }
  }
  std::set<uint32_t> seen;
  json curves = json::array();
  for (const uint32_t t : trials) {
    const size_t k = static_cast<size_t>(t) * study.replicas;
    if (t >= study.trials.size() || k >= study.curves.size() || !seen.insert(t).second) continue;
    json points = json::array();
    if (const Curve* curve = study.curves[k].get()) {
      const std::vector<EpochPoint>& epochs = curve->points;
      const size_t stride = epochs.size() / kPointsOfACurve + 1;
      for (size_t e = 0; e < epochs.size(); ++e) {
        if (e % stride != 0 && e + 1 != epochs.size()) continue;
        const EpochPoint& point = epochs[e];
        points.push_back({point.epoch, Short(point.training_loss), Short(point.validation_loss),
                          Short(point.training_accuracy), Short(point.validation_accuracy)});
      }
    }
    json out = {
        {"trial", t}, {"state", NameOf(study.trials[t].state)}, {"points", std::move(points)}};
    for (const RunningTraining& running : study.running) {
      if (running.training == k) out["epoch"] = Short(running.epoch);
    }
    curves.push_back(std::move(out));
  }
  return json{{"curves", std::move(curves)}};
}

std::string TrialsAsCsv(const StudySnapshot& study) {
  const TrialSettings::Table& table = study.settings->table();
  std::string out = "trial,state,rung,epochs,score,score_epochs,deviation";
  for (const std::string& key : table.keys) absl::StrAppend(&out, ",", Quoted(key));
  absl::StrAppend(&out, "\r\n");
  for (uint32_t t = 0; t < study.trials.size(); ++t) {
    const TrialRow& row = study.trials[t];
    absl::StrAppend(&out, t, ",", NameOf(row.state), ",", row.rung, ",", row.epochs, ",");
    if (row.scored) {
      absl::StrAppend(
          &out, absl::StrFormat("%.17g,%u,%.17g", row.score, row.score_epochs, row.deviation));
    } else {
      absl::StrAppend(&out, ",,");
    }
    for (const std::vector<std::string>& values : table.values) {
      absl::StrAppend(&out, ",", Quoted(values[t]));
    }
    absl::StrAppend(&out, "\r\n");
  }
  return out;
}

std::string TrialsAsJsonLines(const StudySnapshot& study) {
  const TrialSettings::Table& table = study.settings->table();
  std::string out;
  for (uint32_t t = 0; t < study.trials.size(); ++t) {
    json line = TrialAsJson(study, t);
    const TrialRow& row = study.trials[t];
    if (std::isfinite(row.score)) line["score"] = row.score;
    json settings = json::object();
    for (size_t k = 0; k < table.keys.size(); ++k) settings[table.keys[k]] = table.values[k][t];
    line["settings"] = std::move(settings);
    absl::StrAppend(&out, line.dump(), "\n");
  }
  return out;
}

}  // namespace dermis
