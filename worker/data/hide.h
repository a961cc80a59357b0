// Images of which a part is hidden before anything sees them: what a network could do without the
// lesion, or without all else.
#ifndef DERMIS_WORKER_DATA_HIDE_H_
#define DERMIS_WORKER_DATA_HIDE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/image_set.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// The image with all but `hide.show` replaced: rgb and mask as the set holds them, height x width.
// Rounded to bytes, as any image of a set. training_mean: of the training split, per channel.
// INVALID_ARGUMENT: a region or hidden value that is not known.
absl::StatusOr<std::vector<uint8_t>> HidePart(const v1::Hide& hide, absl::Span<const uint8_t> rgb,
                                              absl::Span<const uint8_t> mask, int height, int width,
                                              const std::array<double, 3>& training_mean);

// Image `i` of the set with its part hidden, at `size` x `size`, into size x size x 3 bytes at
// `out`. Errors: of its blobs; NOT_FOUND where it has no mask.
absl::Status HiddenModelImage(const v1::Hide& hide, const ImageSet& set, uint32_t i, uint32_t size,
                              const std::array<double, 3>& training_mean, uint8_t* out);

}  // namespace dermis

#endif  // DERMIS_WORKER_DATA_HIDE_H_
