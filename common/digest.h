// Addresses: SHA-256 of bytes, and of messages by a canonical encoding of our own.
//
// Protobuf's serialisation is not canonical across versions and languages, so messages are encoded by
// descriptor: fields ascending by number, default values omitted, no maps, no unknown fields, no NaN
// and no negative zero (digest.cc has the grammar).
#ifndef DERMIS_COMMON_DIGEST_H_
#define DERMIS_COMMON_DIGEST_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "google/protobuf/message.h"

namespace dermis {

// 32 bytes. Value type, ordered, hashable; the default is all zero and stands for "none".
class Digest {
 public:
  static constexpr size_t kSize = 32;
  Digest() : bytes_{} {}
  // From exactly 32 raw bytes (as in protos); the empty string gives the none digest.
  static absl::StatusOr<Digest> FromBytes(std::string_view bytes);
  static absl::StatusOr<Digest> FromHex(std::string_view hex);

  bool none() const;
  std::string bytes() const { return std::string(bytes_.begin(), bytes_.end()); }
  std::string hex() const;             // 64 characters.
  std::string short_hex() const;       // The first 12, for people.
  const std::array<uint8_t, kSize>& array() const { return bytes_; }

  friend auto operator<=>(const Digest&, const Digest&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Digest& d) {
    return H::combine(std::move(h), d.bytes_);
  }

 private:
  friend class Sha256;
  std::array<uint8_t, kSize> bytes_;
};

// Streaming SHA-256. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void Update(const void* data, size_t size);
  Digest Finish();  // Once.

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Digest Sha256Of(std::string_view bytes);

// Canonical bytes of a message. Errors: INVALID_ARGUMENT naming the field for maps, unknown fields,
// NaN, -0.0.
absl::StatusOr<std::string> CanonicalBytes(const google::protobuf::Message& message);

// SHA-256 over (full message name, 0, canonical bytes).
absl::StatusOr<Digest> MessageDigest(const google::protobuf::Message& message);

}  // namespace dermis

#endif  // DERMIS_COMMON_DIGEST_H_
