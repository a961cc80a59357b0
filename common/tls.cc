#include "common/tls.h"

#include <utility>

#include "common/status_macros.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_credentials_options.h"

namespace dermis {
namespace {

// What the coordinator takes (coordinator/main.cc). What it sends may be larger: the results of a large study.
constexpr int kMaxSentBytes = 16 << 20;

}  // namespace

bool IsLoopback(std::string_view address) {
  return address.starts_with("127.") || address.starts_with("localhost:") || address.starts_with("[::1]:");
}

std::shared_ptr<grpc::ChannelCredentials> ClientCredentials(const Identity& identity) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = identity.ca_certificate;
  options.pem_private_key = identity.key;
  options.pem_cert_chain = identity.certificate;
  return grpc::SslCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> StrangerCredentials(const std::string& ca_certificate) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ca_certificate;
  return grpc::SslCredentials(options);
}

std::shared_ptr<grpc::ServerCredentials> OpenTlsServerCredentials(const Identity& identity) {
  grpc::SslServerCredentialsOptions options(GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = identity.ca_certificate;
  options.pem_key_cert_pairs.push_back({identity.key, identity.certificate + identity.ca_certificate});
  return grpc::SslServerCredentials(options);
}

std::shared_ptr<grpc::ServerCredentials> RenewedServerCredentials(const std::string& directory, const std::string& name) {
  const std::string file = directory + "/" + name;
  constexpr unsigned kLookSeconds = 1;
  grpc::experimental::TlsServerCredentialsOptions options(
      std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(file + ".key", file + ".crt",
                                                                           directory + "/ca.crt", kLookSeconds));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  return grpc::experimental::TlsServerCredentials(options);
}

std::shared_ptr<grpc::ServerCredentials> MutualTlsServerCredentials(const Identity& identity) {
  grpc::SslServerCredentialsOptions options(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = identity.ca_certificate;
  options.pem_key_cert_pairs.push_back({identity.key, identity.certificate});
  return grpc::SslServerCredentials(options);
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address, std::shared_ptr<grpc::ChannelCredentials> credentials,
                                           const std::string& name) {
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride(name);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // A restarted coordinator is found again within a second, not after gRPC's default of up to two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // This one is also how long an attempt may take. A client that waits between calls polls rarely, so a
  // TLS handshake needs several of its calls to get through.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
  // Channels of one process to one address must not share a connection: a dead one would be dead for all.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(kMaxSentBytes);
  return grpc::CreateCustomChannel(address, std::move(credentials), arguments);
}

absl::StatusOr<Bearer> PeerBearer(const grpc::AuthContext& context) {
  const auto pem = context.FindPropertyValues("x509_pem_cert");
  if (pem.empty() || !context.IsPeerAuthenticated()) {
    return absl::UnauthenticatedError("the caller showed no valid certificate");
  }
  return BearerOf({pem[0].data(), pem[0].size()});
}

absl::StatusOr<std::string> PeerRole(const grpc::AuthContext& context) {
  ASSIGN_OR_RETURN(const Bearer bearer, PeerBearer(context));
  return bearer.role;
}

std::string PeerName(const grpc::AuthContext& context) {
  const absl::StatusOr<Bearer> bearer = PeerBearer(context);
  return bearer.ok() ? bearer->name : "";
}

}  // namespace dermis
