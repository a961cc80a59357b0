// Where the core's messages to workers go.
#ifndef DERMIS_COORDINATOR_OUTBOX_H_
#define DERMIS_COORDINATOR_OUTBOX_H_

#include <cstdint>
#include <string>

#include "dermis/v1/cluster.pb.h"

namespace dermis {

// One Attend stream. Given by whoever accepts streams; never used twice by one process.
using ConnectionId = uint64_t;

// Called by the core thread only, and only after the events that led here are durable. Must not
// block: an implementation queues. Connections that are gone already are ignored.
class Outbox {
 public:
  virtual ~Outbox() = default;
  virtual void Send(ConnectionId connection, const v1::Directive& directive) = 0;
  // Ends the stream after what was sent. `why` is for the log and the stream's status.
  virtual void Close(ConnectionId connection, const std::string& why) = 0;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_OUTBOX_H_
