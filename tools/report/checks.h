// The part of a report that judges the explanations themselves.
#ifndef DERMIS_TOOLS_REPORT_CHECKS_H_
#define DERMIS_TOOLS_REPORT_CHECKS_H_

#include <string>
#include <vector>

#include "dermis/v1/studies.pb.h"
#include "tools/report/check_summary.h"

namespace dermis {

// What the checks found wanting, in words, worst first. Plain text.
std::vector<std::string> CheckFlags(const CheckSummary& summary);

// HTML of the section's content. spec: the study's, resolved. Empty where nothing was checked.
std::string RenderChecks(const CheckSummary& summary, const v1::ExplanationSpec& spec);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_CHECKS_H_
