// The durable state: what the journal's events add up to. Apply is its only mutator, live and in
// replay.
#ifndef DERMIS_COORDINATOR_STATE_H_
#define DERMIS_COORDINATOR_STATE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/digest.h"
#include "coordinator/journal.h"
#include "coordinator/quota.h"
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
  Brought brings;
};

// The model or the weights that the study was given; none.
absl::StatusOr<Digest> GivenTo(const v1::StudySpec& spec);

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
  Digest recipe;              // Of a training state,
  uint64_t step = 0;          // and which.
  bool retired = false;       // A training state whose blobs are not kept.
  enum class Check : uint8_t { kNone, kOpen, kSame, kWaived };
  Check check = Check::kNone;   // By a second worker.
  bool inputs_unknown = false;  // It was computed from others, and its journal does not say which.
  uint32_t makers = 0;          // State::MakersOf.
  std::vector<Digest> inputs;   // Tasks whose results it was computed from.
};

// A unit that a second worker computes, or of which workers gave different results.
struct OpenCheck {
  v1::TaskSpec spec;
  std::map<std::string, Digest> votes;  // Worker -> payload; the first one's is among them.
  bool chosen = false;                  // To be checked; else workers differed by chance.
  bool disputed() const;
};
// The payload that more workers gave than any other, and two at least.
std::optional<Digest> MajorityOf(const OpenCheck& check);
// Whether a unit is among the part of all units that is checked: by its digest alone.
bool IsChosenForCheck(const Digest& task, double part);

struct QuarantineRecord {
  std::string why;
  uint64_t unix_ms = 0;
  uint64_t withdrawn = 0;
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
  // What the user has, `but` for this study, and with what another one would bring.
  Usage UsageOf(const std::string& user, const std::string& but, const Brought* more = nullptr) const;
  const StoredTask* Find(const Digest& task) const;
  size_t completed() const { return completed_.size(); }
  const absl::node_hash_map<Digest, StoredTask>& tasks() const { return completed_; }
  // Of an image set's test split (SHA-256 of the images' indices). Null: none.
  const PastTestUse* PastUseOf(const Digest& image_set, const Digest& test_split) const;
  // A result whose bytes were lost: the task must give the same again.
  const StoredTask* FindForgotten(const Digest& task) const;
  // The stored result, else the forgotten one.
  const StoredTask* FindEver(const Digest& task) const;
  // Who computed it; of a gang, all.
  const std::vector<std::string>& MakersOf(const StoredTask& stored) const {
    return makers_[stored.makers];
  }
  // --- Spot checks (spot_checks.cc).
  double spot_checks() const { return spot_checks_; }
  const OpenCheck* FindCheck(const Digest& task) const;
  const std::map<Digest, OpenCheck>& checks() const { return checks_; }
  // For wrong results; by worker.
  const std::map<std::string, QuarantineRecord>& quarantined() const { return quarantined_; }
  bool IsQuarantined(const std::string& worker) const { return quarantined_.contains(worker); }
  // What does not stand without this worker: its results, those computed from them, and so on.
  std::vector<Digest> ResultsThrough(const std::string& worker) const;
  // Whether the result that was used is still the task's.
  bool Stands(const v1::UsedResult& used) const;
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
  uint32_t MakersIndex(const v1::Attempt& attempt);
  // --- spot_checks.cc.
  absl::Status ApplyCompared(const v1::ResultCompared& compared);
  absl::Status ApplyWaived(const v1::ChecksWaived& waived);
  absl::Status ApplyQuarantined(uint64_t unix_ms, const v1::WorkerQuarantined& quarantined);
  void OpenCheckOf(const Digest& task, const v1::TaskCompleted& done);
  void CloseIfAgreed(const Digest& task);
  // As if it had never been.
  void Withdraw(const Digest& task);

  uint64_t incarnation_ = 0;
  double spot_checks_ = 0;
  std::map<Digest, OpenCheck> checks_;
  std::map<std::string, QuarantineRecord> quarantined_;
  std::vector<std::vector<std::string>> makers_;
  std::map<std::vector<std::string>, uint32_t> makers_index_;
  std::map<std::string, StudyRecord> studies_;
  uint64_t submitted_ = 0;  // Studies, ever.
  std::map<std::pair<Digest, Digest>, PastTestUse> past_;
  std::set<Digest> deleted_blobs_;
  absl::node_hash_map<Digest, StoredTask> completed_;
  absl::flat_hash_map<Digest, std::vector<Digest>>
      users_;                           // Blob -> the tasks whose results name it.
  std::map<Digest, StoredTask> forgotten_;
  std::map<Digest, std::map<uint64_t, Digest>> states_;
  absl::flat_hash_map<Digest, uint64_t> states_stored_;  // By recipe.
  std::map<Digest, LossRecord> losses_;
  std::map<std::pair<std::string, Digest>, Failure> failures_;
  Trust trust_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_STATE_H_
