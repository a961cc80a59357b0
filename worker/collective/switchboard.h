// The worker's side that is dialled: takes streams of peers, checks who they are, and gives them to their gang; streams of
// a gang that this worker has not joined yet wait for it.
#ifndef DERMIS_WORKER_COLLECTIVE_SWITCHBOARD_H_
#define DERMIS_WORKER_COLLECTIVE_SWITCHBOARD_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "dermis/v1/cluster.pb.h"
#include "dermis/v1/peer.pb.h"
#include "grpcpp/generic/async_generic_service.h"
#include "worker/collective/gang.h"
#include "worker/collective/peer_link.h"

namespace dermis {

// Shared with the links, which outlive a mesh briefly. Thread-safe.
class Switchboard : public LinkHandler, public std::enable_shared_from_this<Switchboard> {
 public:
  Switchboard(absl::Duration timeout, absl::Duration hold) : timeout_(timeout), hold_(hold) {}

  grpc::ServerGenericBidiReactor* Accept(grpc::GenericCallbackServerContext* context);

  // The first frame of an incoming stream.
  void OnFrame(PeerLink& link, Frame frame) override;

  void OnWritten(PeerLink&) override {}

  void OnClosed(PeerLink& link, const std::string&) override;

  // Makes `gang` the current one; an older one ends.
  absl::Status Enter(const std::shared_ptr<Gang>& gang);

  // The gang of that generation, here now or yet to come, ends.
  void Leave(const v1::Generation& generation);

  void Watch(const std::shared_ptr<PeerLink>& link);

  // Beats, and an end for what waits or closes for too long.
  void Tend();

  // The mesh ends: all links are cut, and destroyed when this returns (or after `patience`). The server must go after
  // them: who lets go of gRPC's last callback queue joins the queue's threads, and a link's end runs on one of these.
  void Close(absl::Duration patience);

 private:
  struct Pending {
    std::shared_ptr<PeerLink> link;
    v1::PeerHello hello;
    absl::Duration since;
  };
  struct Watched {
    std::weak_ptr<PeerLink> link;
    std::weak_ptr<const void> life;
    absl::Duration closing_since;
  };

  static grpc::Status Allowed(const grpc::GenericCallbackServerContext& context);

  void AdoptOrRefuse(const std::shared_ptr<Gang>& gang, const std::shared_ptr<PeerLink>& link,
                     const v1::PeerHello& hello);

  const absl::Duration timeout_;
  const absl::Duration hold_;
  absl::Mutex mutex_;
  std::optional<v1::Generation> latest_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::Generation> left_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Gang> gang_ ABSL_GUARDED_BY(mutex_);
  std::vector<Pending> pending_ ABSL_GUARDED_BY(mutex_);   // Have said hello before we joined.
  std::vector<Watched> links_ ABSL_GUARDED_BY(mutex_);
};

class Service : public grpc::CallbackGenericService {
 public:
  explicit Service(std::shared_ptr<Switchboard> board) : board_(std::move(board)) {}
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    return board_->Accept(context);
  }

 private:
  std::shared_ptr<Switchboard> board_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_COLLECTIVE_SWITCHBOARD_H_
