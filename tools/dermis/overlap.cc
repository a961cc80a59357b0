#include "tools/dermis/overlap.h"

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

namespace dermis {

Overlap OverlapOf(const v1::ImageSetManifest& own, absl::Span<const uint32_t> test,
                  const v1::ImageSetManifest& other) {
  const absl::flat_hash_set<uint32_t> tested(test.begin(), test.end());
  absl::flat_hash_map<std::string, bool> used;  // By digest of pixels and of file.
  absl::flat_hash_set<std::string> lesions;
  for (int i = 0; i < own.images_size(); ++i) {
    const v1::ImageEntry& entry = own.images(i);
    for (const std::string& digest : {entry.digest(), entry.source()}) {
      if (!digest.empty()) used[digest] |= !tested.contains(static_cast<uint32_t>(i));
    }
    if (!entry.group().empty()) lesions.insert(entry.group());
  }
  Overlap overlap;
  overlap.of = static_cast<uint64_t>(other.images_size());
  for (const v1::ImageEntry& entry : other.images()) {
    bool is_own = false, is_used = false;
    for (const std::string& digest : {entry.digest(), entry.source()}) {
      const auto found = used.find(digest);
      if (found == used.end()) continue;
      is_own = true;
      is_used = is_used || found->second;
    }
    overlap.images += is_own ? 1 : 0;
    overlap.used += is_used ? 1 : 0;
    overlap.lesions += !is_own && lesions.contains(entry.group()) ? 1 : 0;
  }
  return overlap;
}

std::string Describe(const Overlap& overlap, const std::string& set) {
  if (overlap.none()) {
    return absl::StrCat("none of the ", overlap.of,
                        " images, and none of their lesions, stands in the study's own set '", set,
                        "'");
  }
  return absl::StrCat(
      overlap.images, " of ", overlap.of, " images stand in the study's own set '", set, "', ",
      overlap.used, " of them among those that it was trained on or chosen by",
      overlap.lesions == 0
          ? ""
          : absl::StrCat("; ", overlap.lesions, " more are of a lesion that has an image there"));
}

}  // namespace dermis
