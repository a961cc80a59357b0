// A certificate signing request (PKCS #10, DER), as whoever has a join token sends it: the CA signs
// for the key alone.
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "common/certificates.h"
#include "tests/fuzz/fuzz.h"

namespace {

std::unique_ptr<dermis::CertificateAuthority> MakeAuthority() {
  std::string folder = (std::filesystem::temp_directory_path() / "dermis-fuzz-XXXXXX").string();
  dermis::Require(
      mkdtemp(folder.data()) != nullptr && dermis::MakeClusterCertificates(folder, {}).ok(),
      "there is a CA");
  auto authority = *dermis::CertificateAuthority::Load(folder);
  std::filesystem::remove_all(folder);
  return authority;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<dermis::CertificateAuthority> authority = MakeAuthority();
  const std::string_view request = dermis::Text(data, size);
  const absl::StatusOr<dermis::Digest> key = dermis::CheckSigningRequest(request);
  const absl::StatusOr<std::string> certificate =
      authority->Sign(request, {"worker", "gpu1-0", "ab12ab12",
                                dermis::WorkerValidity(absl::FromUnixSeconds(1'800'000'000))});
  dermis::Require(key.ok() == certificate.ok(), "what passes the check is what the CA signs");
  if (!certificate.ok()) return 0;
  const absl::StatusOr<dermis::Bearer> bearer = dermis::BearerOf(*certificate);
  dermis::Require(bearer.ok() && bearer->role == "worker" && bearer->name == "gpu1-0" &&
                      bearer->serial == "ab12ab12",
                  "whatever the request says of itself, the certificate says what the CA was told");
  dermis::Require(*dermis::PublicKeyHash(*certificate) == *key,
                  "the certificate is of the request's key");
  return 0;
}
