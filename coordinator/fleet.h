// The workers, what each of them does, and what comes of it: registration and beats, gangs and
// bundles, losses and their counting, timeouts, the scheduler's assignments. Nothing in here is
// durable: after a restart workers say what they run and go on.
#ifndef DERMIS_COORDINATOR_FLEET_H_
#define DERMIS_COORDINATOR_FLEET_H_

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "common/clock.h"
#include "common/digest.h"
#include "coordinator/batch.h"
#include "coordinator/blob_index.h"
#include "coordinator/questions.h"
#include "coordinator/studies.h"
#include "dermis/v1/cluster.pb.h"

namespace dermis {

// So many losses of a task that ran alone make it fail as poison.
inline constexpr uint32_t kPoison = 3;

struct FleetOptions {
  absl::Duration lost_after = absl::Seconds(5);    // Without a beat.
  absl::Duration stuck_after = absl::Seconds(20);  // Without progress; or 20 x the median step.
  absl::Duration first_progress =
      absl::Seconds(90);                    // Until its steps are known: fetching and warming up.
  absl::Duration grace = absl::Seconds(2);  // After a start: workers come back before new work.
  absl::Duration starved_after =
      absl::Seconds(10);                            // A study that waits longer makes a gang yield.
  double turn = 10;  // Once that has worked so many times as long as its start took.
  absl::Duration regroup_after = absl::Seconds(3);  // A gang is left alone so long before it grows.
  absl::Duration bundle = absl::Seconds(1);         // Measured work a bundle of units holds.
  absl::Duration segment = absl::Seconds(30);       // A gang stores a state about so often.
  uint32_t max_bundle = 256;                        // Units.
  UserQuota quota = {};    // Of studies and what they bring; Core looks at it.
  double spot_checks = 0;  // The part of the units that a second worker computes, too.
  // A study that is done but for spot checks waits so long for a worker to make them,
  absl::Duration check_wait = absl::Seconds(60);
  absl::Duration company =
      absl::Seconds(10);  // or so long where no second worker is there any more.
};

struct Worker {
  v1::Register hello;
  ConnectionId connection = 0;
  absl::Duration last_beat;
  uint64_t assignment = 0;  // 0: free.
  absl::Duration seen;      // When it was last known to run the assignment.
  absl::Duration told;      // When it was last told to stop.
  uint64_t progress = 0;
  absl::Duration progress_at;
  std::deque<double> steps;         // Seconds a unit of progress, the last few.
  std::vector<uint32_t> waits_for;  // Ranks of its gang.
  bool draining = false;
  uint64_t completed = 0;
};

// Losses of a worker (by name) since it last completed a task.
struct History {
  std::set<Digest> lost;
  uint64_t completions_before = 0;  // Of the cluster, at the first loss.
  absl::Duration quarantined_until = -absl::InfiniteDuration();
};

struct Assignment {
  uint64_t id = 0;
  std::string study;  // Charged for it.
  bool gang = false;
  bool check = false;  // A spot check: one unit that has a result.
  uint64_t question = 0;  // Not 0: tasks of a question, which are no units.
  absl::Duration started;
  std::string why;  // Yielding or doomed: the reason.
  bool yielding = false;
  bool doomed = false;  // Told to cancel.
  // Bundle.
  std::string worker;
  std::vector<Digest> tasks;
  v1::TaskSpec::KindCase kind = v1::TaskSpec::KIND_NOT_SET;
  // Gang.
  Digest recipe;
  v1::Generation generation;
  std::set<std::string> members;          // Those that have not ended.
  std::map<std::string, uint32_t> ranks;  // Empty where it was adopted: ranks are not told again.
  uint32_t world = 0;
  bool adopted = false;
  size_t states_before = 0;
  uint64_t step = 0;  // That it has reached, for people.
  std::optional<absl::Duration> under_way;  // When it took its first step: since `started` it fetched and warmed up.
};

// What is known of training a recipe beside its stored states.
struct RecipeWork {
  uint64_t assignment = 0;
  absl::Duration not_before = -absl::InfiniteDuration();
  uint32_t back_offs = 0;
  std::set<std::string> avoid;
};

// What is known of making a spot check.
struct CheckWork {
  uint64_t assignment = 0;
  absl::Duration not_before = -absl::InfiniteDuration();
  uint32_t tries = 0;  // That failed.
};

// The core thread's own.
class Fleet {
 public:
  // All outlive this.
  Fleet(Clock& clock, Batch& batch, Studies& studies, Questions& questions, const BlobIndex& blobs,
        FleetOptions options)
      : clock_(clock),
        batch_(batch),
        studies_(studies),
        questions_(questions),
        blobs_(blobs),
        options_(options) {}

