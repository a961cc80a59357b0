// Canonical encoding of a message, by its descriptor:
//
//   message  := field*                       present fields, ascending by number
//   field    := key value | varint(0) key count value*   singular | repeated, count >= 1
//   key      := varint(number << 3 | code)
//               code: 0 integer, 1 double, 2 bytes, 3 message, 5 float; the 0 before the key of a
//               repeated field cannot be mistaken, as 0 is no field number
//   integer  := varint of the value as 64-bit two's complement (bool, enum number, all integers)
//   double   := 8 bytes, little endian;  float := 4 bytes, little endian
//   bytes    := varint(length) byte*      (string and bytes)
//   a message as a value := varint(length) message
//   count, length := varint;  varint as in protobuf, shortest form
//
// Present: a field without presence (plain proto3 scalar) when it is not its default; a field with
// presence (optional, oneof member, message) when it is set, be it to its default.
#include "common/digest.h"

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/unknown_field_set.h"
#include "openssl/evp.h"

namespace dermis {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

enum Code : uint32_t { kInteger = 0, kDouble = 1, kBytes = 2, kMessage = 3, kFloat = 5 };

void PutVarint(uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

template <typename Int>
void PutLittleEndian(Int value, std::string* out) {
  for (size_t i = 0; i < sizeof(Int); ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}

template <typename Int, typename Real>
absl::Status PutReal(Real value, const FieldDescriptor* field, std::string* out) {
  if (std::isnan(value) || (value == 0 && std::signbit(value))) {
    return absl::InvalidArgumentError(absl::StrCat("field ", field->full_name(), " is ",
                                                   std::isnan(value) ? "NaN" : "-0.0",
                                                   ": it has no canonical encoding"));
  }
  PutLittleEndian(std::bit_cast<Int>(value), out);
  return absl::OkStatus();
}

Code CodeOf(const FieldDescriptor* field) {
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return kDouble;
    case FieldDescriptor::CPPTYPE_FLOAT:
      return kFloat;
    case FieldDescriptor::CPPTYPE_STRING:
      return kBytes;
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return kMessage;
    default:
      return kInteger;
  }
}

absl::Status PutMessage(const Message& message, std::string* out);

// `index` < 0: the field is singular.
absl::Status PutValue(const Message& message, const FieldDescriptor* field, int index,
                      std::string* out) {
  const Reflection* r = message.GetReflection();
  const bool single = index < 0;
#define DERMIS_GET(Type) \
  (single ? r->Get##Type(message, field) : r->GetRepeated##Type(message, field, index))
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      PutVarint(static_cast<uint64_t>(int64_t{DERMIS_GET(Int32)}), out);
      break;
    case FieldDescriptor::CPPTYPE_INT64:
      PutVarint(static_cast<uint64_t>(DERMIS_GET(Int64)), out);
      break;
    case FieldDescriptor::CPPTYPE_UINT32:
      PutVarint(DERMIS_GET(UInt32), out);
      break;
    case FieldDescriptor::CPPTYPE_UINT64:
      PutVarint(DERMIS_GET(UInt64), out);
      break;
    case FieldDescriptor::CPPTYPE_BOOL:
      PutVarint(DERMIS_GET(Bool) ? 1 : 0, out);
      break;
    case FieldDescriptor::CPPTYPE_ENUM:
      PutVarint(static_cast<uint64_t>(int64_t{DERMIS_GET(EnumValue)}), out);
      break;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return PutReal<uint64_t>(DERMIS_GET(Double), field, out);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return PutReal<uint32_t>(DERMIS_GET(Float), field, out);
    case FieldDescriptor::CPPTYPE_STRING: {
      std::string scratch;
      const std::string& bytes =
          single ? r->GetStringReference(message, field, &scratch)
                 : r->GetRepeatedStringReference(message, field, index, &scratch);
      PutVarint(bytes.size(), out);
      out->append(bytes);
      break;
    }
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      std::string inner;
      if (absl::Status status = PutMessage(
              single ? r->GetMessage(message, field) : r->GetRepeatedMessage(message, field, index),
              &inner);
          !status.ok()) {
        return status;
      }
      PutVarint(inner.size(), out);
      out->append(inner);
      break;
    }
  }
#undef DERMIS_GET
  return absl::OkStatus();
}

absl::Status PutMessage(const Message& message, std::string* out) {
  const Reflection* reflection = message.GetReflection();
  if (!reflection->GetUnknownFields(message).empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("message ", message.GetDescriptor()->full_name(), " holds the unknown field ",
                     reflection->GetUnknownFields(message).field(0).number(),
                     ": it was made by another version of Dermis"));
  }
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);  // Present fields, ascending by number.
  for (const FieldDescriptor* field : fields) {
    if (field->is_map() || field->is_extension()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "field ", field->full_name(), " is a map or an extension: it has no canonical encoding"));
    }
    const uint64_t key = static_cast<uint64_t>(field->number()) << 3 | CodeOf(field);
    if (!field->is_repeated()) {
      PutVarint(key, out);
      if (absl::Status status = PutValue(message, field, -1, out); !status.ok()) return status;
      continue;
    }
    const int count = reflection->FieldSize(message, field);
    PutVarint(0, out);
    PutVarint(key, out);
    PutVarint(static_cast<uint64_t>(count), out);
    for (int i = 0; i < count; ++i) {
      if (absl::Status status = PutValue(message, field, i, out); !status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

// OpenSSL fails here only without memory or without SHA-256: nothing could go on.
void Require(bool ok) {
  if (!ok) {
    std::fprintf(stderr, "OpenSSL's SHA-256 does not work\n");
    std::abort();
  }
}

}  // namespace

absl::StatusOr<Digest> Digest::FromBytes(std::string_view bytes) {
  Digest digest;
  if (bytes.empty()) return digest;
  if (bytes.size() != kSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("a digest has 32 bytes, this one has ", bytes.size()));
  }
  std::memcpy(digest.bytes_.data(), bytes.data(), kSize);
  return digest;
}

