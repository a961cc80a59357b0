// The durable state: what the journal's events add up to. Apply is its only mutator, live and in
// replay.
#ifndef DERMIS_COORDINATOR_STATE_H_
#define DERMIS_COORDINATOR_STATE_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"

#include "common/digest.h"
#include "coordinator/journal.h"
#include "coordinator/trust.h"
#include "dermis/v1/spec.pb.h"

namespace dermis {

struct StudyRecord {
  std::string id;
  v1::StudySpec spec;  // Resolved.
  Digest image_set;
  std::string numerics_class;  // Empty: not pinned yet.
  std::string user;
  uint64_t submitted_unix_ms = 0;
  uint64_t order = 0;  // Of first submission.
  bool cancelled = false;
  uint64_t row = 0;  // Of first submission.
  bool paused = false;
  std::string paused_why;
  double priority = 1;
  double max_hours = 0;  // Worker-hours; 0: no limit.
};

// How often a test split was looked at by studies that are deleted.
struct PastTestUse {
  uint32_t studies = 0;
  std::set<Digest> models;
  std::set<Digest> evaluations;  // Of the models the first of each: seeds of one setting are one.
};

// A stored result without its payload.
struct StoredTask {
  Digest payload;             // SHA-256 of the serialised payload.
  uint64_t row = 0;           // In the journal.
  uint32_t bytes = 0;         // Inline payload; 0 where a blob holds it.
  std::vector<Digest> blobs;  // Named by the payload, and the payload's own.
  Digest recipe;              // Of a training state.
  bool retired = false;       // A training state whose blobs are not kept.
};

// Attempts that ended with the worker. Cleared by a completion and by `retry`.
struct LossRecord {
  uint32_t alone = 0;  // It was the only task of its worker.
  uint32_t shared = 0;
  std::set<std::string> workers;  // Of the losses alone.
};

struct Failure {
  std::string cause;
  std::string worker;
  uint64_t row = 0;  // In the journal.
};

class State {
 public:
  // INTERNAL for an event that makes no sense (an unknown study, an event without a kind).
  absl::Status Apply(uint64_t row, const JournalEntry& entry);

  uint64_t incarnation() const { return incarnation_; }
  const std::map<std::string, StudyRecord>& studies() const { return studies_; }
  const StoredTask* Find(const Digest& task) const;
  size_t completed() const { return completed_.size(); }
  const absl::flat_hash_map<Digest, StoredTask>& tasks() const { return completed_; }
  // Of an image set's test split (SHA-256 of the images' indices). Null: none.
  const PastTestUse* PastUseOf(const Digest& image_set, const Digest& test_split) const;
  // The payload of a result whose bytes were lost: the task must give the same again.
  const Digest* FindForgotten(const Digest& task) const;
  // Whether a stored result names the blob; all blobs that are named.
  bool Names(const Digest& blob) const { return users_.contains(blob); }
  std::vector<Digest> NamedBlobs() const;
  // Tasks whose results name the blob.
  std::vector<Digest> UsersOf(const Digest& blob) const;
  // Stored training states of a recipe, the retired ones too: step -> task. Null: none.
  const std::map<uint64_t, Digest>* StatesOf(const Digest& recipe) const;
  const std::map<Digest, std::map<uint64_t, Digest>>& states() const { return states_; }
  // How often one was stored.
  uint64_t StatesStored(const Digest& recipe) const;
  // Blobs of retired states and deleted studies that no result names any more.
  std::vector<Digest> UnnamedBlobs() const;
  // Of a unit: by task digest; of training: by recipe digest. Null: none.
  const LossRecord* LossesOf(const Digest& task) const;
  // (study, task) -> why.
  const std::map<std::pair<std::string, Digest>, Failure>& failures() const { return failures_; }
  const Trust& trust() const { return trust_; }

  // Canonical text, without the incarnation.
  std::string Dump() const;

 private:
  absl::Status ApplyAdjusted(const v1::StudyAdjusted& adjusted);
  absl::Status ApplyDeleted(const v1::StudyDeleted& deleted);
  void Forget(const Digest& blob);
  void ForgetTask(const Digest& task);
  void Retire(const Digest& task);
  void Unname(const Digest& blob, const Digest& task);

  uint64_t incarnation_ = 0;
  std::map<std::string, StudyRecord> studies_;
  uint64_t submitted_ = 0;  // Studies, ever.
  std::map<std::pair<Digest, Digest>, PastTestUse> past_;
  std::set<Digest> deleted_blobs_;
  absl::flat_hash_map<Digest, StoredTask> completed_;
  absl::flat_hash_map<Digest, std::vector<Digest>>
      users_;                           // Blob -> the tasks whose results name it.
  std::map<Digest, Digest> forgotten_;  // Task -> payload.
  std::map<Digest, std::map<uint64_t, Digest>> states_;
  absl::flat_hash_map<Digest, uint64_t> states_stored_;  // By recipe.
  std::map<Digest, LossRecord> losses_;
  std::map<std::pair<std::string, Digest>, Failure> failures_;
  Trust trust_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_STATE_H_
