// What an image set shares with the one that a study was made of: who evaluates on what was trained
// on, learns nothing.
#ifndef DERMIS_TOOLS_DERMIS_OVERLAP_H_
#define DERMIS_TOOLS_DERMIS_OVERLAP_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"

#include "dermis/v1/image_set.pb.h"

namespace dermis {

struct Overlap {
  uint64_t images = 0;  // Whose pixels, or whose file, are those of an image of the study's set.
  uint64_t used = 0;    // Of these: not only of its test part.
  uint64_t lesions =
      0;            // Further images, of a lesion that has one in the study's set, by its name.
  uint64_t of = 0;  // Images that were looked for.

  bool none() const { return images + lesions == 0; }
};

// test: of the study's images those that nothing was trained or chosen on. Files are compared, too,
// as one image has other pixels at another size.
Overlap OverlapOf(const v1::ImageSetManifest& own, absl::Span<const uint32_t> test,
                  const v1::ImageSetManifest& other);

// A sentence without its end. `set`: the name of the study's.
std::string Describe(const Overlap& overlap, const std::string& set);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_OVERLAP_H_
