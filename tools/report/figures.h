// A study's figures and tables as files of their own: SVG for plots, PNG for images, CSV for
// numbers. Names begin with the number of the seed paper's figure that they are the counterpart of:
// fig02-roc.svg, table1.csv.
#ifndef DERMIS_TOOLS_REPORT_FIGURES_H_
#define DERMIS_TOOLS_REPORT_FIGURES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "dermis/v1/studies.pb.h"
#include "tools/report/report.h"

namespace dermis {

struct FigureFile {
  std::string name;    // "fig02-roc.svg"
  std::string figure;  // "Figure 2", "Table 1"; empty: the seed paper has none.
  std::string title;   // Plain text.
  std::string bytes;
};

// All that the study has, in the seed paper's order, then the others. Deterministic. Errors: those
// of RenderReport.
absl::StatusOr<std::vector<FigureFile>> StudyFigures(const v1::StudyResults& results,
                                                     const ReportInputs& inputs);

// A plot of the page as a file that any program shows: light, its style within, in plain colours.
std::string StandaloneSvg(const std::string& inline_svg);

// What of the seed paper's figures and tables this study does not have, and which study would.
// Plain text.
std::vector<std::string> MissingFigures(const std::vector<FigureFile>& files);

// Writes them and index.html, which shows them all, into a folder that is made where it is not
// there. ALREADY_EXISTS: the folder holds files that are not such figures; nothing is written then.
// UNAVAILABLE: disk. Gives their number.
absl::StatusOr<size_t> WriteFigures(const v1::StudyResults& results, const ReportInputs& inputs,
                                    const std::string& folder);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_FIGURES_H_
