#include "common/join_token.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace dermis {
namespace {

constexpr std::string_view kBegins = "dermis-join-";  // Of tokens of any form.
constexpr char kForm[] = "dermis-join-1";
static_assert(std::string_view(kForm).starts_with(kBegins));
constexpr size_t kMostBytes = 4096;

absl::Status Bad(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(
      "this is no join token: ", std::string(what),
      ". It is one line that `dermis cluster token create` prints: copy all of it, or make another"));
}

bool IsAddress(std::string_view address) {
  const size_t colon = address.rfind(':');
  return colon != std::string_view::npos && colon > 0 && colon + 1 < address.size() && address.size() < 300 &&
         std::all_of(address.begin(), address.end(), [](unsigned char c) { return absl::ascii_isgraph(c); }) &&
         std::all_of(address.begin() + static_cast<ptrdiff_t>(colon) + 1, address.end(),
                     [](unsigned char c) { return absl::ascii_isdigit(c); });
}

// Exactly so many bytes, in the one spelling that has no padding.
bool Decode(const std::string& text, std::string* bytes) {
  return absl::WebSafeBase64Unescape(text, bytes) && bytes->size() == kSecretBytes &&
         absl::WebSafeBase64Escape(*bytes) == text;
}

}  // namespace

std::string WithoutJoinToken(std::string text) {
  if (const size_t token = text.find(kBegins); token != std::string::npos) text.resize(token + kBegins.size());
  return text;
}

std::string FormatJoinToken(const JoinToken& token) {
  return absl::StrCat(kForm, "/", token.address, "/", absl::WebSafeBase64Escape(token.ca_key.bytes()), "/", token.id, "/",
                      absl::WebSafeBase64Escape(token.secret));
}

absl::StatusOr<JoinToken> ParseJoinToken(std::string_view text) {
  std::string line(text);
  absl::StripAsciiWhitespace(&line);
  const std::vector<std::string> parts = absl::StrSplit(line, '/');
  if (parts[0] != kForm) return Bad(absl::StrCat("it does not begin with ", kForm));
  if (parts.size() != 5) return Bad("it has not five parts");
  JoinToken token;
  token.address = parts[1];
  if (!IsAddress(token.address)) return Bad("its second part is not HOST:PORT");
  std::string hash;
  if (!Decode(parts[2], &hash)) return Bad("its third part is not the hash of a key");
  token.ca_key = *Digest::FromBytes(hash);
  token.id = parts[3];
  if (token.id.empty() || token.id.size() > 32 ||
      !std::all_of(token.id.begin(), token.id.end(), [](unsigned char c) { return absl::ascii_isxdigit(c); })) {
    return Bad("its fourth part is not a number");
  }
  if (!Decode(parts[4], &token.secret)) return Bad("its secret is not all there");
  return token;
}

absl::StatusOr<JoinToken> ReadJoinToken(const std::string& file) {
  const size_t begins = file.find_first_not_of(" \t\r\n");
  if (begins != std::string::npos && file.compare(begins, kBegins.size(), kBegins) == 0) {
    return absl::InvalidArgumentError(
        "this is a join token itself where a file's name is expected, and others of this machine "
        "see command lines: give the name of a file that holds it, or - and the token on standard "
        "input, and make another token if strangers use this machine");
  }
  std::string text(kMostBytes + 1, '\0');
  std::ifstream opened;
  if (file != "-") opened.open(file, std::ios::binary);
  std::istream& in = file == "-" ? std::cin : opened;
  if (!in) {
    return absl::NotFoundError(absl::StrCat("the join token's file ", WithoutJoinToken(file),
                                            " cannot be read: check its name and permissions"));
  }
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMostBytes) return Bad("it is too long");
  return ParseJoinToken(text);
}

std::string RandomBytes(size_t count) {
  std::string bytes(count, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(count)) != 1) std::abort();
  return bytes;
}

bool IsSecret(std::string_view secret, const Digest& hash) {
  const Digest given = Sha256Of(secret);
  return CRYPTO_memcmp(given.array().data(), hash.array().data(), Digest::kSize) == 0;
}

absl::Status CheckWorkerName(std::string_view name) {
  const bool good = !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || std::string_view("._-/:").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (!good) {
    return absl::InvalidArgumentError(
        "a worker that joins needs a --name of 1 to 64 letters, digits, '.', '_', '-', '/' and ':'");
  }
  for (std::string_view taken : {"coordinator", "worker", "user", "admin", "dermis-ca"}) {
    if (name == taken) {
      return absl::InvalidArgumentError(
          absl::StrCat("a worker that joins cannot be called ", std::string(name), ": give it another --name"));
    }
  }
  return absl::OkStatus();
}

}  // namespace dermis
