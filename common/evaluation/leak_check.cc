#include "common/evaluation/leak_check.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <map>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

#include "common/simd.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

struct Placed {
  uint32_t image;
  SplitPart part;
};

// The places in `hashes` (eight an image) that are within the radius of `hash` in some orientation.
// Compiled for wider instructions because the count of bits has one there.
DERMIS_SIMD
void FindNear(uint64_t hash, const uint64_t* hashes, size_t images, std::vector<uint32_t>& near) {
  near.clear();
  for (size_t i = 0; i < images; ++i) {
    int least = 64;
    for (size_t k = 0; k < kOrientations; ++k) {
      const int distance = __builtin_popcountll(hash ^ hashes[i * kOrientations + k]);
      least = distance < least ? distance : least;
    }
    if (least <= kHashRadius) near.push_back(static_cast<uint32_t>(i));
  }
}

// Pairs of images in different parts that share a key, in ascending order.
void AddPairs(const std::vector<std::pair<std::string, Placed>>& keys, LeakKind kind,
              std::vector<Leak>& leaks) {
  absl::flat_hash_map<std::string, std::vector<Placed>> alike;
  for (const auto& [key, placed] : keys) alike[key].push_back(placed);
  for (const auto& [key, images] : alike) {
    for (size_t a = 0; a < images.size(); ++a) {
      for (size_t b = a + 1; b < images.size(); ++b) {
        if (images[a].part == images[b].part) continue;
        Leak leak{kind, images[a].image, images[b].image, images[a].part, images[b].part, 0, 1};
        if (leak.second_part < leak.first_part) {
          std::swap(leak.first, leak.second);
          std::swap(leak.first_part, leak.second_part);
        }
        leaks.push_back(leak);
      }
    }
  }
}

}  // namespace

absl::StatusOr<LeakReport> CheckLeaks(const v1::ImageSetManifest& manifest, const Split& split,
                                      absl::Span<const ImageFingerprint> fingerprints) {
  const size_t in_set = static_cast<size_t>(manifest.images_size());
  if (!fingerprints.empty() && fingerprints.size() != in_set) {
    return absl::InvalidArgumentError(
        absl::StrCat(fingerprints.size(), " fingerprints for ", in_set, " images"));
  }
  std::vector<Placed> placed;
  for (const auto& [part, images] : {std::pair{SplitPart::kTraining, &split.training},
                                     std::pair{SplitPart::kValidation, &split.validation},
                                     std::pair{SplitPart::kTest, &split.test}}) {
    for (const uint32_t image : *images) {
      if (image >= in_set) {
        return absl::InvalidArgumentError(
            absl::StrCat("image ", image, " is not in the set '", manifest.name(), "'"));
      }
      placed.push_back({image, part});
    }
  }
  LeakReport report;
  report.images = placed.size();

  std::vector<Leak> found;
  std::vector<std::pair<std::string, Placed>> pixels, files, lesions;
  for (const Placed& image : placed) {
    const v1::ImageEntry& entry = manifest.images(static_cast<int>(image.image));
    if (!entry.digest().empty()) pixels.emplace_back(entry.digest(), image);
    if (!entry.source().empty()) files.emplace_back(entry.source(), image);
    if (!entry.group().empty()) lesions.emplace_back("group " + entry.group(), image);
    for (const v1::Attribute& attribute : entry.attributes()) {
      if ((attribute.key() == "lesion_id" || attribute.key() == "patient_id") &&
          !attribute.value().empty()) {
        lesions.emplace_back(absl::StrCat(attribute.key(), " ", attribute.value()), image);
      }
    }
  }
  AddPairs(pixels, LeakKind::kSamePixels, found);
  AddPairs(files, LeakKind::kSameFile, found);
  AddPairs(lesions, LeakKind::kSameLesion, found);

  if (fingerprints.empty()) {
    report.not_looked_for = "there are no fingerprints of the images";
  } else if (placed.size() > kMostCompared) {
    report.not_looked_for = absl::StrCat("every pair is compared, and ", placed.size(),
                                         " images are more than ", kMostCompared);
  } else {
    std::vector<uint64_t> hashes;
    hashes.reserve(placed.size() * kOrientations);
    for (const Placed& image : placed) {
      const auto& of = fingerprints[image.image].hash;
      hashes.insert(hashes.end(), of.begin(), of.end());
    }
    // Parts lie one behind the other: an image is compared with all of later parts.
    std::vector<uint32_t> near;
    for (size_t a = 0; a < placed.size(); ++a) {
      const size_t later = static_cast<size_t>(
          std::upper_bound(placed.begin() + static_cast<std::ptrdiff_t>(a), placed.end(),
                           placed[a].part,
                           [](SplitPart part, const Placed& other) { return part < other.part; }) -
          placed.begin());
      report.pairs += placed.size() - later;
      FindNear(fingerprints[placed[a].image].hash[0], hashes.data() + later * kOrientations,
               placed.size() - later, near);
      for (const uint32_t offset : near) {
        const Placed& other = placed[later + offset];
        const Likeness likeness = Compare(fingerprints[placed[a].image], fingerprints[other.image]);
        if (!likeness.near_duplicate) continue;
        found.push_back({LeakKind::kNearDuplicate, placed[a].image, other.image, placed[a].part,
                         other.part, likeness.distance, likeness.correlation});
      }
    }
  }

  std::sort(found.begin(), found.end(), [](const Leak& a, const Leak& b) {
    return std::tie(a.kind, a.first, a.second) < std::tie(b.kind, b.first, b.second);
  });
  std::set<std::pair<uint32_t, uint32_t>> seen;
  for (const Leak& leak : found) {
    if (!seen.emplace(leak.first, leak.second).second) continue;
    switch (leak.kind) {
      case LeakKind::kSamePixels:
        ++report.same_pixels;
        break;
      case LeakKind::kSameFile:
        ++report.same_file;
        break;
      case LeakKind::kNearDuplicate:
        ++report.near_duplicate;
        break;
      case LeakKind::kSameLesion:
        ++report.same_lesion;
        break;
    }
    if (report.leaks.size() < kMostLeaks) report.leaks.push_back(leak);
  }
  return report;
}

absl::StatusOr<std::vector<ImageFingerprint>> FingerprintsOf(const ImageSet& images) {
  const v1::ImageSetManifest& manifest = images.manifest();
  std::vector<ImageFingerprint> fingerprints;
  fingerprints.reserve(static_cast<size_t>(manifest.images_size()));
  for (int i = 0; i < manifest.images_size(); ++i) {
    ASSIGN_OR_RETURN(const std::string_view pixels, images.Pixels(static_cast<uint32_t>(i)));
    fingerprints.push_back(
        FingerprintOf({reinterpret_cast<const uint8_t*>(pixels.data()), pixels.size()},
                      manifest.height(), manifest.width()));
  }
  return fingerprints;
}

}  // namespace dermis
