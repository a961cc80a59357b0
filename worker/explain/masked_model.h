// The model as a function of which superpixels of an image it sees.
#ifndef DERMIS_WORKER_EXPLAIN_MASKED_MODEL_H_
#define DERMIS_WORKER_EXPLAIN_MASKED_MODEL_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"
#include "worker/explain/composer.h"
#include "worker/explain/masks.h"
#include "worker/explain/superpixels.h"
#include "worker/plan/inference_plan.h"

namespace dermis {

// Inputs of an image with superpixels hidden by `hidden`, or by the blurred image (a Gaussian whose
// deviation is `blur` times the shorter side, the border mirrored). With source.noise() the noise
// is part of what is hidden. INVALID_ARGUMENT: an image, superpixels, model or hidden value that do
// not fit.
absl::StatusOr<Composer> ComposerOf(const v1::ImageSource& source, uint32_t image,
                                    v1::HiddenValue hidden, const Segmentation& segmentation,
                                    const ImageData& data, const InferencePlan& plan);
absl::StatusOr<Composer> BlurredComposerOf(const v1::ImageSource& source, uint32_t image,
                                           double blur, const Segmentation& segmentation,
                                           const ImageData& data, const InferencePlan& plan);

// logits: masks x classes, row-major.
absl::Status RunMasks(absl::Span<const Mask> masks, const Composer& composer, InferencePlan& plan,
                      float* logits);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_MASKED_MODEL_H_