  // Certificates were revoked: workers refuse them from now on.
  void TellRevocations();
  // Blobs went with a study: workers remove their copies.
  void TellDeleted(const std::vector<Digest>& blobs);
  // The coordinator starts: new work is given out at once where nothing ran before, else after a
  // while.
  void Open(bool fresh);
  // As in Core.
  void WorkerConnected(ConnectionId connection, const v1::Register& hello);
  void WorkerBeat(ConnectionId connection, const v1::Beat& beat);
  void AttemptEnded(ConnectionId connection, v1::AttemptEnded ended);
  void WorkerDisconnected(ConnectionId connection, const std::string& cause);
  // This worker's completion of the task is about to be stored.
  void Completed(const std::string& worker, const v1::TaskSpec& task);
  // The worker was quarantined for wrong results, and states of these trainings are withdrawn: it
  // stops, and so do the gangs that trained on from them.
  void Expel(const std::string& name, const std::set<Digest>& recipes);
  // Work that nobody wants any more: gangs store what they have, bundles stop.
  void StopUnwanted();
  // The same of gangs that train these recipes.
  void StopTrained(const std::vector<Digest>& recipes);
  // Timeouts and the accounts of the studies; not oftener than every 50 ms.
  void Look(absl::Duration now);
  // Gives out work.
  void GiveOut(absl::Duration now);

  const std::map<std::string, Worker>& workers() const { return workers_; }
  const std::map<uint64_t, Assignment>& assignments() const { return assignments_; }
  // The gang that trains the recipe now; null: none.
  const Assignment* GangOf(const Digest& recipe) const;
  bool Quarantined(const std::string& name) const;
  // Whether the worker was given this task as one of a question, and is at it.
  bool IsOfQuestion(const std::string& worker, const Digest& task) const;
  // Whether this worker of those that are here could be one more to compute the unit.
  bool MayCheck(const OpenCheck& check, const Worker& worker) const;
  // The numerics class of most workers; empty: there are none.
  std::string CommonClass() const;

 private:
  // --- Workers (fleet.cc).
  std::pair<std::string, Worker*> Find(ConnectionId connection);
  Worker& Add(const v1::Register& hello, ConnectionId connection);
  void SetIdle(const Worker& worker, bool idle);
  void Remove(const std::string& name);
  v1::Directive Revocations() const;
  void SendDeleted(ConnectionId connection, absl::Span<const Digest> blobs);
  // Quarantined workers that are here, for whatever reason.
  std::set<std::string> Suspects() const;
  // What a worker says it runs: goes on where its work is wanted and nobody else does it.
  bool Adopt(const std::string& name, Worker& worker, const v1::RunningAttempt& running);
  bool SameClass(const std::string& study, const Worker& worker) const;
  void Occupy(Worker& worker, uint64_t id, absl::Duration now);
  void SetFree(Worker& worker);
  bool Free(const Worker& worker) const;
  // For wrong results: it gets no work, and nothing that it says of its work counts.
  bool Expelled(const Worker& worker) const;
  void Progress(Worker& worker, uint64_t progress, absl::Duration now);
  // The gang has taken its first step.
  void UnderWay(Assignment& gang, absl::Duration now);
  // Of the worker; of a gang that is not under way, of any member: the others wait for who fetches.
  absl::Duration LastProgress(const Worker& worker) const;
  // How long a worker may make no progress: until it is known how fast it is, as long as fetching
  // and warming up may take.
  absl::Duration StuckLimit(const Worker& worker) const;
  void CheckTimeouts(absl::Duration now);
  // ", study s, recipe 1234, rank 1 of 2, step 1200": what a worker was at when it was lost.
  std::string WhereIs(const std::string& name) const;
  void AccountTime(absl::Duration now);

  // --- What ends (fleet_endings.cc).
  void BundleEnded(const std::string& name, Worker& worker, Assignment& assignment,
                   const v1::AttemptEnded& ended);
  void GangMemberEnded(const std::string& name, Worker& worker, Assignment& gang,
                       const v1::AttemptEnded& ended);
  void FinishGang(Assignment& gang);
  // Who is still in the gang, or has the bundle.
  std::vector<Worker*> WorkersOf(const Assignment& assignment);
  // They are told to stop without a result,
  void Doom(Assignment& assignment, const std::string& why);
  // or after the step, or the unit, that they are at.
  void Yield(Assignment& assignment, const std::string& why);
  void YieldUnwanted(Assignment& gang);
  // The worker does not have the assignment (any more), by nobody's fault.
  void Leave(uint64_t id, const std::string& name);
  void LoseWorker(std::string name, const std::string& cause);
  void RecordLoss(const Digest& task, const std::set<std::string> studies,
                  const std::string& worker, const std::string& numerics_class,
                  const std::string& cause, bool alone);
  // Different tasks lost one after the other, with nothing completed, while others get on.
  void Strike(const std::string& name, const Digest& task, const std::string& numerics_class);
  void EraseAssignment(uint64_t id);
  std::vector<Digest> Remaining(const Assignment& assignment) const;

