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
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  const bool opened = in.is_open();
  const int why = errno;
  std::error_code unknown;
  const uintmax_t size = std::filesystem::file_size(path, unknown);
  std::string bytes;
  bool too_long = !unknown && size > most;
  if (opened && !too_long) {
    if (!unknown) bytes.reserve(size);
    // Devices and pipes have no size, and some no end.
    std::vector<char> piece(1 << 16);
    errno = 0;
    while (!too_long &&
           (in.read(piece.data(), static_cast<std::streamsize>(piece.size())) || in.gcount() > 0)) {
      bytes.append(piece.data(), static_cast<size_t>(in.gcount()));
      too_long = bytes.size() > most;
    }
  }
  if (!opened || in.bad()) {
    const int error = opened ? errno : why;
    return absl::NotFoundError(absl::StrCat(
        path, " cannot be read: ", error == 0 ? "no bytes come" : std::strerror(error)));
  }
  if (too_long) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has more than ", most >> 20,
                     " MiB, which is too much for what it is to be: is it the right file?"));
  }
  return bytes;
}

}  // namespace dermis
