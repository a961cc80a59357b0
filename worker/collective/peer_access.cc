#include "worker/collective/peer_access.h"

#include <string>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "common/tls.h"

namespace dermis {
namespace {

ABSL_CONST_INIT absl::Mutex mutex(absl::kConstInit);

std::set<std::string>& Revoked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
  static auto* const revoked = new std::set<std::string>;
  return *revoked;
}

}  // namespace

grpc::Status CheckPeer(const grpc::ServerContextBase& context) {
  const auto auth = context.auth_context();
  if (auth == nullptr) return {grpc::StatusCode::UNAUTHENTICATED, "no credentials"};
  const auto kind = auth->FindPropertyValues("transport_security_type");
  // The socket lies in a 0700 directory of ours: who can connect is this user.
  if (kind.size() == 1 && kind[0] == "local") return grpc::Status::OK;
  const absl::StatusOr<Bearer> bearer = PeerBearer(*auth);
  if (!bearer.ok()) {
    return {grpc::StatusCode::UNAUTHENTICATED, std::string(bearer.status().message())};
  }
  if (bearer->role != "worker") {
    return {grpc::StatusCode::PERMISSION_DENIED, absl::StrCat("role ", bearer->role, " is not a worker")};
  }
  absl::MutexLock lock(&mutex);
  if (Revoked().contains(bearer->serial)) {
    return {grpc::StatusCode::UNAUTHENTICATED,
            absl::StrCat("the certificate of ", bearer->name, " (", bearer->serial, ") was revoked")};
  }
  return grpc::Status::OK;
}

void RefusePeers(std::set<std::string> serials) {
  absl::MutexLock lock(&mutex);
  Revoked() = std::move(serials);
}

}  // namespace dermis
