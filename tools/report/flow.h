// Where the images went: received, left out and why, and into which part of the split, by class.
#ifndef DERMIS_TOOLS_REPORT_FLOW_H_
#define DERMIS_TOOLS_REPORT_FLOW_H_

#include <string>

#include "common/split.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/studies.pb.h"

namespace dermis {

// Inline SVG.
std::string RenderFlow(const v1::StudyResults& results, const v1::ImageSetManifest& manifest,
                       const Split& split);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_FLOW_H_
