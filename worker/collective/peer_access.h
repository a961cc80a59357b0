// Who may call a worker: other workers of the cluster, by certificate; this user's, by socket.
#ifndef DERMIS_WORKER_COLLECTIVE_PEER_ACCESS_H_
#define DERMIS_WORKER_COLLECTIVE_PEER_ACCESS_H_

#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"

namespace dermis {

// OK, UNAUTHENTICATED (no certificate of ours) or PERMISSION_DENIED (the text names the role).
grpc::Status CheckPeer(const grpc::ServerContextBase& context);

}  // namespace dermis

#endif  // DERMIS_WORKER_COLLECTIVE_PEER_ACCESS_H_
