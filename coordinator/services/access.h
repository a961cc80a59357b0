// Who may call what: roles x RPC, default deny; and who no longer may.
#ifndef DERMIS_COORDINATOR_SERVICES_ACCESS_H_
#define DERMIS_COORDINATOR_SERVICES_ACCESS_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"

#include "common/certificates.h"
#include "common/clock.h"

namespace dermis {

// role: the OU of a verified certificate. method: "Cluster/Attend". What the table does not name is denied.
bool Allowed(std::string_view role, std::string_view method);
// The one method that needs no certificate.
bool NeedsNoCertificate(std::string_view method);
// Whether it does something that others want to know of (audit_service.h).
bool Changes(std::string_view method);
// "Cluster/Attend" of "/dermis.v1.Cluster/Attend"; empty: it is not of dermis.
std::string_view MethodOf(std::string_view path);

// For the audit log.
struct AuditCaller {
  std::string name, role;  // Without a certificate: its address where that is known, and no role.
};

// Thread-safe.
class Access {
 public:
  // `insecure`: plain text on loopback; there are no certificates and every role is granted.
  explicit Access(bool insecure, const Clock& clock = Clock::Real()) : insecure_(insecure), clock_(clock) {}
  // OK; UNAUTHENTICATED: no certificate of ours, one that has expired since the connection was made, or a revoked one;
  // PERMISSION_DENIED: the text names role and method.
  grpc::Status Check(const grpc::ServerContextBase& context, std::string_view method) const;
  // The same for a path as it comes, "/dermis.v1.Cluster/Attend"; what is not of dermis (health) any role may call.
  grpc::Status CheckPath(const grpc::AuthContext& peer, std::string_view path) const;
  // For streams, which outlive the look at their beginning: says whether the caller may still go on.
  using StillGood = std::function<grpc::Status()>;
  StillGood WhileOpen(const grpc::ServerContextBase& context) const;

  Bearer Who(const grpc::ServerContextBase& context) const;         // Empty where there is no certificate.
  std::string User(const grpc::ServerContextBase& context) const;  // Certificate's name, for the journal.

  AuditCaller Caller(const grpc::ServerContextBase& context) const;

  // From now on.
  void Revoke(const std::string& serial);
  // Hears of each call that CheckPath refuses, and of Tell. Before the server starts.
  using Observer = std::function<void(const AuditCaller& caller, std::string_view method, const grpc::Status& why)>;
  void OnRefusal(Observer observer) { refused_ = std::move(observer); }
  // A service refuses what the table allows: the observer hears of it.
  void Tell(const AuditCaller& caller, std::string_view method, const grpc::Status& why) const {
    if (refused_ != nullptr) refused_(caller, method, why);
  }

 private:
  absl::StatusOr<Bearer> BearerOfPeer(const grpc::AuthContext& peer) const;
  grpc::Status CheckBearer(const Bearer& bearer) const;
  grpc::Status CheckPeer(const grpc::AuthContext* peer, std::string_view method) const;

  const bool insecure_;
  const Clock& clock_;
  Observer refused_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_set<std::string> revoked_ ABSL_GUARDED_BY(mutex_);
  // Certificates that were read, by their text: each call of a connection shows the same.
  mutable absl::flat_hash_map<std::string, Bearer> known_ ABSL_GUARDED_BY(mutex_);
};

// Certificates are asked for and verified where they are shown; every call passes CheckPath before its first message is
// read. `access` outlives the server.
std::shared_ptr<grpc::ServerCredentials> GuardedServerCredentials(const Identity& identity, const Access& access);

// The codes are the same numbers.
grpc::Status ToGrpc(const absl::Status& status);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_ACCESS_H_
