// How alike two maps of the same superpixels are. Pure, double, one thread.
#ifndef DERMIS_WORKER_EXPLAIN_CHECKS_SIMILARITY_H_
#define DERMIS_WORKER_EXPLAIN_CHECKS_SIMILARITY_H_

#include <optional>

#include "absl/types/span.h"

#include "dermis/v1/task.pb.h"
#include "worker/explain/superpixels.h"

namespace dermis {

// Mean structural similarity (Wang et al. 2004) as skimage.metrics.structural_similarity(a, b, data_range=1) computes
// it: uniform windows of 7 x 7, K1 = .01, K2 = .03, sample covariance, the mean without a border of 3 pixels.
// height x width. nullopt: a picture smaller than a window.
std::optional<double> StructuralSimilarity(absl::Span<const float> a, absl::Span<const float> b,
                                           int height, int width);

// Rank correlation of signed maps and of absolute ones, and the structural similarity of absolute maps painted on the
// picture, each divided by its largest value. What is not defined because a map does not vary is absent.
v1::Similarity SimilarityOf(absl::Span<const double> a, absl::Span<const double> b,
                            const Segmentation& segmentation);

// |b - a| / |a|, Euclidean. nullopt: a is 0.
std::optional<double> RelativeChange(absl::Span<const double> a, absl::Span<const double> b);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_CHECKS_SIMILARITY_H_
