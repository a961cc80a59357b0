// A study's results for programs.
#ifndef DERMIS_TOOLS_DERMIS_RESULTS_JSON_H_
#define DERMIS_TOOLS_DERMIS_RESULTS_JSON_H_

#include <string>

#include "absl/status/statusor.h"

#include "common/evaluation/scores.h"
#include "dermis/v1/studies.pb.h"
#include "dermis/v1/task.pb.h"
#include "tools/dermis/output.h"
#include "tools/report/report.h"

namespace dermis {

// As messages and results are spelt in it; of a result the activations are left out.
Json MessageJson(const google::protobuf::Message& message);
Json PayloadJson(v1::Payload payload);
Json EstimateJson(const Estimate& estimate);  // {value, interval: [low, high]}.

// One JSON object: study, phase, spec (resolved), model, test (image, logits), explained
// (attributions and checks of each image as they are stored, activations left out because they are
// large, and what its baselines make of it: `baseline` counts in baselines) and checks (what these
// add up to over images, with verdicts and flags). Messages are spelt as in proto/, fields by their
// names. A result that is not there yet is null. INVALID_ARGUMENT: results that do not belong
// together.
absl::StatusOr<std::string> ResultsJson(const v1::StudyResults& results,
                                        const ReportInputs& inputs);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_RESULTS_JSON_H_
