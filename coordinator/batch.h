// What the core has decided and not yet said: events that wait for their commit, and the answers
// and messages that wait for it with them. Nothing leaves before it is durable.
#ifndef DERMIS_COORDINATOR_BATCH_H_
#define DERMIS_COORDINATOR_BATCH_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/digest.h"
#include "coordinator/journal.h"
#include "coordinator/outbox.h"
#include "dermis/v1/cluster.pb.h"

namespace dermis {

// The core thread's own.
class Batch {
 public:
  // Both outlive this.
  Batch(Journal& journal, Outbox& outbox) : journal_(journal), outbox_(outbox) {}

  // The reference holds until the next Add or Commit.
  const JournalEntry& Add(JournalEntry entry);
  // The state is not what the events say (a bug): nothing may be committed any more.
  void Break(const absl::Status& status) { broken_ = status; }

  void Send(ConnectionId connection, v1::Directive directive);
  void SendCancel(ConnectionId connection, uint64_t assignment, const std::string& why);
  void SendYield(ConnectionId connection, uint64_t assignment, const std::string& why);
  void Close(ConnectionId connection, const std::string& why);
  void AfterFlush(std::function<void()> callback);  // Dropped when the commit fails.

  // One durable transaction, then callbacks, then messages. After an error every later call returns
  // it.
  absl::Status Commit();

  // A stored result, committed or not. NOT_FOUND.
  absl::StatusOr<v1::TaskResult> ReadResult(const Digest& task) const;
  uint64_t events() const { return events_; }  // Committed.

 private:
  struct Message {
    ConnectionId connection = 0;
    bool close = false;
    std::string why;
    v1::Directive directive;
  };

  Journal& journal_;
  Outbox& outbox_;
  absl::Status broken_;
  std::vector<JournalEntry> entries_;
  absl::flat_hash_map<Digest, size_t> results_;  // Task -> its entry.
  std::vector<std::function<void()>> callbacks_;
  std::vector<Message> messages_;
  uint64_t events_ = 0;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_BATCH_H_
