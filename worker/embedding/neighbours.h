// How well two classes separate in an embedding: a k-nearest-neighbours classifier that never sees
// an image's own lesion. One number, of the same meaning for pixels, components and t-SNE.
#ifndef DERMIS_WORKER_EMBEDDING_NEIGHBOURS_H_
#define DERMIS_WORKER_EMBEDDING_NEIGHBOURS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/bootstrap.h"
#include "worker/embedding/distances.h"

namespace dermis {

struct NeighbourOptions {
  size_t neighbours = 15;  // k; odd, so that votes do not tie.
  uint32_t draws = 1000;   // Of the bootstrap over groups.
  uint64_t seed = 1;
  int threads = 1;         // Same bits for any.
};

struct Separation {
  // Of each scored point: the part of its neighbours that is of class 1.
  std::vector<double> score;
  // (sensitivity + specificity) / 2, a point counting as 1 where most of its neighbours are (score
  // >= .5). Not corrected for classes of unequal size: their area is.
  double balanced_accuracy = 0;
  Interval balanced_accuracy_interval;
  // Under ROC of the score.
  double area = 0;
  Interval area_interval;
};

// Each point by the k nearest of the others that are not of its group (leave-group-out). rows: n x
// n; label: 0 or 1; group: numbered from 0 (GroupsOf). Ties in distance: the lower index. A point
// with less than k such neighbours takes those there are. InvalidArgument: sizes that do not match,
// a label that is neither, no neighbours asked for, a point that has none, a class without a point.
absl::StatusOr<Separation> LeaveGroupOut(const DistanceRows& rows,
                                         absl::Span<const uint32_t> label,
                                         absl::Span<const uint32_t> group,
                                         const NeighbourOptions& options);

// Each test point by its k nearest training points. rows: test x training. label and group of both;
// a training point of a test point's group does not count (group numbers are of one numbering).
absl::StatusOr<Separation> ByTraining(const DistanceRows& rows,
                                      absl::Span<const uint32_t> test_label,
                                      absl::Span<const uint32_t> test_group,
                                      absl::Span<const uint32_t> training_label,
                                      absl::Span<const uint32_t> training_group,
                                      const NeighbourOptions& options);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_NEIGHBOURS_H_
