#include "worker/collective/peer_access.h"

#include <string>

#include "absl/strings/str_cat.h"

#include "common/tls.h"

namespace dermis {

grpc::Status CheckPeer(const grpc::ServerContextBase& context) {
  const auto auth = context.auth_context();
  if (auth == nullptr) return {grpc::StatusCode::UNAUTHENTICATED, "no credentials"};
  const auto kind = auth->FindPropertyValues("transport_security_type");
  // The socket lies in a 0700 directory of ours: who can connect is this user.
  if (kind.size() == 1 && kind[0] == "local") return grpc::Status::OK;
  const absl::StatusOr<std::string> role = PeerRole(*auth);
  if (!role.ok()) {
    return {grpc::StatusCode::UNAUTHENTICATED, std::string(role.status().message())};
  }
  if (*role != "worker") {
    return {grpc::StatusCode::PERMISSION_DENIED, absl::StrCat("role ", *role, " is not a worker")};
  }
  return grpc::Status::OK;
}

}  // namespace dermis
