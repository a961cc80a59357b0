// A worker's conversation with the coordinator: one Attend stream, made again whenever it breaks, on which
// both sides say what they believe. Work goes on while the coordinator is away.
#ifndef DERMIS_WORKER_SESSION_H_
#define DERMIS_WORKER_SESSION_H_

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/digest.h"
#include "dermis/v1/cluster.grpc.pb.h"
#include "worker/attempts.h"

namespace dermis {

class Session {
 public:
  struct Options {
    v1::Register hello;                                  // All but `running`.
    absl::Duration beat = absl::Seconds(1);
    absl::Duration first_backoff = absl::Milliseconds(100);
    absl::Duration last_backoff = absl::Seconds(1);
    // Waits a bounded time for a connection, false where there is none; may be empty. (A channel of gRPC gets
    // on with its handshake only while somebody waits for it.)
    std::function<bool()> connect = nullptr;
    // Called when work has ignored its cancel for so long: a thread hangs, and only a new process helps.
    absl::Duration ignored_cancel = absl::Seconds(15);
    std::function<void(const std::string& why)> give_up = nullptr;
    // Certificates (serials) that are good no more: all, each time.
    std::function<void(std::set<std::string> serials)> revoked = nullptr;
    // Blobs of deleted studies; may be empty.
    std::function<void(const std::set<Digest>& blobs)> forget = nullptr;
  };
  // `attempts` outlives the session.
  Session(std::shared_ptr<v1::Cluster::StubInterface> stub, Attempts* attempts, Options options);
  ~Session();

  // Talks until Stop: then OK. FAILED_PRECONDITION with the coordinator's words when it refuses this worker;
  // PERMISSION_DENIED / UNAUTHENTICATED when its certificate is not accepted. Everything else is tried again.
  absl::Status Run();
  void Stop();  // From any thread, at most once in effect.

  // Goes on over another connection (the certificate was renewed), from any other thread, one at a time. A stream that is
  // open is left only when the coordinator has welcomed the worker on the new one: it never takes the worker for lost.
  // Not `now`: the next stream takes it.
  void MoveTo(std::shared_ptr<v1::Cluster::StubInterface> stub, bool now = true);

 private:
  struct Talk;  // One stream.
  // Registers and is welcomed.
  absl::StatusOr<std::unique_ptr<Talk>> Open();
  // False: the session has moved to another connection since it was opened.
  bool Begin(Talk& talk);
  absl::Status Converse(Talk& talk);
  std::unique_ptr<Talk> TakeNext();

  Attempts* const attempts_;
  const Options options_;
  std::atomic<bool> stop_{false};
  absl::Mutex mutex_;
  std::shared_ptr<v1::Cluster::StubInterface> stub_ ABSL_GUARDED_BY(mutex_);
  std::set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mutex_);  // Of the streams that are open.
  Talk* now_ ABSL_GUARDED_BY(mutex_) = nullptr;                      // The one that is conversed on.
  std::unique_ptr<Talk> next_ ABSL_GUARDED_BY(mutex_);               // To be conversed on when that one has ended.
  bool moving_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_SESSION_H_
