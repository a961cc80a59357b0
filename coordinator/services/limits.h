// What bounds everybody who connects, whoever he is.
#ifndef DERMIS_COORDINATOR_SERVICES_LIMITS_H_
#define DERMIS_COORDINATOR_SERVICES_LIMITS_H_

#include "grpcpp/server_builder.h"

namespace dermis {

// Sizes of messages and of all that is under way, calls of a connection, and how long a client may be silent.
void SetLimits(grpc::ServerBuilder& builder);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_LIMITS_H_
