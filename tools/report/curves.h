// The plots that the seed paper has of classifiers: ROC and precision-recall curves (its Figure 2),
// confusion matrices (3, 6) and training curves (4, 5).
#ifndef DERMIS_TOOLS_REPORT_CURVES_H_
#define DERMIS_TOOLS_REPORT_CURVES_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/metrics.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/studies.pb.h"
#include "tools/report/plot.h"

namespace dermis {

// Models on the same test images; the first is the one that the page is about.
using NamedEvaluations = std::vector<std::pair<std::string, Evaluation>>;

Plot RocPlot(const NamedEvaluations& models);
Plot PrecisionRecallPlot(const NamedEvaluations& models);

// A model's confusion matrix as inline SVG. `name` is drawn above it.
std::string RenderConfusion(const std::string& name, const Evaluation& e,
                            const v1::ImageSetManifest& manifest);

// Epochs that count: those that ran beyond the stop belong to no result.
int EpochsOf(const v1::StudyResults& results);
// Of those, the best by the study's metric; there is at least one epoch.
uint32_t BestEpoch(const v1::StudyResults& results);
// Loss and accuracy of training and validation images by epoch; there is at least one epoch.
Plot LossPlot(const v1::StudyResults& results);
Plot AccuracyPlot(const v1::StudyResults& results);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_CURVES_H_
