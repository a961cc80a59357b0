// Small image sets of a test.
#ifndef DERMIS_TESTS_UNIT_COMMON_TEST_IMAGES_H_
#define DERMIS_TESTS_UNIT_COMMON_TEST_IMAGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "common/image_set.h"
#include "common/philox.h"

namespace dermis {

inline v1::ImageSetManifest TestHeader(uint32_t height, uint32_t width) {
  v1::ImageSetManifest header;
  header.set_name("test");
  header.set_height(height);
  header.set_width(width);
  header.add_classes("benign");
  header.add_classes("malignant");
  return header;
}

// n random images "img-0000" ...; every third one is malignant, every `masked`-th has a mask (0:
// none).
inline std::vector<PackedImage> TestImages(uint32_t n, uint32_t height, uint32_t width,
                                           uint32_t masked = 0) {
  std::vector<PackedImage> images(n);
  for (uint32_t i = 0; i < n; ++i) {
    images[i].entry.set_name(absl::StrFormat("img-%04d", i));
    images[i].entry.set_label(i % 3 == 2 ? 1 : 0);
    images[i].pixels.resize(size_t{height} * width * 3);
    for (size_t k = 0; k < images[i].pixels.size(); ++k) {
      images[i].pixels[k] = static_cast<char>(PhiloxBlock(11, Purpose::kTest, i, k, 0)[0]);
    }
    if (masked != 0 && i % masked == 0) {
      images[i].mask.assign(size_t{height} * width, '\0');
      images[i].mask[i % images[i].mask.size()] = 1;
    }
  }
  return images;
}

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_COMMON_TEST_IMAGES_H_
