#include "worker/embedding/neighbours.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "worker/embedding/parallel.h"

namespace dermis {
namespace {

absl::Status CheckLabels(absl::Span<const uint32_t> label, size_t count, const char* of) {
  if (label.size() != count) {
    return absl::InvalidArgumentError(
        absl::StrCat("nearest neighbours: ", label.size(), " labels or groups of ", count, " ", of,
                     " points"));
  }
  return absl::OkStatus();
}

absl::Status CheckClasses(absl::Span<const uint32_t> label, const char* of) {
  size_t counts[2] = {};
  for (uint32_t l : label) {
    if (l > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("nearest neighbours: label ", l, " is neither 0 nor 1"));
    }
    ++counts[l];
  }
  if (counts[0] == 0 || counts[1] == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("nearest neighbours: the ", of, " points are all of class ",
                     counts[0] == 0 ? 1 : 0, ": there is nothing to separate"));
  }
  return absl::OkStatus();
}

double BalancedAccuracy(absl::Span<const double> score, absl::Span<const uint32_t> label,
                        Counts counts) {
  uint64_t right[2] = {}, all[2] = {};
  for (size_t i = 0; i < score.size(); ++i) {
    const bool positive = score[i] >= 0.5;
    all[label[i]] += counts[i];
    if (positive == (label[i] == 1)) right[label[i]] += counts[i];
  }
  if (all[0] == 0 || all[1] == 0) return std::numeric_limits<double>::quiet_NaN();
  return (static_cast<double>(right[0]) / static_cast<double>(all[0]) +
          static_cast<double>(right[1]) / static_cast<double>(all[1])) /
         2;
}

// Groups numbered from 0 by first occurrence: the bootstrap draws as many groups as the largest
// number says.
std::vector<uint32_t> Renumbered(absl::Span<const uint32_t> group) {
  std::unordered_map<uint32_t, uint32_t> numbers;  // Only asked, never walked.
  std::vector<uint32_t> out;
  for (uint32_t g : group) {
    out.push_back(numbers.try_emplace(g, static_cast<uint32_t>(numbers.size())).first->second);
  }
  return out;
}

}  // namespace

absl::StatusOr<Separation> ByTraining(const DistanceRows& rows,
                                      absl::Span<const uint32_t> test_label,
                                      absl::Span<const uint32_t> test_group,
                                      absl::Span<const uint32_t> training_label,
                                      absl::Span<const uint32_t> training_group,
                                      const NeighbourOptions& options) {
  const size_t n = rows.rows(), m = rows.columns();
  RETURN_IF_ERROR(CheckLabels(test_label, n, "scored"));
  RETURN_IF_ERROR(CheckLabels(test_group, n, "scored"));
  RETURN_IF_ERROR(CheckLabels(training_label, m, "training"));
  RETURN_IF_ERROR(CheckLabels(training_group, m, "training"));
  RETURN_IF_ERROR(CheckClasses(test_label, "scored"));
  RETURN_IF_ERROR(CheckClasses(training_label, "training"));
  if (options.neighbours == 0) {
    return absl::InvalidArgumentError("nearest neighbours: at least one neighbour is needed");
  }
  Separation result;
  result.score.assign(n, std::numeric_limits<double>::quiet_NaN());
  ForEachPiece(options.threads, n, [&](size_t i) {
    std::vector<double> row(m);
    rows.Row(i, row.data());
    std::vector<bool> skip(m);
    for (size_t j = 0; j < m; ++j) skip[j] = training_group[j] == test_group[i];
    const std::vector<Neighbour> nearest = Nearest(row, options.neighbours, skip);
    uint32_t positive = 0;
    for (const Neighbour& neighbour : nearest) positive += training_label[neighbour.index];
    if (!nearest.empty()) {
      result.score[i] = static_cast<double>(positive) / static_cast<double>(nearest.size());
    }
  });
  for (size_t i = 0; i < n; ++i) {
    if (std::isnan(result.score[i])) {
      return absl::InvalidArgumentError(absl::StrCat(
          "nearest neighbours: point ", i, " has no neighbour outside its own group"));
    }
  }
  const std::vector<uint32_t> once(n, 1), group = Renumbered(test_group);
  const auto accuracy = [&](Counts counts) {
    return BalancedAccuracy(result.score, test_label, counts);
  };
  const WeightedArea area(result.score, test_label);
  result.balanced_accuracy = accuracy(once);
  result.area = area(once);
  result.balanced_accuracy_interval =
      BootstrapByGroup(group, options.draws, options.seed, accuracy);
  result.area_interval = BootstrapByGroup(group, options.draws, options.seed,
                                          [&](Counts counts) { return area(counts); });
  return result;
}

absl::StatusOr<Separation> LeaveGroupOut(const DistanceRows& rows,
                                         absl::Span<const uint32_t> label,
                                         absl::Span<const uint32_t> group,
                                         const NeighbourOptions& options) {
  // A point is of its own group.
  return ByTraining(rows, label, group, label, group, options);
}

}  // namespace dermis
