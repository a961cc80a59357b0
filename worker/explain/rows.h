// The rows of masks of a perturbation's runs, and what is refused before any is run.
#ifndef DERMIS_WORKER_EXPLAIN_ROWS_H_
#define DERMIS_WORKER_EXPLAIN_ROWS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "dermis/v1/task.pb.h"
#include "worker/explain/estimators/coalitions.h"
#include "worker/explain/masks.h"

namespace dermis {

// "explanation of image 17: why".
absl::Status InvalidExplanation(uint32_t image, const std::string& why);

// INVALID_ARGUMENT: the perturbation has no runs of masks, or they are for another number of
// superpixels.
absl::Status CheckMasks(const v1::Perturbation& perturbation, uint32_t superpixels);

// All coalitions of the estimators kernel and leverage. They depend on seed, number of superpixels
// and budget alone, so the runs of many images share them: a thread keeps its last few.
std::shared_ptr<const CoalitionDesign> DesignOf(const v1::Perturbation& perturbation);

// Rows [first, last) of methods whose runs are of kMaskRun rows, as many as there are. Once
// CheckMasks holds.
std::vector<Mask> MaskRows(const v1::Perturbation& perturbation, uint64_t first, uint64_t last,
                           uint32_t superpixels);

// Values with their errors, both ends and what they leave over.
void SetShapley(const std::vector<double>& values, const std::vector<double>& errors, double full,
                double hidden, v1::Attribution& attribution);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_ROWS_H_
