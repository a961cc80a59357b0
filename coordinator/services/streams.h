// Attend streams: one reader, one bounded outgoing queue and one writer each.
#ifndef DERMIS_COORDINATOR_SERVICES_STREAMS_H_
#define DERMIS_COORDINATOR_SERVICES_STREAMS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/core_thread.h"
#include "coordinator/outbox.h"
#include "coordinator/services/access.h"
#include "dermis/v1/cluster.grpc.pb.h"

namespace dermis {

// Thread-safe. The core sends through it; the Cluster service makes the reactors.
class Streams : public Outbox {
 public:
  // A worker that does not take its directives is cut off when so many wait.
  static constexpr size_t kQueue = 4096;

  Streams() = default;
  void SetCore(CoreThread* core);  // Before the server starts. Must outlive all streams.

  void Send(ConnectionId connection, const v1::Directive& directive) override;
  void Close(ConnectionId connection, const std::string& why) override;
  // Ends all streams, and every later one at once: the server shuts down.
  void CloseAll(const std::string& why);

  // Ends the streams of callers that may not go on any more.
  void CheckAll();

  using Refused = std::function<void(const grpc::Status&)>;
  // Owned by itself until its stream is done. `worker`: the only name under which its caller may
  // register; empty: any. `good`: whether the caller may still go on; asked at each message.
  // `refused` hears of another name, and of a stream that ends before it has said one.
  grpc::ServerBidiReactor<v1::WorkerMessage, v1::Directive>* NewStream(std::string worker, Access::StillGood good,
                                                                           Refused refused);

 private:
  class Stream;
  void Remove(ConnectionId connection);

  CoreThread* core_ = nullptr;
  absl::Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  ConnectionId last_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<ConnectionId, Stream*> streams_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_STREAMS_H_
