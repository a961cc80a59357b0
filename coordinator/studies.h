// All that is durable, and what is folded from it: the studies, what they want, and the units that
// wait. Record is the only way to change it; live and in replay the same events give the same
// state.
#ifndef DERMIS_COORDINATOR_STUDIES_H_
#define DERMIS_COORDINATOR_STUDIES_H_

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/clock.h"
#include "common/digest.h"
#include "coordinator/batch.h"
#include "coordinator/blob_index.h"
#include "coordinator/journal.h"
#include "coordinator/state.h"
#include "coordinator/study_run.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/studies.pb.h"

namespace dermis {

// A unit that someone wants and that has no result.
struct Unit {
  v1::TaskSpec spec;
  std::set<std::string> studies;
  uint64_t assignment = 0;
  bool waiting = false;  // In the queues of `studies`.
  bool delayed = false;  // In delayed_, until not_before.
  absl::Duration not_before;
  uint32_t back_offs = 0;
  bool single = false;          // A bundle with it failed as a whole: runs by itself.
  std::set<std::string> avoid;  // Workers that just failed it,
  absl::Duration avoid_until;   // until then; nobody else may ever be free.
};

struct Study {
  std::string id;
  std::unique_ptr<StudyRun> run;  // Null: not pinned, or a problem.
  absl::Status problem;           // It cannot go on.
  std::string hint;               // The last passing trouble, for people.
  absl::flat_hash_map<Digest, Stage> wanted;
  std::map<Digest, StudyRun::Want> failed;
  std::array<uint64_t, kStages> computed{}, reused{};
  std::deque<Digest> queue;  // May name tasks that do not wait any more.
  uint64_t waiting = 0;
  double used = 0;   // Worker-seconds over priority: who has least comes first.
  double spent = 0;  // Worker-seconds of the results that were computed for it.
  uint32_t workers = 0;
  std::optional<absl::Duration> hungry_since;
  std::set<Digest> checks;  // Spot checks of its units that are open: it is not done before them.
  uint64_t checks_same = 0, checks_waived = 0;
  uint64_t version = 1;
  uint64_t beginning = 0;  // Of this process's, which: a study may begin anew, also another one of its name.
};

// What names a test split: the digest of its images' indices.
Digest SplitDigest(const std::vector<uint32_t>& images);

// Of this process.
struct Counters {
  uint64_t events = 0, completions = 0, duplicates = 0, conflicts = 0, losses = 0;
  // Workers, studies, trainings and assignments that were looked at to decide who does what: a completion must not cost more
  // of them in a larger cluster.
  uint64_t looks = 0;
};

// How long to wait before the next try.
inline absl::Duration BackOff(uint32_t times) {
  return std::min(absl::Seconds(30), absl::Milliseconds(250) * (1 << std::min(times, 10u)));
}

// The core thread's own.
class Studies {
 public:
  // All outlive this.
  Studies(Clock& clock, Batch& batch, BlobIndex& blobs)
      : clock_(clock), batch_(batch), blobs_(blobs) {}

