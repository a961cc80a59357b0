#include "worker/classical/selection.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace dermis {
namespace {

constexpr double kTie = 1e-12;

// Of cells with these settings, each a list of numbers of which the smaller ones win ties.
absl::StatusOr<Choice> Choose(const std::vector<std::vector<double>>& settings,
                              absl::Span<const std::vector<double>> accuracy) {
  if (settings.empty() || settings.size() != accuracy.size()) {
    return absl::InvalidArgumentError(absl::StrCat("choosing from a grid: ", settings.size(),
                                                   " cells, accuracies of ", accuracy.size()));
  }
  std::vector<double> means;
  for (const std::vector<double>& row : accuracy) {
    double sum = 0;
    for (double value : row) sum += value;
    if (row.empty() || row.size() != accuracy.front().size() || !std::isfinite(sum)) {
      return absl::InvalidArgumentError(
          "choosing from a grid: each cell needs one finite accuracy a fold");
    }
    means.push_back(sum / static_cast<double>(row.size()));
  }
  const double best = *std::max_element(means.begin(), means.end());
  Choice choice{settings.size(), 0, false};
  for (size_t cell = 0; cell < means.size(); ++cell) {
    if (means[cell] < best - kTie) continue;
    if (choice.cell == settings.size() || settings[cell] < settings[choice.cell]) {
      choice.cell = cell;
    }
  }
  choice.accuracy = means[choice.cell];
  for (size_t axis = 0; axis < settings.front().size(); ++axis) {
    double low = INFINITY, high = -INFINITY;
    for (const auto& cell : settings) {
      low = std::min(low, cell[axis]);
      high = std::max(high, cell[axis]);
    }
    const double taken = settings[choice.cell][axis];
    choice.edge = choice.edge || (low < high && (taken == low || taken == high));
  }
  return choice;
}

}  // namespace

absl::StatusOr<std::vector<Split>> MakeFolds(const v1::ImageSetManifest& manifest,
                                             const v1::SplitSpec& spec, uint64_t seed,
                                             uint32_t folds) {
  if (folds < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("cross-validation: ", folds, " folds; two are needed at least"));
  }
  std::vector<Split> splits;
  v1::SplitSpec one = spec;
  one.set_folds(folds);
  for (uint32_t fold = 0; fold < folds; ++fold) {
    one.set_fold(fold);
    ASSIGN_OR_RETURN(Split split, MakeSplit(manifest, one, seed));
    splits.push_back(std::move(split));
  }
  return splits;
}

absl::StatusOr<Choice> ChooseStrength(absl::Span<const double> strengths,
                                      absl::Span<const std::vector<double>> accuracy) {
  std::vector<std::vector<double>> settings;
  for (double strength : strengths) settings.push_back({strength});
  return Choose(settings, accuracy);
}

absl::StatusOr<Choice> ChooseForest(absl::Span<const ForestCell> cells,
                                    absl::Span<const std::vector<double>> accuracy) {
  std::vector<std::vector<double>> settings;
  for (const ForestCell& cell : cells) {
    settings.push_back({static_cast<double>(cell.trees), static_cast<double>(cell.depth)});
  }
  return Choose(settings, accuracy);
}

}  // namespace dermis
