// Files to pixels: the decoding half of the one preprocessing (upright, sRGB, centre crop, area resize).
#ifndef DERMIS_TOOLS_INGEST_DECODE_H_
#define DERMIS_TOOLS_INGEST_DECODE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace dermis {

// A JPEG or PNG as size x size x 3 bytes: EXIF orientation applied (EXIF itself is dropped), the centred square,
// by area down (or linearly up) to `size`. INVALID_ARGUMENT: neither format, damaged or cut short (also where a
// decoder would go on with a warning), above 100 megapixels.
absl::StatusOr<std::string> DecodeImage(std::string_view file, uint32_t size);

// A mask as size x size bytes of 0 / 1 by the same geometry, nearest neighbour; on where grey >= 128.
absl::StatusOr<std::string> DecodeMask(std::string_view file, uint32_t size);

// A label map, a PNG of one channel of 8 or 16 bits, as size x size uint16, little endian, by the same geometry, nearest
// neighbour. INVALID_ARGUMENT also for colours: they are no labels.
absl::StatusOr<std::string> DecodeLabels(std::string_view file, uint32_t size);

}  // namespace dermis

#endif  // DERMIS_TOOLS_INGEST_DECODE_H_
