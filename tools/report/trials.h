// The trials of a sweep, for a report and for the terminal.
#ifndef DERMIS_TOOLS_REPORT_TRIALS_H_
#define DERMIS_TOOLS_REPORT_TRIALS_H_

#include <string>
#include <vector>

#include "dermis/v1/studies.pb.h"

namespace dermis {

// "validation loss" or "validation accuracy".
std::string MetricName(v1::SelectionMetric metric);

// The one that is taken, then those that came farthest, each by score; failed ones last. They point
// into `results`.
std::vector<const v1::TrialResult*> RankTrials(const v1::StudyResults& results);

// A table with a column for each setting that varies.
std::string RenderTrials(const v1::StudyResults& results);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_TRIALS_H_
