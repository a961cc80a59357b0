// Which hyperparameters matter: how much of the trials' order one setting alone explains, and in
// which direction. Pure.
#ifndef DERMIS_COORDINATOR_DASHBOARD_IMPORTANCE_H_
#define DERMIS_COORDINATOR_DASHBOARD_IMPORTANCE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/dashboard/snapshot.h"

namespace dermis {

struct Importance {
  std::string key;
  // Epsilon squared (Kelley 1935) of the scores' ranks: the part of their variance that lies
  // between groups, less what chance alone would give; 0..1. Ranks, because one exploded loss would
  // outweigh all else. Groups are the setting's values, or at most eight equally large ranges of
  // numbers that have more.
  double share = 0;
  std::optional<double> correlation;  // Spearman's, of numbers with the score.
};

struct ImportanceOfSettings {
  uint32_t epochs =
      0;  // Scores are compared after so many, the same for all; 0: each trial's own score.
  uint32_t trials = 0;           // That could be compared.
  std::vector<Importance> keys;  // The largest share first.
};

// Trials that race are scored at different epochs, which says more about who was dropped than about
// settings. So all are compared by the best epoch up to the first rung.
ImportanceOfSettings ImportanceIn(const StudySnapshot& study);

// The parts, for tests. `scores` are finite.
double ShareExplained(const std::vector<std::string>& values, const std::vector<double>& numbers,
                      const std::vector<double>& scores);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_DASHBOARD_IMPORTANCE_H_
