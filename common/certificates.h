// The cluster's private CA and its certificates (EC P-256). docs/security.md says who gets which.
#ifndef DERMIS_COMMON_CERTIFICATES_H_
#define DERMIS_COMMON_CERTIFICATES_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/digest.h"

namespace dermis {

struct Identity {             // PEM texts.
  std::string ca_certificate;
  std::string certificate;
  std::string key;
};

struct Validity {
  absl::Time from, until;
};

// Clocks of the cluster's machines may be wrong by a day each, so two may differ by two: so much earlier than now a
// certificate begins, and so much later than it has to it ends.
inline constexpr absl::Duration kClockSlack = absl::Hours(49);
// Of a worker that joined by a token; it renews its certificate after two thirds.
inline constexpr absl::Duration kWorkerLife = absl::Hours(7 * 24);
inline Validity WorkerValidity(absl::Time now) { return {now - kClockSlack, now + kWorkerLife + kClockSlack}; }
// After two thirds of what lies between the slacks.
absl::Time RenewalDue(const Validity& validity);

// Every certificate is good for the first name, so addresses may change; the coordinator's alone also for the second: nobody
// else who has a certificate of the cluster can pass for it.
inline constexpr char kPeerName[] = "dermis";
inline constexpr char kCoordinatorName[] = "coordinator.dermis";

// Writes ca.crt, ca.key, and for each of coordinator, worker, user, admin: NAME.crt, NAME.key into `directory`
// (0700, keys 0600). The role is the certificate's OU; CN is the name, here the same; SANs: localhost, 127.0.0.1, ::1,
// this host's name, and `hosts`. Keeps what is there and valid.
absl::Status MakeClusterCertificates(const std::string& directory, const std::vector<std::string>& hosts);

// NAME.crt and NAME.key of a folder, and ca.crt. Errors name the file, why, and what to do (e.g. run
// `dermis cluster start`, or check its permissions).
absl::StatusOr<Identity> LoadIdentity(const std::string& directory, const std::string& name);

// A file that only its owner reads, there whole or not at all.
absl::Status WriteSecret(const std::string& path, const std::string& text);

// What a certificate (the first in the PEM text) says of its holder.
struct Bearer {
  std::string role, name;
  // Called as its role: any number of workers may share it, and no token made it.
  bool ready_made() const { return name == role; }
  std::string serial;  // Hexadecimal, lower case, without leading zeros.
  Validity validity;
};
absl::StatusOr<Bearer> BearerOf(std::string_view certificate_pem);  // INVALID_ARGUMENT: it holds none.
absl::StatusOr<Validity> ValidityOf(const std::string& certificate_pem);

// SHA-256 of a PEM certificate as browsers show it: "AB:CD:...". INVALID_ARGUMENT.
absl::StatusOr<std::string> CertificateFingerprint(const std::string& certificate);
// SHA-256 of its public key (SubjectPublicKeyInfo, DER). INVALID_ARGUMENT.
absl::StatusOr<Digest> PublicKeyHash(std::string_view certificate_pem);

// A fresh private key, PEM.
absl::StatusOr<std::string> NewKey();
// A signing request (PKCS #10, DER) for it: the public key, signed by the private one.
absl::StatusOr<std::string> MakeSigningRequest(const std::string& key_pem);
// The hash of its public key. INVALID_ARGUMENT: it is none, or whoever made it does not hold the key, or the key is no
// P-256.
absl::StatusOr<Digest> CheckSigningRequest(std::string_view request);
// 126 random bits.
absl::StatusOr<std::string> NewSerial();

// ECDSA over SHA-256, DER.
absl::StatusOr<std::string> SignText(std::string_view key_pem, std::string_view text);
// Whether whoever holds the certificate signed the text, and the CA issued it. INVALID_ARGUMENT says what is wrong. The
// certificate's dates do not count: what was signed stays signed.
absl::Status CheckSignature(std::string_view ca_pem, std::string_view certificate_pem, std::string_view text,
                            std::string_view signature);

// Issues certificates. Thread-safe.
class CertificateAuthority {
 public:
  // ca.crt and ca.key of the folder. NOT_FOUND: there is no ca.key.
  static absl::StatusOr<std::unique_ptr<CertificateAuthority>> Load(const std::string& directory);
  ~CertificateAuthority();

  // For the key of a signing request; nothing else of the request counts. PEM.
  absl::StatusOr<std::string> Sign(std::string_view request, const Bearer& bearer) const;
  const std::string& certificate() const;  // PEM.

 private:
  struct Parts;
  explicit CertificateAuthority(std::unique_ptr<Parts> parts);
  const std::unique_ptr<Parts> parts_;
};

}  // namespace dermis

#endif  // DERMIS_COMMON_CERTIFICATES_H_
