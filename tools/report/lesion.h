// The parts of a report on lesion masks: the lesion test and the shortcut check.
#ifndef DERMIS_TOOLS_REPORT_LESION_H_
#define DERMIS_TOOLS_REPORT_LESION_H_

#include <string>
#include <vector>

#include "dermis/v1/studies.pb.h"
#include "tools/report/report.h"

namespace dermis {

// HTML of the section's content; empty where neither is asked for. What is not there yet is said to
// be missing.
std::string RenderLesions(const v1::StudyResults& results, const ReportInputs& inputs);

// What belongs on the first screen: a network that does well without the lesion. Plain text; empty:
// nothing does.
std::vector<std::string> ShortcutWarnings(const v1::ShortcutOutput& shortcut);
// The same of a study whose network never saw the lesion (images.hide). Empty where that is not so,
// or it does no better than chance.
std::vector<std::string> RetrainedWarnings(const v1::StudyResults& results,
                                           const v1::ImageSetManifest& manifest);

// HTML of the warnings of a study's results, of either kind; empty: there are none.
std::string RenderLesionWarnings(const v1::StudyResults& results, const ReportInputs& inputs);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_LESION_H_
