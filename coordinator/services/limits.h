// What bounds everybody who connects, whoever he is.
#ifndef DERMIS_COORDINATOR_SERVICES_LIMITS_H_
#define DERMIS_COORDINATOR_SERVICES_LIMITS_H_

#include "absl/time/time.h"
#include "grpcpp/server_builder.h"

namespace dermis {

constexpr int kMostMessageBytes = 16 << 20;  // Nothing that is sent here is larger.

// Sizes of messages and of all that is under way, calls of a connection, and how long a client may be silent. `handshake`: who
// has not ended it by then is cut off; enough for all workers of a large cluster that come back at once.
void SetLimits(grpc::ServerBuilder& builder, absl::Duration handshake = absl::Seconds(30));

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_LIMITS_H_