  // --- Events.
  // A row of the journal, in replay.
  absl::Status Replay(uint64_t row, const JournalEntry& entry);
  // An event that just happened: stamped, added to the batch, applied. `task` and `payload` of a
  // completion; without a payload it is parsed where it is needed.
  void Record(v1::Event event, const Digest& task = Digest(), const v1::Payload* payload = nullptr);
  void PinStudies(const std::string& numerics_class);
  void Fail(const Digest& task, const std::set<std::string>& studies, const std::string& cause,
            const std::string& worker);
  // A blob is not there (any more). What names it is forgotten; nothing where nothing names it.
  void BlobLost(const Digest& blob, const std::string& cause);
  // A worker computes wrong: it gets nothing more, and what does not stand without it is withdrawn.
  // `event`: what is known of it; gives the trainings of which states were withdrawn.
  std::set<Digest> Quarantine(v1::WorkerQuarantined event);
  // Noticed while something was read; told (BlobLost) at the next Settle.
  void NoticeLost(const Digest& blob) const { lost_blobs_.push_back(blob); }
  // A state of the recipe was stored: the blobs of earlier ones that it supersedes go (retention.h).
  void RetireStates(const Digest& recipe);
  // The disk is almost full: so do those of up to `most` states that nobody trains on from, oldest first.
  void RetireIdleStates(size_t most);
  // A study that is over goes, with the results and blobs that only it has: what they are, and
  // removing them.
  struct Leavings {
    v1::StudyDeleted event;
    std::vector<Digest> blobs;
    uint64_t bytes = 0;
    bool images = false;
  };
  Leavings LeavingsOf(const std::string& id) const;
  void Delete(Leavings leavings);
  // Removes those that neither a study nor a result names when their turn comes, and that nobody
  // has stored anew. Some at a time: a disk takes its time for thousands, and the core thread has
  // none.
  void RemoveInTurn(const std::vector<Digest>& blobs);
  // Whether a set whose manifest was looked at before is there still, and all that it names: it may just be going with the last
  // study that had it.
  bool IsStored(const Digest& image_set, const v1::ImageSetManifest& manifest) const;
  // Blobs that went with deleted studies and were not brought again, the newest of them: workers
  // that were away may have copies.
  std::vector<Digest> Gone() const;
  // After the replay: looks for every blob that is named, and removes those of retired states.
  void LookForBlobs();
  // What could not be done at once: blobs that were noticed as lost, units whose time has come.
  // True: some work may be unwanted now.
  bool Settle(absl::Duration now);
  // Recipes of which states were stored since this was asked: a gang that trains one may be wanted no more.
  std::vector<Digest> TakeTrained() { return std::exchange(trained_, {}); }
  // The planners of a study that is about to be submitted, made already.
  void Offer(std::unique_ptr<StudyRun> run) { offered_ = std::move(run); }
  void Keep(const Digest& image_set, std::shared_ptr<const v1::ImageSetManifest> manifest) {
    manifests_.try_emplace(image_set, std::move(manifest));
  }

  // --- Looking.
  const State& state() const { return state_; }
  // Grows whenever there may be something to give out that was not there before.
  uint64_t changes() const { return changes_; }
  const std::map<std::string, std::unique_ptr<Study>>& all() const { return studies_; }
  Study* FindStudy(const std::string& id);
  v1::StudyStatus::Phase PhaseOf(const Study& study) const;
  // Some of its training can be worked on.
  bool Training(const Study& study) const;
  // Whether it wants that recipe trained.
  bool Wants(const Study& study, const Digest& recipe) const {
    return Training(study) && study.run->sweep().FindActive(recipe) != nullptr;
  }
  std::set<std::string> Wanting(const Digest& recipe) const;
  bool Paused(const std::string& id) const { return state_.studies().at(id).paused; }
  // Whether some study that is not paused wants it.
  bool IsToBeTrained(const Digest& recipe) const;
  bool IsToBeRun(const Unit& unit) const;
  // Whether the study has the task, or (of training) the recipe.
  bool Has(const Study& study, const Digest& task) const;

  // --- What is stored.
  absl::StatusOr<v1::Payload> ReadPayload(const Digest& task) const;
  // Of a retired state: without its blobs.
  absl::StatusOr<v1::TrainOutput> ReadState(const Digest& recipe, uint64_t step) const;
  void Touch(const std::string& id);
  // A worker of this class came or went: what studies of it say changes.
  void TouchClass(const std::string& numerics_class);

  // --- Units.
  absl::node_hash_map<Digest, Unit>& units() { return units_; }
  const absl::node_hash_map<Digest, Unit>& units() const { return units_; }
  void SetWaiting(Unit& unit, bool waiting);
  // It just failed on this worker: not there again for a while.
  void Avoid(Unit& unit, const std::string& worker);
  // Back into the queue, now or after a while.
  void Release(const Digest& task, Unit& unit, bool back_off);

  Counters& counters() { return counters_; }
  const Counters& counters() const { return counters_; }

 private:
  // An image set that could be read, and the blobs that its chunks name.
  struct Images {
    explicit Images(std::shared_ptr<const v1::ImageSetManifest> of);
    std::shared_ptr<const v1::ImageSetManifest> manifest;
    absl::flat_hash_set<Digest> parts;
  };

