// Service Join: tokens, certificates for those who bring one, renewal, revocation. What is decided stands in trust.h.
#ifndef DERMIS_COORDINATOR_SERVICES_JOIN_SERVICE_H_
#define DERMIS_COORDINATOR_SERVICES_JOIN_SERVICE_H_

#include <atomic>
#include <functional>
#include <string>

#include "common/certificates.h"
#include "coordinator/core_thread.h"
#include "coordinator/services/access.h"
#include "coordinator/services/awaited_calls.h"
#include "dermis/v1/join.grpc.pb.h"

namespace dermis {

class JoinService : public AwaitedCalls<v1::Join> {
 public:
  struct Options {
    const CertificateAuthority* authority = nullptr;  // Null: this coordinator has no ca.key and issues nothing.
    std::string listen;                               // As it was given.
    std::function<void()> revoked;  // Called when `access` has learned of revocations: streams look again.
  };
  // All arguments outlive the server.
  JoinService(Access& access, CoreThread& core, Options options)
      : AwaitedCalls(access), access_(access), core_(core), options_(std::move(options)) {
    Await("Sign", &JoinService::Sign);
    Await("Renew", &JoinService::Renew);
    Await("CreateToken", &JoinService::CreateToken);
    Await("List", &JoinService::List);
    Await("RevokeToken", &JoinService::RevokeToken);
    Await("Revoke", &JoinService::Revoke);
  }

  grpc::ServerUnaryReactor* Sign(grpc::CallbackServerContext* context, const v1::SignRequest* request,
                                 v1::SignResponse* response) override;
  grpc::ServerUnaryReactor* Renew(grpc::CallbackServerContext* context, const v1::RenewRequest* request,
                                  v1::SignResponse* response) override;
  grpc::ServerUnaryReactor* CreateToken(grpc::CallbackServerContext* context,
                                        const v1::CreateTokenRequest* request,
                                        v1::CreateTokenResponse* response) override;
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context, const v1::ListJoinsRequest* request,
                                 v1::ListJoinsResponse* response) override;
  grpc::ServerUnaryReactor* RevokeToken(grpc::CallbackServerContext* context,
                                        const v1::RevokeTokenRequest* request,
                                        v1::RevokeResponse* response) override;
  grpc::ServerUnaryReactor* Revoke(grpc::CallbackServerContext* context, const v1::RevokeRequest* request,
                                   v1::RevokeResponse* response) override;

 private:
  // The certificate that a request asks for, not yet granted.
  absl::StatusOr<v1::CertificateIssued> Draft(const std::string& request) const;
  void Granted(const v1::CertificateIssued& issued, const std::string& request, const std::string& peer,
               v1::SignResponse* response, grpc::ServerUnaryReactor* reactor) const;
  void SayRefused(const std::string& peer, const absl::Status& why);
  grpc::ServerUnaryReactor* Revoking(
      grpc::CallbackServerContext* context, std::string_view method, v1::RevokeResponse* response,
      std::function<absl::StatusOr<v1::JoinRevoked>(const Trust& trust, const std::string& user)> decide);

  Access& access_;
  CoreThread& core_;
  const Options options_;
  std::atomic<int> strangers_{0};       // Calls of Sign that are not answered yet.
  std::atomic<uint64_t> last_said_{0};  // Second of the last line about a refusal: strangers do not fill the log.
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_JOIN_SERVICE_H_
