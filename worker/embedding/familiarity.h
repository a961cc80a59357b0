// Whether an image is like those that a network was trained on: the distance to its K-th nearest
// training image in the network's features, each divided by its length (Sun, Ming, Zhu & Li,
// "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022). It asks for no shape of
// the classes in that space, as the Mahalanobis distance does, and the nearest images, which people
// want to see anyway, come with it.
#ifndef DERMIS_WORKER_EMBEDDING_FAMILIARITY_H_
#define DERMIS_WORKER_EMBEDDING_FAMILIARITY_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "dermis/v1/question.pb.h"

namespace dermis {

// Where the images of a training split lie, each row of length 1, and how far from them those of
// the validation split. Built image by image: all training images first.
struct FeatureSpace {
  std::vector<uint32_t> images;    // Of the training split, in the order in which they came.
  uint32_t features = 0;           // Of an image.
  std::vector<float> values;       // images x features.
  std::vector<double> validation;  // The distance of each validation image, ascending.
};

// features: of one image, as the network gives them. An image without any feature (all are 0) stays
// at 0: at distance 1 from all others. INVALID_ARGUMENT: no feature, another number of them than the
// images before had, no training image or neighbour to measure from, values that are not finite.
absl::Status AddTraining(uint32_t image, std::vector<float> features, FeatureSpace& space);
absl::Status AddValidation(std::vector<float> features, uint32_t neighbours, FeatureSpace& space);

// The 99th percentile: at most one validation image in a hundred lies beyond it (of fewer than a
// hundred: none). `validation` ascending, one at least.
double FamiliarityThreshold(absl::Span<const double> validation);

// `features`: of the image that is asked about; `neighbours`: as the space was made with. Equal
// distances: the one that came first. Without validation images it has no threshold.
// INVALID_ARGUMENT: as of AddValidation.
absl::StatusOr<v1::Familiarity> FamiliarityOf(const FeatureSpace& space,
                                              std::vector<float> features, uint32_t neighbours,
                                              uint32_t nearest);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_FAMILIARITY_H_
