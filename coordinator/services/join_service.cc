#include "coordinator/services/join_service.h"

#include <memory>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "common/clock.h"
#include "common/join_token.h"
#include "common/log.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

// Whoever brings no certificate keeps nobody waiting: a token is checked in microseconds.
constexpr int kMostStrangers = 64;

uint64_t NowSeconds() { return Clock::Real().UnixMillis() / 1000; }

grpc::ServerUnaryReactor* Refuse(grpc::CallbackServerContext* context, const grpc::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

}  // namespace

absl::StatusOr<v1::CertificateIssued> JoinService::Draft(const std::string& request) const {
  if (options_.authority == nullptr) {
    return absl::FailedPreconditionError(
        "this coordinator has no ca.key beside its certificates and issues none: copy worker.crt and worker.key to the "
        "worker, or start the coordinator in the folder that `dermis cluster init` made");
  }
  ASSIGN_OR_RETURN(const Digest key, CheckSigningRequest(request));
  v1::CertificateIssued issued;
  issued.set_key(key.bytes());
  v1::IssuedCertificate& certificate = *issued.mutable_certificate();
  ASSIGN_OR_RETURN(*certificate.mutable_serial(), NewSerial());
  certificate.set_issued_unix_s(NowSeconds());
  certificate.set_until_unix_s(static_cast<uint64_t>(
      absl::ToUnixSeconds(WorkerValidity(absl::FromUnixSeconds(static_cast<int64_t>(NowSeconds()))).until)));
  return issued;
}

void JoinService::Granted(const v1::CertificateIssued& issued, const std::string& request, const std::string& peer,
                          v1::SignResponse* response, grpc::ServerUnaryReactor* reactor) const {
  const v1::IssuedCertificate& certificate = issued.certificate();
  const absl::Time at = absl::FromUnixSeconds(static_cast<int64_t>(certificate.issued_unix_s()));
  absl::StatusOr<std::string> pem = options_.authority->Sign(
      request, {"worker", certificate.name(), certificate.serial(), WorkerValidity(at)});
  if (pem.ok()) {
    response->set_certificate(*std::move(pem));
    DERMIS_LOG(kInfo, "worker ", certificate.name(), issued.renewed() ? " renewed its certificate (" : " joined (token ",
               issued.renewed() ? "" : certificate.token() + ", certificate ", certificate.serial(), ", from ", peer, ")");
  }
  reactor->Finish(ToGrpc(pem.status()));
}

void JoinService::SayRefused(const std::string& peer, const absl::Status& why) {
  const uint64_t now = NowSeconds();
  if (last_said_.exchange(now) == now) return;
  DERMIS_LOG(kWarning, "a request to join from ", peer, " was refused: ", why.message());
}

grpc::ServerUnaryReactor* JoinService::Sign(grpc::CallbackServerContext* context,
                                            const v1::SignRequest* request, v1::SignResponse* response) {
  if (strangers_.fetch_add(1) >= kMostStrangers) {
    --strangers_;
    return Refuse(context, {grpc::StatusCode::UNAVAILABLE, "too many ask to join at once: ask again in a moment"});
  }
  const std::string peer = context->peer();
  const absl::Status name = CheckWorkerName(request->name());
  absl::StatusOr<v1::CertificateIssued> issued = name.ok() ? Draft(request->request()) : name;
  if (!issued.ok()) {
    --strangers_;
    SayRefused(peer, issued.status());
    return Refuse(context, ToGrpc(issued.status()));
  }
  issued->mutable_certificate()->set_name(request->name());
  issued->mutable_certificate()->set_token(request->token().substr(0, 32));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  core_.Post([=, this, issued = *std::move(issued)](Core& core) {
    core.ChangeTrust(
        [&](const Trust& trust) -> absl::StatusOr<v1::Event> {
          RETURN_IF_ERROR(trust.Admit(request->secret(), issued, NowSeconds()));
          v1::Event event;
          *event.mutable_certificate_issued() = issued;
          return event;
        },
        [=, this](const absl::Status& status) {
          --strangers_;
          if (status.ok()) {
            Granted(issued, request->request(), peer, response, reactor);
            return;
          }
          SayRefused(peer, status);
          reactor->Finish(ToGrpc(status));
        });
  });
  return reactor;
}

