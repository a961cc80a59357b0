// Calls that are open. A stream asks whether its caller may still go on whenever it moves; one that
// does not move (an upload that pauses, a call whose message does not come, a reader that does not
// read) is ended here.
#ifndef DERMIS_COORDINATOR_SERVICES_OPEN_STREAMS_H_
#define DERMIS_COORDINATOR_SERVICES_OPEN_STREAMS_H_

#include <functional>
#include <map>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/support/server_interceptor.h"

#include "common/clock.h"
#include "coordinator/services/access.h"

namespace dermis {

// Thread-safe. Of all streams, and so of all calls of ours (awaited_calls.h); Cluster/Attend ends
// by itself too (streams.h), where its worker reads.
class OpenStreams {
 public:
  // `patience`: an upload that brings nothing for so long is ended, and a call whose first message
  // does not come by then. `access` and `clock` outlive this.
  explicit OpenStreams(const Access& access, const Clock& clock = Clock::Real(), absl::Duration patience = absl::Seconds(60))
      : access_(access), clock_(clock), patience_(patience) {}
  // For the server's builder. This outlives the server.
  std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> Notes();
  // Ends those whose callers' certificates were revoked or have expired, with the status that says so.
  void EndRefused();
  // Ends those: DEADLINE_EXCEEDED.
  void EndStalled();

 private:
  class Stream;
  class Factory;
  struct Open {
    Access::StillGood good;
    bool upload = false;
    bool awaited = false;  // The next message, for `patience` only.
    absl::Duration moved;  // When the last one came, or it began.
  };
  // With the status that `verdict` gives, where that is none of OK.
  void End(const std::function<grpc::Status(const Open&)>& verdict);

  const Access& access_;
  const Clock& clock_;
  const absl::Duration patience_;
  absl::Mutex mutex_;
  std::map<Stream*, Open> open_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_OPEN_STREAMS_H_
