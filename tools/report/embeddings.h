// The part of a report that shows the images as points: principal components, t-SNE, and how far the
// classes lie apart.
#ifndef DERMIS_TOOLS_REPORT_EMBEDDINGS_H_
#define DERMIS_TOOLS_REPORT_EMBEDDINGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "dermis/v1/studies.pb.h"
#include "tools/report/report.h"
#include "tools/report/scatter.h"

namespace dermis {

enum class EmbeddingKind { kPca, kTsneOfRaw, kTsneOfPca };

// One embedding of the images, as it is drawn.
struct EmbeddingPlot {
  EmbeddingKind kind = EmbeddingKind::kPca;
  bool features = false;               // Of the network's features; else of pixels.
  Scatter scatter;
  std::vector<uint32_t> images;        // Of its points, ascending.
  std::vector<uint8_t> parts;          // Of each: 0 training, 1 validation, 2 test.
};
// All that are there, those of pixels first. Errors: a payload that cannot be had.
absl::StatusOr<std::vector<EmbeddingPlot>> EmbeddingPlots(const v1::StudyResults& results,
                                                          const ReportInputs& inputs);

// HTML of the section's content; empty where no embedding is asked for. What is not there yet is said to
// be missing.
absl::StatusOr<std::string> RenderEmbeddings(const v1::StudyResults& results,
                                             const ReportInputs& inputs);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_EMBEDDINGS_H_
