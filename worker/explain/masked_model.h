// The model as a function of which superpixels of an image it sees.
#ifndef DERMIS_WORKER_EXPLAIN_MASKED_MODEL_H_
#define DERMIS_WORKER_EXPLAIN_MASKED_MODEL_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/digest.h"
#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"
#include "worker/explain/composer.h"
#include "worker/explain/masks.h"
#include "worker/explain/superpixels.h"
#include "worker/plan/inference_plan.h"

namespace dermis {

// What hides a superpixel: one picture (or colour), or several, over whose outputs the mean is
// taken.
struct MaskedImage {
  std::vector<Composer> composers;  // One, or one a background image.
  bool probabilities = false;       // The mean is of probabilities; else of logits.
  Digest background;                // Of the background images; zero where there are none.
};

// Inputs of an image with superpixels hidden by `hidden`, whose numbers `hiding` holds (blur: a
// Gaussian whose deviation is so much of the shorter side, the border mirrored). The
// superpixels are of the image as it is displayed, or as the model sees it (their size says which).
// With source.noise() the noise is part of what is hidden.
// INVALID_ARGUMENT: an image, superpixels, model or hidden value that do not fit.
absl::StatusOr<MaskedImage> MaskedImageOf(const v1::ImageSource& source, uint32_t image,
                                          v1::HiddenValue hidden, const v1::Hiding& hiding,
                                          const Segmentation& segmentation, const ImageData& data,
                                          const InferencePlan& plan);

// logits: masks x classes, row-major. Of several composers: the mean logits, or the logarithms of
// the mean probabilities (whose softmax they are).
absl::Status RunMasks(absl::Span<const Mask> masks, const MaskedImage& masked, InferencePlan& plan,
                      float* logits);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_MASKED_MODEL_H_
