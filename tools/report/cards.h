// The data card and the model card: what the images and the model are, where they come from, what
// they are for, and what they are not. After Gebru et al. 2018 and Mitchell et al. 2019.
#ifndef DERMIS_TOOLS_REPORT_CARDS_H_
#define DERMIS_TOOLS_REPORT_CARDS_H_

#include <string>

#include "dermis/v1/studies.pb.h"
#include "tools/report/judgement.h"
#include "tools/report/report.h"

namespace dermis {

// "isic, ": what the set is called, where it has a name, before what else is said of it. Plain
// text.
std::string SetName(const v1::StudyResults& results, const v1::ImageSetManifest& manifest,
                    const std::string& separator);

// HTML of a section's body. Nothing is said that the set does not say of itself.
std::string RenderDataCard(const v1::StudyResults& results, const v1::ImageSetManifest& manifest,
                           const Judgement& judgement);
std::string RenderModelCard(const v1::StudyResults& results, const v1::ImageSetManifest& manifest,
                            const Judgement& judgement);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_CARDS_H_
