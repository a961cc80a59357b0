// Whole files.
#ifndef DERMIS_COMMON_FILES_H_
#define DERMIS_COMMON_FILES_H_

#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/statusor.h"

namespace dermis {

// All bytes of it. NOT_FOUND: "PATH cannot be read: why". INVALID_ARGUMENT: it has more than
// `most`, of which no more was read.
absl::StatusOr<std::string> ReadFile(const std::string& path,
                                     uint64_t most = std::numeric_limits<uint64_t>::max());

}  // namespace dermis

#endif  // DERMIS_COMMON_FILES_H_
