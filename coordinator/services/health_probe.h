// Asks a coordinator for its health as load balancers do (grpc.health.v1), but with a certificate,
// which the probes of Kubernetes cannot show.
#ifndef DERMIS_COORDINATOR_SERVICES_HEALTH_PROBE_H_
#define DERMIS_COORDINATOR_SERVICES_HEALTH_PROBE_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/security/credentials.h"

namespace dermis {

// OK where it serves: its journal has been replayed. UNAVAILABLE where it does not, or does not
// answer within `patience`.
absl::Status ProbeHealth(const std::string& address,
                         std::shared_ptr<grpc::ChannelCredentials> credentials,
                         absl::Duration patience);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_HEALTH_PROBE_H_