  // --- What begins (fleet_assign.cc).
  uint64_t NewAssignment();
  // One round of the scheduler. True: something was assigned. Costs what waits and can be given out; once a Look also what is
  // free and what runs.
  bool Assign(absl::Duration now);
  // From the first of the study's trainings on that may have no gang.
  std::set<uint32_t>::const_iterator FirstWaiting(const Study& study);
  // The front of the queue that still waits; stale entries go.
  double UnitSeconds(Study& study);
  // others: it is not the only sound one of its class.
  bool StartBundle(Study& study, const std::string& name, uint32_t units, bool others, absl::Duration now);
  // Units of one kind, and what they are, to a free worker.
  Assignment& SendUnits(Study& study, const std::string& name, std::vector<Digest> tasks,
                        absl::Span<const v1::TaskSpec* const> specs, absl::Duration now);
  // --- Questions (fleet_questions.cc).
  // To all free workers, before any other work; where there are too few, workers leave what they do after the unit they are at.
  void GiveOutQuestions(absl::Duration now);
  void SendQuestion(Questions::Bundle bundle, const std::string& name, uint64_t id,
                    absl::Duration now);
  // How many tasks of a kind a worker takes at once.
  size_t UnitsOfAQuestion(v1::TaskSpec::KindCase kind, size_t threads) const;
  // For so many tasks that could run now.
  void MakeRoomForQuestions(const std::string& numerics_class, size_t ready, absl::Duration now);
  // --- Spot checks (fleet_checks.cc).
  // To workers that are still free: of all studies, or of those alone that wait for nothing else.
  void GiveOutChecks(absl::Duration now, bool urgent);
  void StartCheck(const Digest& task, const OpenCheck& check, Study& study, std::string name,
                  absl::Duration now);
  // Checks that keep a study from its end and that nobody can make.
  void WaiveChecks(absl::Duration now);
  bool StartGang(const Digest& recipe, Study& study, const std::vector<std::string>& members,
                 absl::Duration now);

  Clock& clock_;
  Batch& batch_;
  Studies& studies_;
  Questions& questions_;
  const BlobIndex& blobs_;
  const FleetOptions options_;

  std::map<std::string, Worker> workers_;
  // Kept beside it, so that nothing has to be looked for among all: who has no assignment, by numerics class, how many there
  // are of each class, and who was struck (some of them are quarantined still, or were).
  std::map<std::string, std::set<std::string>> idle_;
  std::map<std::string, uint32_t> classes_;
  std::set<std::string> struck_;
  std::map<ConnectionId, std::string> connections_;
  std::map<std::string, History> histories_;
  std::map<uint64_t, Assignment> assignments_;
  std::set<uint64_t> gangs_;  // Those of them that are one.
  std::set<uint64_t> question_assignments_;  // That are of questions.
  struct Front {              // Of a study's trainings: all before `training` have a gang.
    const StudyRun* run = nullptr;
    uint64_t added = 0;
    uint32_t training = 0;
  };
  std::map<std::string, Front> fronts_;
  absl::flat_hash_map<Digest, RecipeWork> works_;  // By recipe.
  std::map<v1::TaskSpec::KindCase, double> unit_seconds_;
  std::map<Digest, CheckWork> check_works_;
  std::map<std::string, absl::Duration> company_;  // Class -> when two workers of it were there.
  std::map<std::string, absl::Duration>
      checks_since_;              // Study -> since when it waits for them alone.
  std::set<uint64_t> condemned_;  // Stuck: not adopted when their worker comes back.
  uint64_t assignment_counter_ = 0;
  absl::Duration work_from_, last_look_;
  absl::Duration opened_ = -absl::InfiniteDuration();  // Others may come back after a start.
  bool check_yields_ = true;
  uint64_t freed_ = 0;  // Times that a worker may have become free.
  std::pair<uint64_t, uint64_t> fruitless_;  // Changes and `freed_` when nothing could be given out.
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_FLEET_H_
