// The gRPC mesh between CPU workers: slices of the vector are exchanged all to all, summed by their owner in
// tree order, then gathered by all. Unix socket on one host (in a 0700 directory of this user, which Start
// checks: nobody else can connect), where long vectors go by shared memory of the same user (arena.h); mTLS
// between hosts (only certificates of the role worker).
#ifndef DERMIS_WORKER_COLLECTIVE_MESH_H_
#define DERMIS_WORKER_COLLECTIVE_MESH_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "grpcpp/impl/service_type.h"

#include "common/tls.h"
#include "dermis/v1/blobs.pb.h"
#include "dermis/v1/cluster.pb.h"
#include "worker/collective/collective.h"

namespace dermis {

// One per worker process: serves Peer and makes the collectives of this worker's gangs. Thread-safe.
class PeerMesh {
 public:
  struct Options {
    Identity identity;                 // mTLS of the TCP port; empty = no TCP (one host, sockets only).
    // Not empty: a folder whose worker.crt and worker.key take the identity's place, as they are at each handshake: they
    // are renewed while gangs run.
    std::string certs;
    std::string listen = "0.0.0.0:0";  // TCP.
    std::string advertise_host;        // Host part of address().
    std::string socket_directory;      // 0700; "" = no Unix socket.
    std::string host;                  // Peers of this host use the socket.
    grpc::Service* service = nullptr;  // Served on the same ports; checks its callers
                                       // (peer_access.h). Outlives the mesh.
    absl::Duration timeout = absl::Seconds(10);  // A rank that sends nothing for so long while waited for is lost.
  };
  static absl::StatusOr<std::unique_ptr<PeerMesh>> Start(Options options);
  virtual ~PeerMesh() = default;
  virtual std::string address() const = 0;       // host:port
  virtual std::string socket_path() const = 0;   // "" = none

  // To another worker's ports: by its socket where it is of this host, else by its address.
  virtual absl::StatusOr<std::shared_ptr<grpc::Channel>> ChannelTo(
      const v1::BlobPeer& peer) const = 0;

  // Connects to all other ranks of the seat's roster and waits until they have (bounded by `patience`).
  // Errors name rank, worker and cause. Ranks may join at different moments: streams of a generation that
  // this worker has not joined yet wait for it (kJoinPatience); those of an older one are refused, and so is
  // an older seat. A gang of an older generation that is still alive here is aborted. The mesh outlives
  // failed gangs and, in time, its collectives.
  virtual absl::StatusOr<std::unique_ptr<Collective>> Join(const v1::GangSeat& seat,
                                                           absl::Duration patience) = 0;

  // Ends this worker's gang of that generation, from any thread: a Join of it that waits, or comes later, is ABORTED.
  virtual void Leave(const v1::Generation& generation) = 0;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_COLLECTIVE_MESH_H_
