// What a report says about how values were estimated.
#ifndef DERMIS_TOOLS_REPORT_ESTIMATORS_H_
#define DERMIS_TOOLS_REPORT_ESTIMATORS_H_

#include <string>

#include "dermis/v1/spec.pb.h"
#include "dermis/v1/studies.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// Which estimator, where `auto` chose it why, and what a tolerance came to: "leverage: the 2^50
// subsets ..."; empty: there is nothing to say.
std::string EstimatorNote(const v1::MethodSpec& method, const v1::Attribution& fit);

// The network ran the method's masked inputs in bf16. Figures of additivity are fp32's: of such a
// fit none is given.
bool RunInBf16(const v1::MethodResult& result);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_ESTIMATORS_H_