absl::StatusOr<Digest> Digest::FromHex(std::string_view hex) {
  Digest digest;
  auto nibble = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  if (hex.size() != 2 * kSize) {
    return absl::InvalidArgumentError(absl::StrCat("a digest has 64 hexadecimal digits, '",
                                                   std::string(hex.substr(0, 80)), "' has not"));
  }
  for (size_t i = 0; i < kSize; ++i) {
    const int high = nibble(hex[2 * i]), low = nibble(hex[2 * i + 1]);
    if (high < 0 || low < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("a digest is written in 0-9 and a-f, '", std::string(hex), "' is not"));
    }
    digest.bytes_[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return digest;
}

bool Digest::none() const { return *this == Digest(); }
std::string Digest::hex() const { return absl::BytesToHexString(bytes()); }
std::string Digest::short_hex() const { return hex().substr(0, 12); }

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  // Fetched once: a look-up by EVP_sha256() in each init costs more than hashing a small message.
  static const EVP_MD* const kAlgorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  Require(state_->context != nullptr && kAlgorithm != nullptr &&
          EVP_DigestInit_ex(state_->context, kAlgorithm, nullptr) == 1);
}

Sha256::~Sha256() = default;

void Sha256::Update(const void* data, size_t size) {
  Require(EVP_DigestUpdate(state_->context, data, size) == 1);
}

Digest Sha256::Finish() {
  Digest digest;
  unsigned size = 0;
  Require(EVP_DigestFinal_ex(state_->context, digest.bytes_.data(), &size) == 1 &&
          size == Digest::kSize);
  return digest;
}

Digest Sha256Of(std::string_view bytes) {
  Sha256 hash;
  hash.Update(bytes.data(), bytes.size());
  return hash.Finish();
}

absl::StatusOr<std::string> CanonicalBytes(const Message& message) {
  std::string out;
  if (absl::Status status = PutMessage(message, &out); !status.ok()) return status;
  return out;
}

absl::StatusOr<Digest> MessageDigest(const Message& message) {
  absl::StatusOr<std::string> bytes = CanonicalBytes(message);
  if (!bytes.ok()) return bytes.status();
  const std::string& name = message.GetDescriptor()->full_name();
  Sha256 hash;
  hash.Update(name.data(), name.size() + 1);  // With its terminating zero.
  hash.Update(bytes->data(), bytes->size());
  return hash.Finish();
}

}  // namespace dermis
