// The end of a study in words.
#ifndef DERMIS_TOOLS_DERMIS_SUMMARY_H_
#define DERMIS_TOOLS_DERMIS_SUMMARY_H_

#include <string>

#include "common/digest.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/studies.pb.h"

namespace dermis {

// SHA-256 over all that the study found: weights, test logits, every explanation. Equal studies have equal bits,
// whatever ran them.
Digest BitsOf(const v1::StudyResults& results);

// Result table, model digest, what was computed and what was found.
std::string Summarise(const v1::StudyResults& results, const v1::ImageSetManifest& manifest);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_SUMMARY_H_
