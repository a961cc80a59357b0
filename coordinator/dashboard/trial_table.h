// The trials of a sweep as people ask for them: sorted, filtered and cut into pages here, so that a
// browser never holds 10,000 rows. Pure functions of a snapshot.
#ifndef DERMIS_COORDINATOR_DASHBOARD_TRIAL_TABLE_H_
#define DERMIS_COORDINATOR_DASHBOARD_TRIAL_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include <nlohmann/json.hpp>

#include "coordinator/dashboard/snapshot.h"

namespace dermis {

struct TrialQuery {
  std::string sort = "score";  // "trial", "state", "epochs", "score", or a setting's key.
  bool descending = false;  // Of a score: the worst first. What has no score comes last either way.
  std::string state;        // Empty: all.
  // Clauses of all that must hold, separated by ';': "key:low:high" or "key=value|value". Keys:
  // "score" and settings.
  std::string where;
  size_t offset = 0, limit = 50;
};
inline constexpr size_t kMostTrialsOfAPage = 500;

// Trials that match, in order; all of them: the limit is not looked at. INVALID_ARGUMENT names what
// is not known.
absl::StatusOr<std::vector<uint32_t>> SelectTrials(const StudySnapshot& study,
                                                   const TrialQuery& query);

// One page of the leaderboard.
absl::StatusOr<nlohmann::json> TrialPage(const StudySnapshot& study, const TrialQuery& query);

// Lines of parallel coordinates: the better half of `most`, and evenly chosen others.
nlohmann::json ParallelCoordinates(const StudySnapshot& study, size_t most = 2000);

// Of these trials' first trainings, or, where none are named, of the best and of those that train.
nlohmann::json CurvesOf(const StudySnapshot& study, std::vector<uint32_t> trials);

// All trials, by number. CSV: RFC 4180, with a header; a text that a spreadsheet would compute is
// quoted by an apostrophe.
std::string TrialsAsCsv(const StudySnapshot& study);
std::string TrialsAsJsonLines(const StudySnapshot& study);

// Six significant digits; null where it is not a finite number.
nlohmann::json Short(double value);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_DASHBOARD_TRIAL_TABLE_H_
