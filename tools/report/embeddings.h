// The part of a report that shows the images as points: principal components, t-SNE, and how far the
// classes lie apart.
#ifndef DERMIS_TOOLS_REPORT_EMBEDDINGS_H_
#define DERMIS_TOOLS_REPORT_EMBEDDINGS_H_

#include <string>

#include "absl/status/statusor.h"

#include "dermis/v1/studies.pb.h"
#include "tools/report/report.h"

namespace dermis {

// HTML of the section's content; empty where no embedding is asked for. What is not there yet is said to
// be missing.
absl::StatusOr<std::string> RenderEmbeddings(const v1::StudyResults& results,
                                             const ReportInputs& inputs);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_EMBEDDINGS_H_
