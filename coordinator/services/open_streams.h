// Streams that are open. Each asks whether its caller may still go on whenever it moves; one that does not move (an upload that
// pauses, a reader that does not read) is ended here.
#ifndef DERMIS_COORDINATOR_SERVICES_OPEN_STREAMS_H_
#define DERMIS_COORDINATOR_SERVICES_OPEN_STREAMS_H_

#include <map>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/support/server_interceptor.h"

#include "coordinator/services/access.h"

namespace dermis {

// Thread-safe. Of all streams but Cluster/Attend, which ends its own (streams.h).
class OpenStreams {
 public:
  explicit OpenStreams(const Access& access) : access_(access) {}  // `access` outlives this.
  // For the server's builder. This outlives the server.
  std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> Notes();
  // Ends those whose callers' certificates were revoked or have expired, with the status that says so.
  void EndRefused();

 private:
  class Stream;
  class Factory;

  const Access& access_;
  absl::Mutex mutex_;
  std::map<Stream*, Access::StillGood> open_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_OPEN_STREAMS_H_
