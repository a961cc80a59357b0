#include "coordinator/dashboard/sign_in.h"

#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

namespace dermis {
namespace {

constexpr size_t kTokenDigits = 64;

// Equal or not takes as long: both are hashed, so that not even the length shows.
bool Same(std::string_view a, std::string_view b) {
  unsigned char first[EVP_MAX_MD_SIZE], second[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  return EVP_Digest(a.data(), a.size(), first, &size, EVP_sha256(), nullptr) == 1 &&
         EVP_Digest(b.data(), b.size(), second, &size, EVP_sha256(), nullptr) == 1 &&
         CRYPTO_memcmp(first, second, size) == 0;
}

bool LooksLikeToken(std::string_view text) {
  return text.size() == kTokenDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Empty: make another.
std::string ReadToken(const std::string& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return "";
  struct stat info {};
  char text[kTokenDigits + 16];
  const ssize_t size = ::fstat(fd, &info) == 0 ? ::read(fd, text, sizeof text) : -1;
  ::close(fd);
  if (size < 0) return "";
  const std::string token(absl::StripAsciiWhitespace({text, static_cast<size_t>(size)}));
  if (!LooksLikeToken(token)) return "";
  if ((info.st_mode & 077) != 0) {
    DERMIS_LOG(kWarning, file, " could be read by others: another token is made");
    return "";
  }
  return token;
}

absl::Status WriteToken(const std::string& file, const std::string& token) {
  const std::string temporary = absl::StrCat(file, ".new"), text = token + "\n";
  ::unlink(temporary.c_str());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  bool good = fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (fd >= 0) good = ::close(fd) == 0 && good;
  if (good && ::rename(temporary.c_str(), file.c_str()) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, absl::StrCat(file, " cannot be written"));
}

}  // namespace

absl::StatusOr<SignIn> SignIn::Open(const std::string& file) {
  std::string token = ReadToken(file);
  if (token.empty()) {
    unsigned char bytes[kTokenDigits / 2];
    if (RAND_bytes(bytes, sizeof bytes) != 1) {
      return absl::InternalError("no random numbers could be had for the dashboard's token");
    }
    token = absl::BytesToHexString({reinterpret_cast<const char*>(bytes), sizeof bytes});
    if (absl::Status status = WriteToken(file, token); !status.ok()) return status;
  }
  return SignIn(std::move(token));
}

bool SignIn::IsToken(std::string_view said) const { return Same(said, token_); }

std::string SignIn::Signature(const std::string& expiry) const {
  const std::string text = absl::StrCat("dermis dashboard ", expiry);
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_sha256(), token_.data(), static_cast<int>(token_.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac, &size);
  return absl::BytesToHexString({reinterpret_cast<const char*>(mac), size});
}

std::string SignIn::CookieValue(absl::Time now) const {
  const std::string expiry = absl::StrCat(absl::ToUnixSeconds(now + kSignedInFor));
  return absl::StrCat(expiry, ".", Signature(expiry));
}

bool SignIn::IsCookieValue(std::string_view said, absl::Time now) const {
  const size_t dot = said.find('.');
  if (dot == std::string_view::npos) return false;
  const std::string expiry(said.substr(0, dot));
  int64_t seconds = 0;
  return Same(said.substr(dot + 1), Signature(expiry)) && absl::SimpleAtoi(expiry, &seconds) &&
         absl::FromUnixSeconds(seconds) > now;
}

}  // namespace dermis
