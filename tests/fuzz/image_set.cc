// An image set's manifest and chunks from outside: the first two bytes are the manifest's length,
// the rest is what its chunks are said to hold.
#include "common/image_set.h"

#include <string>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  dermis::Hush();
  if (size < 2) return 0;
  const size_t length = std::min<size_t>(data[0] | data[1] << 8, size - 2);
  dermis::v1::ImageSetManifest manifest;
  if (!manifest.ParseFromArray(data + 2, static_cast<int>(length))) return 0;
  if (!dermis::ValidateManifest(manifest).ok()) return 0;
  const std::string chunk(reinterpret_cast<const char*>(data) + 2 + length, size - 2 - length);
  const auto set = dermis::ImageSet::OpenBlobs(
      manifest, [&](const dermis::Digest&) -> absl::StatusOr<std::string> { return chunk; });
  if (!set.ok()) return 0;
  unsigned sum = 0;
  for (uint32_t i = 0; i < static_cast<uint32_t>(manifest.images_size()) && i < 16; ++i) {
    for (const auto& bytes : {(*set)->Pixels(i), (*set)->Mask(i), (*set)->Labels(i)}) {
      if (!bytes.ok()) continue;
      for (char c : *bytes) sum += static_cast<unsigned char>(c);
    }
  }
  return sum == 1 ? 1 : 0;  // Keeps the loop.
}
