#include "common/background.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/philox.h"

namespace dermis {

uint32_t BackgroundPerClass(const v1::ExplanationSpec& spec) {
  return spec.background().has_per_class() ? spec.background().per_class() : kBackgroundPerClass;
}

std::vector<uint32_t> BackgroundImages(absl::Span<const uint32_t> training,
                                       absl::Span<const uint32_t> labels, uint64_t seed,
                                       uint32_t per_class) {
  std::map<uint32_t, std::vector<std::pair<uint64_t, uint32_t>>> drawn;  // By class: (draw, image).
  for (const uint32_t image : training) {
    const auto words = PhiloxBlock(seed, Purpose::kBackground, image, 0, 0);
    drawn[labels[image]].emplace_back(uint64_t{words[0]} << 32 | words[1], image);
  }
  std::vector<uint32_t> images;
  for (auto& [label, candidates] : drawn) {
    std::sort(candidates.begin(), candidates.end());
    if (candidates.size() > per_class) candidates.resize(per_class);
    for (const auto& [draw, image] : candidates) images.push_back(image);
  }
  std::sort(images.begin(), images.end());
  return images;
}

Digest BackgroundDigest(const v1::ImageSetManifest& manifest, absl::Span<const uint32_t> images) {
  Sha256 hash;
  for (const uint32_t image : images) {
    const std::string& digest = manifest.images(static_cast<int>(image)).digest();
    hash.Update(digest.data(), digest.size());
  }
  return hash.Finish();
}

}  // namespace dermis
