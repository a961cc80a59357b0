// The audit log's calls, and what writes it: every call that changes something, with how it ended,
// and every call that is refused before it is one.
#ifndef DERMIS_COORDINATOR_SERVICES_AUDIT_SERVICE_H_
#define DERMIS_COORDINATOR_SERVICES_AUDIT_SERVICE_H_

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/support/server_interceptor.h"

#include "common/certificates.h"
#include "coordinator/audit_log.h"
#include "coordinator/services/access.h"
#include "coordinator/services/awaited_calls.h"
#include "dermis/v1/audit.grpc.pb.h"

namespace dermis {

// For the server's builder: records the calls that Changes() names. Arguments outlive the server.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> AuditCalls(
    const Access& access, AuditLog& log);

class AuditService : public AwaitedCalls<v1::Audit> {
 public:
  // identity: signs heads; without a key they stay unsigned.
  AuditService(const Access& access, AuditLog& log, Identity identity)
      : AwaitedCalls(access), access_(access), log_(log), identity_(std::move(identity)) {
    Await("Head", &AuditService::Head);
    Await("Read", &AuditService::Read);
  }

  grpc::ServerUnaryReactor* Head(grpc::CallbackServerContext* context,
                                 const v1::AuditHeadRequest* request,
                                 v1::SignedAuditHead* response) override;
  grpc::ServerUnaryReactor* Read(grpc::CallbackServerContext* context,
                                 const v1::AuditReadRequest* request,
                                 v1::AuditReadResponse* response) override;

 private:
  // Of the head. The same head is signed once: a signature is random, and reports are not.
  absl::StatusOr<std::string> SignatureOf(const AuditHead& head);

  const Access& access_;
  AuditLog& log_;
  const Identity identity_;
  absl::Mutex mutex_;
  AuditHead signed_ ABSL_GUARDED_BY(mutex_);
  std::string signature_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_AUDIT_SERVICE_H_
