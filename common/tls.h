// The cluster's private CA and its certificates (EC P-256), and gRPC credentials made of them.
#ifndef DERMIS_COMMON_TLS_H_
#define DERMIS_COMMON_TLS_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"

namespace dermis {

// HOST:PORT of this machine's loopback interface: the only place where plain text may be spoken.
bool IsLoopback(std::string_view address);

struct Identity {             // PEM texts.
  std::string ca_certificate;
  std::string certificate;
  std::string key;
};

// Writes ca.crt, ca.key, and for each of coordinator, worker, user: NAME.crt, NAME.key into `directory`
// (0700, keys 0600). The role is the certificate's OU; CN is the name; SANs: localhost, 127.0.0.1, ::1,
// this host's name, and `hosts`. Keeps what is there and valid. All peers check names against "dermis"
// (every certificate carries DNS:dermis), so addresses may change.
absl::Status MakeClusterCertificates(const std::string& directory, const std::vector<std::string>& hosts);

// role = "coordinator" | "worker" | "user". Errors name the file, why, and what to do (e.g. run
// `dermis cluster start`, or check its permissions).
absl::StatusOr<Identity> LoadIdentity(const std::string& directory, const std::string& role);

struct Validity {
  absl::Time from, until;
};
// Of the first certificate in the PEM text. INVALID_ARGUMENT: it holds none.
absl::StatusOr<Validity> ValidityOf(const std::string& certificate_pem);

// SHA-256 of a PEM certificate as browsers show it: "AB:CD:...". INVALID_ARGUMENT.
absl::StatusOr<std::string> CertificateFingerprint(const std::string& certificate);

std::shared_ptr<grpc::ChannelCredentials> ClientCredentials(const Identity& identity);
std::shared_ptr<grpc::ServerCredentials> MutualTlsServerCredentials(const Identity& identity);

// A channel with our habits: keepalive 20 s / 10 s, name "dermis" expected, messages up to 64 MiB.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address,
                                           std::shared_ptr<grpc::ChannelCredentials> credentials);

// The role (OU) in the peer's verified certificate; UNAUTHENTICATED where there is none.
absl::StatusOr<std::string> PeerRole(const grpc::AuthContext& context);
std::string PeerName(const grpc::AuthContext& context);   // CN, "" where there is none.

}  // namespace dermis

#endif  // DERMIS_COMMON_TLS_H_