grpc::ServerUnaryReactor* JoinService::Renew(grpc::CallbackServerContext* context,
                                             const v1::RenewRequest* request, v1::SignResponse* response) {
  if (const grpc::Status access = access_.Check(*context, "Join/Renew"); !access.ok()) return Refuse(context, access);
  const absl::StatusOr<v1::CertificateIssued> draft = Draft(request->request());
  if (!draft.ok()) return Refuse(context, ToGrpc(draft.status()));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  core_.Post([=, this, draft = *draft, serial = access_.Who(*context).serial, peer = context->peer()](Core& core) {
    auto issued = std::make_shared<v1::CertificateIssued>();
    core.ChangeTrust(
        [&](const Trust& trust) -> absl::StatusOr<v1::Event> {
          ASSIGN_OR_RETURN(*issued, trust.Renew(serial, draft));
          v1::Event event;
          *event.mutable_certificate_issued() = *issued;
          return event;
        },
        [=, this](const absl::Status& status) {
          if (status.ok()) {
            Granted(*issued, request->request(), peer, response, reactor);
          } else {
            DERMIS_LOG(kWarning, "from ", peer, ": ", status.message());
            reactor->Finish(ToGrpc(status));
          }
        });
  });
  return reactor;
}

grpc::ServerUnaryReactor* JoinService::CreateToken(grpc::CallbackServerContext* context,
                                                   const v1::CreateTokenRequest* request,
                                                   v1::CreateTokenResponse* response) {
  if (const grpc::Status access = access_.Check(*context, "Join/CreateToken"); !access.ok()) {
    return Refuse(context, access);
  }
  if (options_.authority == nullptr) return Refuse(context, ToGrpc(Draft("").status()));
  response->set_listen(options_.listen);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  core_.Post([=, this, id = absl::BytesToHexString(RandomBytes(4)), user = access_.User(*context)](Core& core) {
    core.ChangeTrust(
        [&](const Trust& trust) -> absl::StatusOr<v1::Event> {
          v1::Event event;
          ASSIGN_OR_RETURN(*event.mutable_token_created(), trust.Create(*request, id, user, NowSeconds()));
          *response->mutable_token() = event.token_created().token();
          DERMIS_LOG(kInfo, "join token ", id, " made by ", user);
          return event;
        },
        [reactor](const absl::Status& status) { reactor->Finish(ToGrpc(status)); });
  });
  return reactor;
}

grpc::ServerUnaryReactor* JoinService::List(grpc::CallbackServerContext* context, const v1::ListJoinsRequest*,
                                            v1::ListJoinsResponse* response) {
  if (const grpc::Status access = access_.Check(*context, "Join/List"); !access.ok()) return Refuse(context, access);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  core_.Post([=](Core& core) {
    core.ChangeTrust(
        [&](const Trust& trust) -> absl::StatusOr<v1::Event> {
          *response = trust.View();
          return v1::Event();
        },
        [reactor](const absl::Status& status) { reactor->Finish(ToGrpc(status)); });
  });
  return reactor;
}

grpc::ServerUnaryReactor* JoinService::Revoking(
    grpc::CallbackServerContext* context, std::string_view method, v1::RevokeResponse* response,
    std::function<absl::StatusOr<v1::JoinRevoked>(const Trust& trust, const std::string& user)> decide) {
  if (const grpc::Status access = access_.Check(*context, method); !access.ok()) return Refuse(context, access);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  core_.Post([=, this, who = access_.Who(*context)](Core& core) {
    core.ChangeTrust(
        [&](const Trust& trust) -> absl::StatusOr<v1::Event> {
          ASSIGN_OR_RETURN(const v1::JoinRevoked revoked, decide(trust, who.name));
          for (const std::string& serial : revoked.serials()) {
            if (serial != who.serial) continue;
            return absl::FailedPreconditionError("this is the certificate that asks: nobody locks himself out");
          }
          *response->mutable_tokens() = revoked.tokens();
          *response->mutable_serials() = revoked.serials();
          v1::Event event;
          if (revoked.tokens_size() + revoked.serials_size() > 0) *event.mutable_join_revoked() = revoked;
          return event;
        },
        [=, this](const absl::Status& status) {
          for (const std::string& serial : response->serials()) access_.Revoke(serial);
          if (status.ok()) {
            DERMIS_LOG(kInfo, who.name, " revoked ", response->tokens_size(), " tokens and ", response->serials_size(),
                       " certificates");
            if (options_.revoked != nullptr) options_.revoked();
          }
          reactor->Finish(ToGrpc(status));
        });
  });
  return reactor;
}

grpc::ServerUnaryReactor* JoinService::RevokeToken(grpc::CallbackServerContext* context,
                                                   const v1::RevokeTokenRequest* request,
                                                   v1::RevokeResponse* response) {
  return Revoking(context, "Join/RevokeToken", response, [request](const Trust& trust, const std::string& user) {
    return trust.RevokeToken(request->token(), user);
  });
}

grpc::ServerUnaryReactor* JoinService::Revoke(grpc::CallbackServerContext* context,
                                              const v1::RevokeRequest* request, v1::RevokeResponse* response) {
  return Revoking(context, "Join/Revoke", response, [request](const Trust& trust, const std::string& user) {
    return trust.Revoke(request->certificate(), user);
  });
}

}  // namespace dermis
