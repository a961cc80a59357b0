// The part of a report on the baselines: which points of their grids were tried, which one was taken,
// and where in the image it looks.
#ifndef DERMIS_TOOLS_REPORT_BASELINES_H_
#define DERMIS_TOOLS_REPORT_BASELINES_H_

#include <string>

#include "dermis/v1/studies.pb.h"
#include "tools/report/report.h"

namespace dermis {

// HTML of the section's content; empty where no baseline is asked for. What is not there yet is said to
// be missing.
std::string RenderBaselines(const v1::StudyResults& results, const ReportInputs& inputs);

// "random forest, 224 px".
std::string NameOf(const v1::BaselineResult& baseline);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_BASELINES_H_
