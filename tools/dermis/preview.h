// What a study would do, before anything runs.
#ifndef DERMIS_TOOLS_DERMIS_PREVIEW_H_
#define DERMIS_TOOLS_DERMIS_PREVIEW_H_

#include <string>

#include "absl/status/statusor.h"

#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"

namespace dermis {

// Trials, rungs, tasks and about what they cost, for people: upper bounds, as if the cluster had no
// result yet. Errors: INVALID_ARGUMENT for a split that cannot be made.
absl::StatusOr<std::string> Preview(const v1::StudySpec& spec,
                                    const v1::ImageSetManifest& manifest);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_PREVIEW_H_
