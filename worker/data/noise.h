// The pixels that an attribution explains: an image's own, or with imperceptible noise.
#ifndef DERMIS_WORKER_DATA_NOISE_H_
#define DERMIS_WORKER_DATA_NOISE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

#include "dermis/v1/task.pb.h"
#include "worker/data/image_source.h"

namespace dermis {

// Model-size pixels of an image, size x size x 3 in 0..255, plus source.noise() where it has some: not rounded and not
// clipped, so that its distribution is the same for every pixel. Errors: those of ImageData::Pin; INVALID_ARGUMENT for
// a radius that is not in (0, 1].
absl::StatusOr<std::vector<float>> EvaluatedPixels(const ImageData& data,
                                                   const v1::ImageSource& source, uint32_t image);

}  // namespace dermis

#endif  // DERMIS_WORKER_DATA_NOISE_H_
