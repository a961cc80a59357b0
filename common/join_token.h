// What a worker needs to join: where the coordinator is, how its CA is recognised, and a secret. One line of text:
//
//   dermis-join-1/HOST:PORT/SHA-256 of the CA's public key/NUMBER/SECRET
//
// (hash and secret in base64url). It is read from a file or standard input, never from a command line, and stands in no log.
#ifndef DERMIS_COMMON_JOIN_TOKEN_H_
#define DERMIS_COMMON_JOIN_TOKEN_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/digest.h"

namespace dermis {

struct JoinToken {
  std::string address;  // HOST:PORT.
  Digest ca_key;        // PublicKeyHash of the CA's certificate.
  std::string id;       // [0-9a-f]+
  std::string secret;   // 32 bytes.
};

inline constexpr size_t kSecretBytes = 32;

std::string FormatJoinToken(const JoinToken& token);
// Space around it is ignored. INVALID_ARGUMENT says which part is wrong, and repeats nothing of the text.
absl::StatusOr<JoinToken> ParseJoinToken(std::string_view text);
// Of a file, or of standard input where `file` is "-". At most 4 KiB are read.
absl::StatusOr<JoinToken> ReadJoinToken(const std::string& file);

// The text up to where a token in it begins, which is said: for logs.
std::string WithoutJoinToken(std::string text);

// Bytes that nobody guesses.
std::string RandomBytes(size_t count);
// Whether this is the secret with that hash, in a time that does not depend on where it differs.
bool IsSecret(std::string_view secret, const Digest& hash);

// A worker's name that may stand in a certificate: 1 to 64 letters, digits, '.', '_', '-', '/' and ':', and none that a
// ready-made certificate has. INVALID_ARGUMENT.
absl::Status CheckWorkerName(std::string_view name);

}  // namespace dermis

#endif  // DERMIS_COMMON_JOIN_TOKEN_H_
