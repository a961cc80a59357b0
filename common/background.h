// The background set: what an image is compared with where hiding means "another image". A pure
// function of the split, so coordinator and workers compute it alike.
#ifndef DERMIS_COMMON_BACKGROUND_H_
#define DERMIS_COMMON_BACKGROUND_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "common/digest.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"

namespace dermis {

inline constexpr uint32_t kBackgroundPerClass = 50;  // BackgroundSpec's default.

// What a study asks for, or the default.
uint32_t BackgroundPerClass(const v1::ExplanationSpec& spec);

// Ascending image indices: `per_class` of each class's training images, or all where a class has
// fewer, drawn without replacement by (seed, image). Balanced by class, so the set does not lean
// towards the class that happens to be common. `training`: ascending image indices, of a training
// split (common/split.h); `labels`: of every image of the set. A larger `per_class` adds images and
// takes none away.
std::vector<uint32_t> BackgroundImages(absl::Span<const uint32_t> training,
                                       absl::Span<const uint32_t> labels, uint64_t seed,
                                       uint32_t per_class);

// What stands in results: SHA-256 over the digests of `images` as the manifest has them, in this
// order.
Digest BackgroundDigest(const v1::ImageSetManifest& manifest, absl::Span<const uint32_t> images);

}  // namespace dermis

#endif  // DERMIS_COMMON_BACKGROUND_H_
