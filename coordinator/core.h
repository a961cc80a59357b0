// The coordinator's core: durable state, planners, wants (studies.h), workers, scheduler, gangs
// (fleet.h). One thread owns it: no locks and no threads in here (core_thread.h runs it). Time
// comes from a Clock, disk from a Journal, messages leave through an Outbox, so tests simulate
// whole clusters.
//
// A handler appends events to a batch and applies them at once. Flush commits the batch in one
// durable transaction and only then releases replies and directives. After a failed Flush the
// process must end: replay restores what was durable.
#ifndef DERMIS_COORDINATOR_CORE_H_
#define DERMIS_COORDINATOR_CORE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/clock.h"
#include "common/digest.h"
#include "coordinator/batch.h"
#include "coordinator/blob_index.h"
#include "coordinator/completion.h"
#include "coordinator/fleet.h"
#include "coordinator/journal.h"
#include "coordinator/outbox.h"
#include "coordinator/questions.h"
#include "coordinator/studies.h"
#include "dermis/v1/cluster.pb.h"
#include "dermis/v1/studies.pb.h"

namespace dermis {

class Core {
 public:
  using Options = FleetOptions;

  // All but options must outlive the core.
  Core(Clock& clock, Journal& journal, Outbox& outbox, BlobIndex& blobs, Options options);
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // Replays the journal and appends Started. Once, before anything else. Commits by itself.
  absl::Status Open();
  uint64_t incarnation() const { return studies_.state().incarnation(); }

  // --- Workers. Unknown connections are ignored.
  // First message of a stream. Sends Welcome: with a refusal (another software version, a malformed
  // registration) and a Close, or with what it may go on with. The same worker on a new stream
  // takes the old one's place.
  void WorkerConnected(ConnectionId connection, const v1::Register& hello);
  void WorkerBeat(ConnectionId connection, const v1::Beat& beat);
  void AttemptEnded(ConnectionId connection, v1::AttemptEnded ended);
  void WorkerDisconnected(ConnectionId connection, const std::string& cause);

  // Replies when durable. First result wins; a second is compared.
  using CompleteReply = std::function<void(const v1::CompleteTasksResponse&)>;
  void CompleteTasks(std::vector<CheckedCompletion> completions, CompleteReply reply);

  // A blob that someone asked for is not there (any more), or its bytes are not what they were.
  // What named it is forgotten and, where wanted, computed again; nothing happens where nothing
  // names it.
  void BlobLost(const Digest& blob, const std::string& cause);

  // --- People. Replies when durable.
  // INVALID_ARGUMENT: the split or the training part cannot be made. RESOURCE_EXHAUSTED: disk low; the user's quota.
  void Submit(Submission submission,
              std::function<void(const absl::StatusOr<v1::SubmitResponse>&)> reply);
  // Hears what a user has by studies, at Open and whenever it has changed, and which blobs a study of his has just named. Before Open.
  using Brings = std::function<void(const std::string& user, const Usage& has, const std::vector<Digest>& named)>;
  void OnBrought(Brings brings) { brings_ = std::move(brings); }
  // Uploads that no study was made of: those that nothing names go.
  void DropUnused(const std::vector<Digest>& blobs);
  // NOT_FOUND names the studies there are. Both are idempotent.
  using StatusReply = std::function<void(const absl::StatusOr<v1::StudyStatus>&)>;
  void Cancel(const std::string& id, StatusReply reply);
  void Retry(const std::string& id, StatusReply reply);
  // INVALID_ARGUMENT: a priority or budget out of range. FAILED_PRECONDITION: the study is over and
  // cannot be paused; its budget is used up and it cannot be resumed.
  void Adjust(const std::string& id, const v1::Adjustment& adjust, const std::string& user,
              StatusReply reply);
  // FAILED_PRECONDITION: it is not over. Walks over all results.
  void Delete(const v1::DeleteRequest& request, const std::string& user,
              std::function<void(const absl::StatusOr<v1::DeleteResponse>&)> reply);

