#include "coordinator/dashboard/importance.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "common/rank.h"
#include "common/sweep.h"

namespace dermis {
namespace {

constexpr size_t kRanges = 8, kTrialsOfARange = 5;

struct Group {
  double sum = 0;
  size_t count = 0;
};

// The best epoch up to `limit`; NaN: it has not come so far, or never was a number.
double BestUpTo(const Curve* curve, uint32_t limit, bool by_accuracy) {
  double best = std::numeric_limits<double>::quiet_NaN();
  if (curve == nullptr || curve->points.size() < limit) return best;
  for (uint32_t e = 0; e < limit; ++e) {
    const double value =
        by_accuracy ? curve->points[e].validation_accuracy : curve->points[e].validation_loss;
    if (std::isnan(value)) continue;
    if (std::isnan(best) || (by_accuracy ? value > best : value < best)) best = value;
  }
  return best;
}

// The shortest first rung of all brackets; 0: nobody is dropped on the way.
uint32_t FirstRung(const v1::StudySpec& spec) {
  uint32_t first = 0;
  for (const Bracket& bracket : BracketsOf(spec.sweep(), spec.training().epochs())) {
    if (!bracket.rungs.empty() && (first == 0 || bracket.rungs.front() < first)) {
      first = bracket.rungs.front();
    }
  }
  return first;
}

}  // namespace

double ShareExplained(const std::vector<std::string>& values, const std::vector<double>& numbers,
                      const std::vector<double>& raw_scores) {
  const size_t n = raw_scores.size();
  const std::vector<double> scores = RanksOf(raw_scores);
  const size_t most = std::clamp<size_t>(n / kTrialsOfARange, 2, kRanges);
  const bool ranges =
      !numbers.empty() && std::set<double>(numbers.begin(), numbers.end()).size() > most;
  std::map<std::string, Group> groups;
  const std::vector<double> ranks = ranges ? RanksOf(numbers) : std::vector<double>();
  double mean = 0;
  for (size_t i = 0; i < n; ++i) {
    const std::string name =
        ranges ? std::to_string(static_cast<size_t>((ranks[i] - 0.5) * static_cast<double>(most) /
                                                    static_cast<double>(n)))
               : values[i];
    Group& group = groups[name];
    group.sum += scores[i];
    ++group.count;
    mean += scores[i] / static_cast<double>(n);
  }
  double total = 0, between = 0;
  for (const double score : scores) total += (score - mean) * (score - mean);
  for (const auto& [name, group] : groups) {
    const double off = group.sum / static_cast<double>(group.count) - mean;
    between += static_cast<double>(group.count) * off * off;
  }
  if (total <= 0 || groups.size() < 2 || n <= groups.size()) return 0;
  const double within = (total - between) / static_cast<double>(n - groups.size());
  return std::clamp((between - static_cast<double>(groups.size() - 1) * within) / total, 0.0, 1.0);
}

ImportanceOfSettings ImportanceIn(const StudySnapshot& study) {
  ImportanceOfSettings out;
  if (!study.has_sweep()) return out;
  const TrialSettings::Table& table = study.settings->table();
  out.epochs = FirstRung(study.spec());
  std::vector<size_t> kept;
  std::vector<double> scores;
  for (size_t t = 0; t < study.trials.size(); ++t) {
    const TrialRow& row = study.trials[t];
    const double score = out.epochs == 0 ? row.score
                                         : BestUpTo(study.curves[t * study.replicas].get(),
                                                    out.epochs, study.by_accuracy());
    if (!std::isfinite(score)) continue;
    kept.push_back(t);
    scores.push_back(score);
  }
  out.trials = static_cast<uint32_t>(kept.size());
  for (size_t k = 0; k < table.keys.size(); ++k) {
    Importance& key = out.keys.emplace_back();
    key.key = table.keys[k];
    std::vector<std::string> values;
    std::vector<double> numbers;
    for (const size_t t : kept) {
      values.push_back(table.values[k][t]);
      if (!table.numbers[k].empty()) numbers.push_back(table.numbers[k][t]);
    }
    key.share = ShareExplained(values, numbers, scores);
    if (!numbers.empty()) key.correlation = Spearman(numbers, scores);
  }
  std::stable_sort(out.keys.begin(), out.keys.end(),
                   [](const Importance& a, const Importance& b) { return a.share > b.share; });
  return out;
}

}  // namespace dermis
