// What a reader must know before anything else: how good the model is, in words and numbers, and
// what speaks against relying on it.
#ifndef DERMIS_TOOLS_REPORT_FIRST_SCREEN_H_
#define DERMIS_TOOLS_REPORT_FIRST_SCREEN_H_

#include <string>
#include <vector>

#include "dermis/v1/studies.pb.h"
#include "tools/report/check_summary.h"
#include "tools/report/judgement.h"
#include "tools/report/report.h"

namespace dermis {

// How often these test images have been looked at: who looks often, finds something. A sentence
// that begins with a space, plain text; empty where that is not known.
std::string TestUseNote(const v1::TestUse& use);

// What follows from the study's own results, most serious first. HTML of each.
std::vector<std::string> Caveats(const v1::StudyResults& results, const ReportInputs& inputs,
                                 const Judgement& judgement, const CheckSummary& checks);

// The answer, its numbers, the caveats. HTML.
std::string RenderFirstScreen(const v1::StudyResults& results, const ReportInputs& inputs,
                              const Judgement& judgement, const CheckSummary& checks);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_FIRST_SCREEN_H_