  // Who may join: `decide` looks at who may and gives the event that is to be (one without a kind: nothing changes), or an
  // error. Replies when that is durable.
  using TrustDecision = std::function<absl::StatusOr<v1::Event>(const Trust& trust)>;
  void ChangeTrust(const TrustDecision& decide, std::function<void(const absl::Status&)> reply);
  // A worker whose results are wrong, found by a person: as if it had been outvoted. NOT_FOUND:
  // nobody knows it. Idempotent. Walks over all results.
  void Quarantine(const std::string& worker, const std::string& user,
                  std::function<void(const absl::StatusOr<v1::QuarantineResponse>&)> reply);
  // NOT_FOUND: it is not quarantined.
  void Release(const std::string& worker, const std::string& user,
               std::function<void(const absl::StatusOr<v1::ReleaseResponse>&)> reply);

  // --- Questions (questions.h). UNAVAILABLE: no worker that could answer is there.
  absl::StatusOr<uint64_t> Ask(const std::string& study, std::shared_ptr<const std::string> pixels,
                               Questions::Tell tell);
  // Idempotent.
  void LeaveQuestion(uint64_t question) { questions_.Leave(question); }

  // --- Looking. Cheap but for Results (reads payloads). What they show may not be durable yet:
  // answer with it through AfterFlush.
  absl::StatusOr<v1::StudyStatus> Status(const std::string& id) const;
  // Grows whenever Status(id) may have changed; 0: no such study.
  uint64_t StudyVersion(const std::string& id) const;
  v1::ListResponse List() const;
  absl::StatusOr<v1::StudyResults> Results(const std::string& id) const;
  // What of these rows of the journal happened to the study. Rows up to its submission are no part
  // of it.
  absl::StatusOr<v1::HistoryResponse> History(const std::string& id,
                                              const std::vector<Journal::Row>& rows) const;
  // A page of a study's trials, from `first` on, with the epochs of their trainings.
  absl::StatusOr<v1::TrialsResponse> Trials(const v1::TrialsRequest& request) const;
  v1::ClusterStatusResponse ClusterStatus() const;
  Counters counters() const;
  // For who makes views of their own (dashboard/snapshot.h).
  const Studies& studies() const { return studies_; }
  const Fleet& fleet() const { return fleet_; }
  // The first result of a task named again with another payload, for alarms: newest last, at most
  // 100.
  const std::vector<std::string>& alarms() const { return alarms_; }

  // Runs `callback` once all that happened so far is durable (dropped when the commit fails).
  void AfterFlush(std::function<void()> callback);

  // Timeouts, then scheduling. About every 100 ms and after commands (CoreThread does both).
  void Tick();
  // Commits what is pending, then releases replies and directives. An error: end the process.
  absl::Status Flush();

  // Canonical text of the durable state and all that is folded from it, for tests of replay.
  std::string Dump() const;
  // Who waits for what, for people who look for the reason why nothing runs.
  std::string DescribeWork() const;

 private:
  absl::StatusOr<v1::SubmitResponse> DoSubmit(Submission submission);
  void SayBrought(const std::string& user, const std::vector<Digest>& named) const;
  absl::Status DoAdjust(const std::string& id, const v1::Adjustment& adjust,
                        const std::string& user);
  absl::StatusOr<v1::DeleteResponse> DoDelete(const v1::DeleteRequest& request,
                                              const std::string& user);
  absl::StatusOr<v1::QuarantineResponse> DoQuarantine(const std::string& worker,
                                                      const std::string& user);
  // It comes from a worker that is quarantined, or from results that do not stand any more.
  bool RefuseStale(const CheckedCompletion& done, v1::CompletionReply& verdict);
  // A second result of a unit: noted where it says something.
  void Compare(const CheckedCompletion& done, const StoredTask& stored);
  // The result that it was compared with has been withdrawn: this one is stored.
  bool TakesItsPlace(const CheckedCompletion& done, v1::CompletionReply& verdict);
  // Workers differ: who is outvoted is quarantined.
  void Judge(const Digest& task);
  // Two results of one task: the first stays, people are told.
  void Conflict(const CheckedCompletion& done, const Digest& stored, v1::CompletionReply& verdict);

  Clock& clock_;
  Journal& journal_;
  BlobIndex& blobs_;
  Batch batch_;
  Studies studies_;
  Questions questions_;
  Fleet fleet_;
  std::vector<std::string> alarms_;
  absl::Duration next_disk_look_;
  const double spot_checks_;
  const UserQuota quota_;
  Brings brings_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_CORE_H_
