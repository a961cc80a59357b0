// Who may join the cluster, who has, and who is out again: the durable part (State holds it) and the decisions. Whatever
// changes it is an event of the journal; decisions give the event, Apply makes it so, live and in replay.
#ifndef DERMIS_COORDINATOR_TRUST_H_
#define DERMIS_COORDINATOR_TRUST_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/digest.h"
#include "dermis/v1/join.pb.h"

namespace dermis {

class Trust {
 public:
  void Apply(const v1::TokenCreated& created);
  void Apply(const v1::CertificateIssued& issued);
  void Apply(const v1::JoinRevoked& revoked);

  // --- Decisions. All times are the coordinator's: other machines' clocks do not matter.
  // INVALID_ARGUMENT: it says neither how long nor whose group, or more than its bounds. ALREADY_EXISTS: the number.
  absl::StatusOr<v1::TokenCreated> Create(const v1::CreateTokenRequest& request, const std::string& id,
                                          const std::string& user, uint64_t unix_s) const;
  // `issued` is the certificate that is to be. UNAUTHENTICATED: a wrong secret or number, which look alike. PERMISSION_DENIED
  // (to those who know the secret): expired, used up, revoked. A key that this token has let in already takes no further use.
  absl::Status Admit(std::string_view secret, const v1::CertificateIssued& issued, uint64_t unix_s) const;
  // PERMISSION_DENIED: the certificate that asks (its serial) was not issued by a token, or is revoked. Gives the event, with
  // its name and token.
  absl::StatusOr<v1::CertificateIssued> Renew(const std::string& serial, v1::CertificateIssued issued) const;
  // Number or group, and all that it issued. NOT_FOUND.
  absl::StatusOr<v1::JoinRevoked> RevokeToken(const std::string& token, const std::string& user) const;
  // A name: all certificates that it has from tokens. A serial: that one, known here or not. NOT_FOUND, INVALID_ARGUMENT.
  absl::StatusOr<v1::JoinRevoked> Revoke(const std::string& certificate, const std::string& user) const;

  const std::set<std::string>& revoked() const { return revoked_; }  // Serials.
  // How the worker of this name came in, as far as is known: by its newest certificate, and the token's group, or its number where
  // it has none. None: it has no certificate of a token that holds.
  struct Joined {
    std::string token;
    uint64_t issued_unix_s = 0;  // Of the certificate: renewed ones are newer than the joining.
  };
  std::optional<Joined> JoinedAs(const std::string& name) const;
  v1::ListJoinsResponse View() const;
  std::string Dump() const;

 private:
  struct Token {
    v1::JoinToken token;
    Digest secret_hash;
  };
  struct Certificate {
    v1::IssuedCertificate certificate;
    Digest key;
  };
  std::map<std::string, Token> tokens_;              // By number.
  std::map<std::string, Certificate> certificates_;  // By serial. Of a name, those that have not run out.
  std::map<std::string, std::set<std::string>> names_;  // Name -> serials.
  std::set<std::string> revoked_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_TRUST_H_
