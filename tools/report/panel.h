// Single cases as the seed paper shows them: its Figure 7 (a true positive), 13 (a false negative)
// and 8 (where the attribution is high). Pictures are rasters: they go into the page and into files
// alike.
#ifndef DERMIS_TOOLS_REPORT_PANEL_H_
#define DERMIS_TOOLS_REPORT_PANEL_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "dermis/v1/studies.pb.h"
#include "tools/report/picture.h"
#include "tools/report/report.h"

namespace dermis {

struct PanelPicture {
  std::string key;      // "lime-malignant": of a file's name.
  std::string caption;  // Plain text.
  Raster raster;        // RGB.

  // Takes two columns: a layer's channels side by side.
  bool wide() const { return raster.width > raster.height * 3 / 2; }
};

struct CasePanel {
  std::string figure;  // "7", "13" or "8": its counterpart in the seed paper.
  std::string title;   // "A true positive of median confidence"
  std::string note;    // Which image, why this one, what could not be had. Plain text.
  std::vector<PanelPicture> pictures;
};

// Of the images that the study explained: the true positive that is nearest to the median
// confidence of all true positives (7, and 8 of the same image) and the most confident false
// negative (13). Activation maps by layer, LIME for both classes, SHAP of the margin in both signs:
// those that the study has. Without panels where there are not two classes, no labels, or no such
// image. Errors: those of the image set.
absl::StatusOr<std::vector<CasePanel>> CasePanels(const v1::StudyResults& results,
                                                  const ReportInputs& inputs);

// HTML of a section's body; empty without panels.
std::string RenderPanels(const std::vector<CasePanel>& panels);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_PANEL_H_
