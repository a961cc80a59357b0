// The safetensors container (8-byte little-endian header length, JSON header, raw tensors): weights,
// training states and image sets. Output is canonical: tensors in ascending order of name, header
// padded with spaces to 8 bytes, metadata keys sorted; so equal tensors give equal bytes.
#ifndef DERMIS_COMMON_SAFETENSORS_H_
#define DERMIS_COMMON_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dermis {

struct TensorView {
  std::string dtype;            // "F32", "F64", "U8", "I32", "I64", ...
  std::vector<int64_t> shape;
  std::string_view data;        // Little endian, row-major, contiguous.
};

struct SafetensorsView {
  std::map<std::string, TensorView> tensors;     // Views into the parsed bytes.
  std::map<std::string, std::string> metadata;
};

std::string SerializeSafetensors(const std::map<std::string, TensorView>& tensors,
                                 const std::map<std::string, std::string>& metadata);

// The first bytes of the same file (length and header), made from dtype and shape alone, for writers that
// stream the data: what follows is each tensor's data in ascending order of name, without gaps.
std::string SafetensorsHeader(const std::map<std::string, TensorView>& tensors,
                              const std::map<std::string, std::string>& metadata);

// Bounded before it is used: header <= 100 MB, offsets inside the data and not overlapping, sizes match
// dtype and shape. The bytes must outlive the view. Errors: INVALID_ARGUMENT with what is wrong.
absl::StatusOr<SafetensorsView> ParseSafetensors(std::string_view bytes);

// A read-only memory-mapped file.
class MappedFile {
 public:
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();
  std::string_view bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::string_view bytes) : bytes_(bytes) {}
  std::string_view bytes_;
};

}  // namespace dermis

#endif  // DERMIS_COMMON_SAFETENSORS_H_
