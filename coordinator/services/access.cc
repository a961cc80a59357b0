#include "coordinator/services/access.h"

#include "absl/strings/str_cat.h"
#include "common/tls.h"

namespace dermis {
namespace {

struct Rule {
  std::string_view method;
  bool user, worker;
};

constexpr Rule kRules[] = {
    {"Studies/Submit", true, false},
    {"Studies/Watch", true, false},
    {"Studies/List", true, false},
    {"Studies/Cancel", true, false},
    {"Studies/Retry", true, false},
    {"Studies/Results", true, false},
    {"Studies/ClusterStatus", true, false},
    {"Studies/Adjust", true, false},
    {"Studies/Delete", true, false},
    {"Studies/History", true, false},
    {"Studies/Quarantine", true, false},
    {"Studies/Release", true, false},
    {"Cluster/Attend", false, true},
    {"Cluster/CompleteTasks", false, true},
    {"Cluster/FetchResults", false, true},
    {"Blobs/Has", true, true},
    {"Blobs/Put", true, true},
    {"Blobs/Get", true, true},
    {"Blobs/Holding", false, true},
};

}  // namespace

bool Allowed(std::string_view role, std::string_view method) {
  for (const Rule& rule : kRules) {
    if (rule.method == method) {
      return (role == "user" && rule.user) || (role == "worker" && rule.worker);
    }
  }
  return false;
}

grpc::Status Access::Check(const grpc::ServerContextBase& context, std::string_view method) const {
  if (insecure_) return grpc::Status::OK;
  const auto peer = context.auth_context();
  if (peer == nullptr) return {grpc::StatusCode::UNAUTHENTICATED, "no certificate was shown"};
  const absl::StatusOr<std::string> role = PeerRole(*peer);
  if (!role.ok()) return ToGrpc(role.status());
  if (!Allowed(*role, method)) {
    return {grpc::StatusCode::PERMISSION_DENIED,
            absl::StrCat("a certificate of role '", *role, "' may not call ", std::string(method))};
  }
  return grpc::Status::OK;
}

std::string Access::User(const grpc::ServerContextBase& context) const {
  if (insecure_) return "local";
  const auto peer = context.auth_context();
  return peer == nullptr ? "" : PeerName(*peer);
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.raw_code()), std::string(status.message())};
}

}  // namespace dermis
