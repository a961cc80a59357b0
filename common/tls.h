// gRPC credentials made of the cluster's certificates (certificates.h), and channels with our habits.
#ifndef DERMIS_COMMON_TLS_H_
#define DERMIS_COMMON_TLS_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/certificates.h"
#include "grpcpp/channel.h"
#include "grpcpp/security/auth_context.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"

namespace dermis {

// HOST:PORT of this machine's loopback interface: the only place where plain text may be spoken.
bool IsLoopback(std::string_view address);

std::shared_ptr<grpc::ChannelCredentials> ClientCredentials(const Identity& identity);
// Of one who has no certificate yet.
std::shared_ptr<grpc::ChannelCredentials> StrangerCredentials(const std::string& ca_certificate);
std::shared_ptr<grpc::ServerCredentials> MutualTlsServerCredentials(const Identity& identity);
// Those of the files NAME.crt and NAME.key of a folder as they are at each handshake (one second late at most).
std::shared_ptr<grpc::ServerCredentials> RenewedServerCredentials(const std::string& directory, const std::string& name);
// A caller may also show no certificate; one that it shows must be ours. Whoever uses this refuses strangers call by call
// (coordinator/services/access.h). The CA's certificate is shown to them.
std::shared_ptr<grpc::ServerCredentials> OpenTlsServerCredentials(const Identity& identity);

// A channel with our habits: keepalive 20 s / 10 s, messages up to 64 MiB. The server's certificate must be good for `name`
// (certificates.h).
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address, std::shared_ptr<grpc::ChannelCredentials> credentials,
                                           const std::string& name = kPeerName);

// Of the peer's verified certificate; UNAUTHENTICATED where there is none.
absl::StatusOr<Bearer> PeerBearer(const grpc::AuthContext& context);
absl::StatusOr<std::string> PeerRole(const grpc::AuthContext& context);
std::string PeerName(const grpc::AuthContext& context);   // CN, "" where there is none.

}  // namespace dermis

#endif  // DERMIS_COMMON_TLS_H_
