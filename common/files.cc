#include "common/files.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"

namespace dermis {

absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t most) {
  const auto too_long = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has more than ", most >> 20,
                     " MiB, which is too much for what it is to be: is it the right file?"));
  };
  std::error_code unknown;  // Of devices and pipes, and where there is no such file.
  const uint64_t size = std::filesystem::file_size(path, unknown);
  if (!unknown && size > most) return too_long();
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string bytes;
  // Piece by piece: devices and pipes have no size, and some no end.
  std::vector<char> piece(1 << 16);
  while (bytes.size() <= most &&
         (in.read(piece.data(), static_cast<std::streamsize>(piece.size())) || in.gcount() > 0)) {
    bytes.append(piece.data(), static_cast<size_t>(in.gcount()));
  }
  if (!in.is_open() || in.bad()) {
    return absl::NotFoundError(absl::StrCat(
        path, " cannot be read: ", errno == 0 ? "no bytes come" : std::strerror(errno)));
  }
  if (bytes.size() > most) return too_long();
  return bytes;
}

}  // namespace dermis