  // State, then all that is folded from it. The same live and in replay.
  absl::Status Apply(uint64_t row, const JournalEntry& entry, const v1::Payload* payload);
  // Begins a study anew from what is stored: after its submission, its pinning, and every time it
  // is submitted again. Counters start at zero.
  void StartStudy(const std::string& id);
  // What is stored of its recipes: of states the longest history, which tells where training stops,
  // and failures, each after the states that were there before it.
  void FeedStoredStates(Study& study);
  // The longest history among states of rows below `row`.
  void FeedLongest(Study& study, const Digest& recipe, uint64_t row);
  // Then that very state may be there, too.
  void FeedFinalState(Study& study);
  void AddWants(Study& study, absl::StatusOr<StudyRun::Wants> wants);
  // Results that were there already, fed to their studies; these may want more that is there
  // already.
  void DrainFolds();
  void FoldCompleted(const JournalEntry& entry, const v1::Payload* payload);
  void FoldFailed(const v1::TaskFailed& failed);
  void FoldCleared(const std::string& id);
  void FoldAdjusted(const v1::StudyAdjusted& adjusted);
  void FoldDeleted(const v1::StudyDeleted& deleted);
  // Of those that share from now on, the least that one used; none where there is no other.
  std::optional<double> LeastUsed(const std::string& but) const;
  void FoldCompared(const Digest& task);
  // Checks that are over, of all studies.
  void CloseChecks();
  void NoteCheck(Study& study, const Digest& task, const StoredTask& stored);
  // A result that several wait for counts for each: what one has used says nothing of others.
  void Charge(const v1::Attempt& attempt, Study& study);
  // It was given this model, or these weights, and trainings that begin with them are not over.
  bool BeginsWith(const Study& study, const Digest& given) const;
  // Studies that something which is lost concerns.
  bool Concerns(const Study& study, const std::vector<Digest>& tasks) const;
  // Steps whose states some study's result is taken from, or may be.
  std::set<uint64_t> PinnedSteps(const Digest& recipe) const;
  void Retire(const std::vector<Digest>& tasks);
  void RemoveSome();
  // A study or a result names the blob. Walks over all studies.
  bool IsUsed(const Digest& blob) const;
  // BlobLost, but that studies do not begin anew yet.
  void DropLost(const Digest& blob, const std::string& cause);
  // Lost results: studies begin anew from what is left, once for all blobs that are lost one after
  // the other, as many may be at a start: before the next event of another kind, and before anybody
  // looks.
  void BeginAnew();
  // Lost images and given weights cannot be computed.
  void FoldDropped(const Digest& blob);
  void DropWants(Study& study);
  void Unwant(Study& study, const Digest& task);
  absl::StatusOr<v1::Payload> ParsePayload(const v1::TaskResult& result) const;
  absl::StatusOr<std::shared_ptr<const v1::ImageSetManifest>> Manifest(const Digest& image_set);
  void Enqueue(const Digest& task, Unit& unit, bool first);

  Clock& clock_;
  Batch& batch_;
  BlobIndex& blobs_;

  State state_;
  uint64_t next_row_ = 1;
  std::map<std::string, std::unique_ptr<Study>> studies_;
  absl::node_hash_map<Digest, Unit> units_;
  std::multimap<absl::Duration, Digest> delayed_;  // Units that back off.
  std::deque<std::pair<std::string, Digest>> folds_;
  std::map<Digest, Images> manifests_;
  std::deque<Digest> to_remove_;  // RemoveInTurn. After a crash: LookForBlobs.
  std::vector<Digest> gone_;  // With deleted studies, the last ones at the end.
  bool stop_unwanted_ = false;
  std::vector<Digest> trained_;
  uint64_t changes_ = 0;
  std::set<std::string> over_budget_;  // Maybe: looked at in Settle.
  uint64_t beginnings_ = 0;
  std::unique_ptr<StudyRun> offered_;
  std::set<std::string> begin_anew_;
  mutable std::vector<Digest> lost_blobs_;
  Counters counters_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_STUDIES_H_
