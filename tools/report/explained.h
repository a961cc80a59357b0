// The part of a report that shows one explained image.
#ifndef DERMIS_TOOLS_REPORT_EXPLAINED_H_
#define DERMIS_TOOLS_REPORT_EXPLAINED_H_

#include <string>

#include "dermis/v1/studies.pb.h"
#include "tools/report/report.h"

namespace dermis {

struct ExplainedView {
  int number = 0;                    // Position in the report: makes ids.
  const v1::StudyResults* results = nullptr;
  const v1::ExplainedImage* explained = nullptr;
  const float* logits = nullptr;     // One a class; nullptr: the image has no evaluation.
};

// HTML of one <article>. Errors: INVALID_ARGUMENT for an image index outside of the set.
absl::StatusOr<std::string> RenderExplained(const ExplainedView& view, const ReportInputs& inputs);

// "shapley · slic" and the like.
std::string MethodTitle(const v1::MethodSpec& method);

// "the training images' mean colour".
std::string HiddenText(v1::HiddenValue hidden);

// -0.12 with a real minus sign.
std::string Number(double value, int digits = 3);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_EXPLAINED_H_
