// Who may call what: roles x RPC, default deny.
#ifndef DERMIS_COORDINATOR_SERVICES_ACCESS_H_
#define DERMIS_COORDINATOR_SERVICES_ACCESS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"

namespace dermis {

// role: the OU of a verified certificate. method: "Cluster/Attend". What the table does not name is denied.
bool Allowed(std::string_view role, std::string_view method);

// Thread-safe.
class Access {
 public:
  // `insecure`: plain text on loopback; there are no certificates and every role is granted.
  explicit Access(bool insecure) : insecure_(insecure) {}
  // OK, UNAUTHENTICATED (no certificate of ours) or PERMISSION_DENIED (the text names role and method).
  grpc::Status Check(const grpc::ServerContextBase& context, std::string_view method) const;
  std::string User(const grpc::ServerContextBase& context) const;  // Certificate's name, for the journal.

 private:
  const bool insecure_;
};

// The codes are the same numbers.
grpc::Status ToGrpc(const absl::Status& status);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_ACCESS_H_
