// Small image sets of a test.
#ifndef DERMIS_TESTS_UNIT_COMMON_TEST_IMAGES_H_
#define DERMIS_TESTS_UNIT_COMMON_TEST_IMAGES_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
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

// A set as blobs by their digests, with `per_chunk` images a chunk (WriteImageSet's are larger).
struct TestBlobs {
  std::map<Digest, std::string> blobs;
  Digest address;
};

inline TestBlobs ChunkedBlobs(const std::vector<PackedImage>& images, uint32_t height,
                              uint32_t width, uint32_t per_chunk) {
  v1::ImageSetManifest manifest = TestHeader(height, width);
  manifest.set_format(1);
  TestBlobs made;
  const auto keep = [&](std::string bytes) {
    const Digest digest = Sha256Of(bytes);
    made.blobs[digest] = std::move(bytes);
    return digest;
  };
  for (size_t first = 0; first < images.size(); first += per_chunk) {
    std::string pixels;
    v1::ImageChunk* chunk = manifest.add_chunks();
    for (size_t i = first; i < std::min(images.size(), first + per_chunk); ++i) {
      pixels += images[i].pixels;
      *manifest.add_images() = images[i].entry;
      manifest.mutable_images()->rbegin()->set_digest(Sha256Of(images[i].pixels).bytes());
      chunk->set_count(chunk->count() + 1);
    }
    chunk->set_pixels(keep(std::move(pixels)).bytes());
  }
  made.address = keep(manifest.SerializeAsString());
  return made;
}

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_COMMON_TEST_IMAGES_H_
