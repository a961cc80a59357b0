// The part of a report that shows training images as augmentation hands them to the network.
#ifndef DERMIS_TOOLS_REPORT_AUGMENTED_H_
#define DERMIS_TOOLS_REPORT_AUGMENTED_H_

#include <string>

#include "common/image_set.h"
#include "dermis/v1/spec.pb.h"

namespace dermis {

// HTML of one <figure>: a few training images, as they are and as the first epochs see them, made
// by the worker's own function from the study's own draws; only the normalisation is left out. Says
// so where the study has no augmentation, and why where the set's pixels cannot be had. `spec`
// resolved.
std::string RenderAugmented(const v1::StudySpec& spec, const ImageSet& images);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_AUGMENTED_H_
