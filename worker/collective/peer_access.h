// Who may call a worker: other workers of the cluster, by certificate; this user's, by socket.
#ifndef DERMIS_WORKER_COLLECTIVE_PEER_ACCESS_H_
#define DERMIS_WORKER_COLLECTIVE_PEER_ACCESS_H_

#include <set>
#include <string>

#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"

namespace dermis {

// OK, UNAUTHENTICATED (no certificate of ours, or a revoked one) or PERMISSION_DENIED (the text names the role).
grpc::Status CheckPeer(const grpc::ServerContextBase& context);

// What the coordinator said last of certificates that are good no more (serials): of this process, for all calls that begin
// from now on. Thread-safe.
void RefusePeers(std::set<std::string> serials);

}  // namespace dermis

#endif  // DERMIS_WORKER_COLLECTIVE_PEER_ACCESS_H_
