// Whole files.
#ifndef DERMIS_COMMON_FILES_H_
#define DERMIS_COMMON_FILES_H_

#include <string>

#include "absl/status/statusor.h"

namespace dermis {

// All bytes of it. NOT_FOUND: "PATH cannot be read: why".
absl::StatusOr<std::string> ReadFile(const std::string& path);

}  // namespace dermis

#endif  // DERMIS_COMMON_FILES_H_
