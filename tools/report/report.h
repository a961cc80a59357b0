// A study's report: one HTML file that holds all it shows (no network; without its script all is there, too), below 20 MB;
// and its scores as CSV. Its figures as files of their own: figures.h.
#ifndef DERMIS_TOOLS_REPORT_REPORT_H_
#define DERMIS_TOOLS_REPORT_REPORT_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/image_set.h"
#include "common/metrics.h"
#include "dermis/v1/studies.pb.h"
#include "dermis/v1/task.pb.h"
#include "tools/report/judged.h"

namespace dermis {

struct ReportInputs {
  const ImageSet* images = nullptr;   // The study's set: names, labels, display pixels, masks.
  // The payload of a stored result (inline or from its blob).
  std::function<absl::StatusOr<v1::Payload>(const v1::TaskResult&)> fetch_payload;
  // A folder with the photographs that the set was made of, by their names in it or by their last parts; empty: none.
  std::string full_resolution = {};
  // The audit log's head, and who signed it; empty: not known.
  std::string audit = {};
};

// Of each test image, in the order of the results: the probability of the positive class (the last), and whether it is
// of that class. Errors as EvaluateStudy's.
struct TestScores {
  std::vector<double> probability;
  std::vector<uint32_t> label;
};
absl::StatusOr<TestScores> ScoresOf(const v1::StudyResults& results, const v1::ImageSetManifest& manifest);
// The same of each training of the taken trial that is evaluated, by seed: the first are ScoresOf.
absl::StatusOr<std::vector<TestScores>> ScoresBySeed(const v1::StudyResults& results,
                                                     const v1::ImageSetManifest& manifest);

// The stored test logits against the manifest's labels. FAILED_PRECONDITION: there are none yet.
// INVALID_ARGUMENT: results and image set do not belong together.
absl::StatusOr<Evaluation> EvaluateStudy(const v1::StudyResults& results, const v1::ImageSetManifest& manifest);

// The same of a baseline's test logits.
absl::StatusOr<Evaluation> EvaluateBaseline(const v1::StudyResults& results, const v1::BaselineResult& baseline,
                                            const v1::ImageSetManifest& manifest);

// The report's text. Parts that are not there yet (training, evaluation, single explanations) are said to be
// missing; a payload that cannot be fetched is named in its place. Deterministic. INVALID_ARGUMENT where
// results and image set do not belong together.
absl::StatusOr<std::string> RenderReport(const v1::StudyResults& results, const ReportInputs& inputs);

// A page of its own for how a model does on other images. audit: as in ReportInputs.
absl::Status WriteJudgedPage(const std::string& title, const std::string& lead, const JudgedView& view,
                             const v1::ImageSetManifest& manifest, const std::string& audit, const std::string& path);

// By temporary file and rename; what is no regular file (a pipe) is written to. UNAVAILABLE: disk.
absl::Status WriteFileAtomically(const std::string& path, const std::string& bytes);

// RenderReport into a file, so.
absl::Status WriteReport(const v1::StudyResults& results, const ReportInputs& inputs,
                         const std::string& path);

// One row a test image: index, image, label, predicted, probability of the positive class, margin, then the
// logit of each class with 9 digits (exact for a float). RFC 4180.
absl::Status WriteScoresCsv(const v1::StudyResults& results, const v1::ImageSetManifest& manifest,
                            const std::string& path);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_REPORT_H_
