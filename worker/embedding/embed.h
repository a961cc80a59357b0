// The embedding tasks: which images, what of them, and the numbers as they are stored. No Torch: a
// network's features are given.
#ifndef DERMIS_WORKER_EMBEDDING_EMBED_H_
#define DERMIS_WORKER_EMBEDDING_EMBED_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "dermis/v1/task.pb.h"
#include "worker/classical/gram.h"
#include "worker/data/image_source.h"

namespace dermis {

// All images of the split, ascending.
std::vector<uint32_t> EmbeddedImages(const Split& split);

// What their coordinates are made of: either is set, or neither: then it is the pixels themselves.
struct EmbeddedValues {
  std::shared_ptr<const Gram> pixels;  // Of all images of the set, by index.
  std::vector<float> features;         // EmbeddedImages x dimensions.
  uint32_t dimensions = 0;
};

// `values`: of the task's images and model. By products of images (PcaOfGram); of the pixels
// themselves, or of features of more than kMostProducts images, by RandomisedPca, whose draws are
// the same for all tasks; its residual is NaN. Errors: INVALID_ARGUMENT where the images are too
// few; UNAVAILABLE: pixels that are not all in memory.
absl::StatusOr<v1::PcaOutput> RunPca(const v1::PcaTask& task, const ImageData& data,
                                     const EmbeddedValues& values);
// pca: result of the task's PCA. `values` is not read where the input is its components.
absl::StatusOr<v1::TsneOutput> RunTsne(const v1::TsneTask& task, const v1::PcaOutput& pca,
                                       const EmbeddedValues& values);
// Without products there is no space of raw pixels. tsne: results of the task's, in its order.
// Pixels: each image by the others. Features: each test image by those of the training split, which
// is all that the network has learned from.
absl::StatusOr<v1::SeparationOutput> RunSeparation(const v1::SeparationTask& task,
                                                   const v1::PcaOutput& pca,
                                                   absl::Span<const v1::TsneOutput* const> tsne,
                                                   const ImageData& data,
                                                   const EmbeddedValues& values);

}  // namespace dermis

#endif  // DERMIS_WORKER_EMBEDDING_EMBED_H_
