// Photographs, masks and label maps, as `dermis ingest` and a model's images are read.
#include "tests/fuzz/fuzz.h"
#include "tools/ingest/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view file = dermis::Text(data, size);
  constexpr uint32_t kSide = 16;
  const auto image = dermis::DecodeImage(file, kSide);
  dermis::Require(!image.ok() || image->size() == kSide * kSide * 3, "an image has its size");
  const auto mask = dermis::DecodeMask(file, kSide);
  dermis::Require(!mask.ok() || mask->size() == kSide * kSide, "a mask has its size");
  const auto labels = dermis::DecodeLabels(file, kSide);
  dermis::Require(!labels.ok() || labels->size() == kSide * kSide * 2, "a label map has its size");
  return 0;
}
