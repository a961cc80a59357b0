// How a worker comes to its certificate: by a join token, and later by the certificate itself. The key is made here and
// never leaves the folder.
#ifndef DERMIS_WORKER_JOIN_H_
#define DERMIS_WORKER_JOIN_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"

#include "common/certificates.h"
#include "common/digest.h"
#include "common/join_token.h"

namespace dermis {

// The certificate (PEM) of the CA whose key has this hash, as the server at HOST:PORT shows it with a certificate that the CA
// has signed. Nothing is sent to the server. UNAUTHENTICATED: it shows another CA. UNAVAILABLE: there is no TLS server.
absl::StatusOr<std::string> FetchCa(const std::string& address, const Digest& ca_key, absl::Duration patience);

// Makes worker.key in `certs` (0700; files 0600) and gets worker.crt and ca.crt; notes the coordinator's address in the file
// `coordinator`. One try; a worker that tries again is the same one, and takes no further use of its token. UNAVAILABLE,
// DEADLINE_EXCEEDED: try again. Else the token is not good, with the coordinator's words.
absl::Status Join(const JoinToken& token, const std::string& certs, const std::string& name);

// Sees to it that `certs` holds a certificate for this worker: one that is there and has not run out, or else by the token of
// a file (`join`; "-" is standard input). Waits for the coordinator as long as `wait` (between two tries) says true; CANCELLED
// when it says false. FAILED_PRECONDITION: the certificate there is another worker's.
absl::Status EnsureJoined(const std::string& join, const std::string& certs, const std::string& name,
                          const std::function<bool()>& wait);

// Removes a certificate that came by a token and is not good any more; a ready-made one stays.
void ForgetCertificate(const std::string& certs);

// The coordinator's address that the folder notes; empty: none.
std::string NotedCoordinator(const std::string& certs);

// One try over `channel`, which shows the certificate that is renewed. The key stays; worker.crt is replaced.
absl::Status RenewCertificate(const std::shared_ptr<grpc::Channel>& channel, const std::string& certs);

// Renews the certificate in `certs` when it is due (common/certificates.h), and tries again every `pause` where that fails;
// `renewed` gets the new one. For a thread of its own; does not return. A ready-made certificate, which is called as its role,
// is never due: then it returns.
struct RenewalOptions {
  std::string certs;
  std::function<std::shared_ptr<grpc::Channel>()> channel;
  std::function<void(const Identity& identity)> renewed;
  absl::Duration pause = absl::Minutes(1);
};
void KeepCertificateFresh(const RenewalOptions& options);

}  // namespace dermis

#endif  // DERMIS_WORKER_JOIN_H_
