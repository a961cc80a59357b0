// The part of a report that a reviewer of a medical classifier asks for: Table 1 with intervals,
// operating points, calibration, decision curve, subgroups, comparisons and the leak check. A
// function of what common/evaluation gives.
#ifndef DERMIS_TOOLS_REPORT_JUDGED_H_
#define DERMIS_TOOLS_REPORT_JUDGED_H_

#include <optional>
#include <string>
#include <vector>

#include "common/evaluation/judge.h"
#include "common/evaluation/leak_check.h"
#include "dermis/v1/image_set.pb.h"
#include "tools/report/plot.h"

namespace dermis {

struct JudgedView {
  std::vector<EvaluationReport>
      models;  // The one that the page is about first; of the same images.
  std::vector<ModelComparison> comparisons;
  std::optional<LeakReport> leaks;
};

// Stated probability against the share that is seen, before and after temperature; net benefit by threshold.
Plot CalibrationPlot(const EvaluationReport& model);
Plot DecisionPlot(const EvaluationReport& model);
// Sensitivity of each subgroup with its interval, as inline SVG; empty where there is none.
std::string SensitivityBySubgroup(const EvaluationReport& model);

// HTML of a section's body; its headings are h3, inside <div class="judged">. Empty without models,
// comparisons and leaks. `manifest`: names of the images of a leak (its indices are within).
std::string RenderJudged(const JudgedView& view, const v1::ImageSetManifest& manifest);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_JUDGED_H_
