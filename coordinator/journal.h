// The durable log of events: the coordinator's only truth. Every row holds the hash of the row
// before it (hash(row) = SHA-256(hash(row - 1) || event bytes), hash(0) = 32 zero bytes), so that a
// changed or lost row is noticed on replay.
#ifndef DERMIS_COORDINATOR_JOURNAL_H_
#define DERMIS_COORDINATOR_JOURNAL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/digest.h"
#include "dermis/v1/journal.pb.h"

namespace dermis {

// An event that waits to be written. `task` is the address of a TaskCompleted (else none): the
// journal finds results by it.
struct JournalEntry {
  v1::Event event;
  Digest task;
};

class Journal {
 public:
  virtual ~Journal() = default;
  // Calls `apply` for every row, in order. Errors: DATA_LOSS naming the row whose hash or bytes are
  // wrong; the first error of `apply`. Call it once, before Append. ReadResult may be called
  // inside.
  virtual absl::Status Replay(
      const std::function<absl::Status(uint64_t row, const JournalEntry& entry)>& apply) = 0;
  // One durable transaction: all entries or none. After an error nothing may be appended any more:
  // the process ends and replays.
  virtual absl::Status Append(absl::Span<const JournalEntry> entries) = 0;
  // The stored result of a task (task digest, payload or its blob); the newest where bytes were
  // lost and computed again. NOT_FOUND. Thread-safe.
  virtual absl::StatusOr<v1::TaskResult> ReadResult(const Digest& task) const = 0;
  // Committed rows behind `after`, ascending, at most `most`. Thread-safe.
  struct Row {
    uint64_t row = 0;
    JournalEntry entry;
  };
  virtual absl::StatusOr<std::vector<Row>> Read(uint64_t after, size_t most) const = 0;
};

// SQLite (WAL, synchronous=FULL) in `directory`/journal.sqlite, guarded by a lock on
// `directory`/coordinator.lock. FAILED_PRECONDITION when another coordinator holds the store. Makes
// the directory (0700). Append and Replay: one thread at a time.
absl::StatusOr<std::unique_ptr<Journal>> OpenSqliteJournal(const std::string& directory);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_JOURNAL_H_
