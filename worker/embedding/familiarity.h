// Whether an image is like those that a network was trained on: the distance to its K-th nearest
// training image in the network's features, each divided by its length (Sun, Ming, Zhu & Li,
// "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022). It asks for no shape of
// the classes in that space, as the Mahalanobis distance does, and the nearest images, which people
// want to see anyway, come with it.
#ifndef DERMIS_WORKER_EMBEDDING_FAMILIARITY_H_
#define DERMIS_WORKER_EMBEDDING_FAMILIARITY_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "dermis/v1/question.pb.h"

namespace dermis {

// Where the images of a training split lie, each row of length 1, and how far from them those of
// the validation split.
struct FeatureSpace {
  std::vector<uint32_t> images;    // Of the training split, ascending.
  uint32_t features = 0;           // Of an image.
  std::vector<float> values;       // images x features.
  std::vector<double> validation;  // The distance of each validation image, ascending.
};

// training, validation: images x features, as the network gives them. An image without any feature
// (all are 0) stays at 0: at distance 1 from all others. INVALID_ARGUMENT: no training image, no
// feature, no neighbour asked for, sizes that do not match, values that are not finite.
absl::StatusOr<FeatureSpace> MakeFeatureSpace(std::vector<uint32_t> images, uint32_t features,
                                              std::vector<float> training,
                                              std::vector<float> validation, uint32_t neighbours);

// The 99th percentile: at most one validation image in a hundred lies beyond it (of fewer than a
// hundred: none). `validation` ascending. Where there are none: the largest number.
double FamiliarityThreshold(absl::Span<const double> validation);

// `features`: of the image that is asked about; `neighbours`: as the space was made with. Equal
// distances: the lower index first. INVALID_ARGUMENT: sizes that do not match, values that are not
// finite.
absl::StatusOr<v1::Familiarity> FamiliarityOf(const FeatureSpace& space,
                                              std::vector<float> features, uint32_t neighbours,
                                              uint32_t nearest);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_FAMILIARITY_H_
