#include "tools/report/estimators.h"

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/estimators.h"

namespace dermis {

std::string EstimatorNote(const v1::MethodSpec& method, const v1::Attribution& fit) {
  std::vector<std::string> notes;
  if (method.shapley().estimator() == v1::ESTIMATOR_AUTO) {
    const EstimatorChoice choice = ChooseEstimator(method.shapley(), fit.count());
    notes.push_back(absl::StrCat(EstimatorName(choice.estimator), ": ", choice.why));
  }
  const double tolerance = ToleranceOf(method);
  const auto error = RelativeError(fit);
  if (tolerance > 0 && error) {
    notes.push_back(absl::StrFormat("error %.2g of the range, %s the tolerance of %.2g", *error,
                                    *error <= tolerance ? "within" : "the budget ended before",
                                    tolerance));
  }
  if (method.shapley().estimator() == v1::ESTIMATOR_PARTITION && fit.standard_errors().empty()) {
    notes.push_back("cut off by its budget: its error is not known");
  }
  if (!fit.background().empty()) {
    notes.push_back(absl::StrCat("hidden by the background set ",
                                 absl::BytesToHexString(fit.background().substr(0, 6))));
  }
  return absl::StrJoin(notes, "; ");
}

bool RunInBf16(const v1::MethodResult& result) {
  const v1::Perturbation& perturbation = result.task().fit().perturbation();
  // A baseline computes in double, whatever the network does.
  return perturbation.precision() == v1::PRECISION_BF16 && !perturbation.model().has_baseline();
}

}  // namespace dermis
