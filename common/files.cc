#include "common/files.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dermis {

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::ostringstream bytes;
  // An empty file has nothing to insert, which is no failure of reading.
  if (!in || (in.peek() != std::ifstream::traits_type::eof() && !(bytes << in.rdbuf())) || in.bad()) {
    return absl::NotFoundError(
        absl::StrCat(path, " cannot be read: ", errno == 0 ? "no bytes come" : std::strerror(errno)));
  }
  return std::move(bytes).str();
}

}  // namespace dermis
