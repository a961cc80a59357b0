// Images of a set with one more, which is in no set: what a person asks about.
#ifndef DERMIS_WORKER_DATA_GIVEN_H_
#define DERMIS_WORKER_DATA_GIVEN_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "common/image_set.h"
#include "worker/data/image_source.h"

namespace dermis {

// `data` with one image more, height x width x 3 of the set: it comes after the others, without a
// label, and is the only test image; nothing else changes, and the others are not copied.
// INVALID_ARGUMENT: another size.
absl::StatusOr<std::shared_ptr<const ImageData>> WithGiven(
    const std::shared_ptr<const ImageData>& data, std::shared_ptr<const std::string> pixels);
absl::StatusOr<std::shared_ptr<ImageSet>> WithGiven(std::shared_ptr<ImageSet> set,
                                                    std::shared_ptr<const std::string> pixels);

}  // namespace dermis

#endif  // DERMIS_WORKER_DATA_GIVEN_H_
