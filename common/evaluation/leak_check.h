// Does the model know test images already? Images that stand in two parts of a split. Pure.
#ifndef DERMIS_COMMON_EVALUATION_LEAK_CHECK_H_
#define DERMIS_COMMON_EVALUATION_LEAK_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/evaluation/image_hash.h"
#include "common/image_set.h"
#include "common/split.h"
#include "dermis/v1/image_set.pb.h"

namespace dermis {

enum class LeakKind {
  kSamePixels,     // Equal digests of pixels.
  kSameFile,       // Equal digests of the files that they were made from.
  kNearDuplicate,  // image_hash.h.
  kSameLesion,     // Equal group, or equal attribute lesion_id (of any set) or patient_id.
};
enum class SplitPart { kTraining, kValidation, kTest };

// Two images in different parts, under the first kind that holds.
struct Leak {
  LeakKind kind = LeakKind::kSamePixels;
  uint32_t first = 0, second = 0;  // first_part < second_part.
  SplitPart first_part = SplitPart::kTraining, second_part = SplitPart::kTest;
  int distance = 0;  // Of a near-duplicate.
  double correlation = 1;
};
inline constexpr size_t kMostLeaks = 200;  // In the list; all are counted.

struct LeakReport {
  uint64_t images = 0;
  uint64_t pairs = 0;  // That stand in different parts and were compared by fingerprint.
  uint64_t same_pixels = 0, same_file = 0, near_duplicate = 0, same_lesion = 0;
  std::string not_looked_for;  // Why there was no search for near-duplicates; empty: there was.
  std::vector<Leak> leaks;     // By kind, then by image.
  bool clean() const { return same_pixels + same_file + near_duplicate + same_lesion == 0; }
};

// Every pair of near-duplicates is looked for (20,000 images in 70 : 10 : 20 take half a second on
// one core); beyond this number there is no search, and the report says so.
inline constexpr size_t kMostCompared = 50000;

// `fingerprints`: one for each image of the manifest, or none (no search for near-duplicates).
// INVALID_ARGUMENT: another number, or an image of the split that is not in the set.
absl::StatusOr<LeakReport> CheckLeaks(const v1::ImageSetManifest& manifest, const Split& split,
                                      absl::Span<const ImageFingerprint> fingerprints);

// Of every image of a set, in order. Errors: what ImageSet::Pixels gives.
absl::StatusOr<std::vector<ImageFingerprint>> FingerprintsOf(const ImageSet& images);

}  // namespace dermis

#endif  // DERMIS_COMMON_EVALUATION_LEAK_CHECK_H_
