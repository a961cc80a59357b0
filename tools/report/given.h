// The parts of a report that stand for what is not there: a training, where the model was given,
// and an evaluation, where the images have no labels.
#ifndef DERMIS_TOOLS_REPORT_GIVEN_H_
#define DERMIS_TOOLS_REPORT_GIVEN_H_

#include <string>

#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/studies.pb.h"

namespace dermis {

std::string RenderGivenModel(const v1::ModelSpec& model);

// What the model says of the images. Its logits fit them (checked by the caller).
std::string RenderPredictions(const v1::StudyResults& results,
                              const v1::ImageSetManifest& manifest);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_GIVEN_H_
