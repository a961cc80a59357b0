#include "coordinator/fleet.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/log.h"
#include "common/tasks.h"

namespace dermis {
namespace {

constexpr absl::Duration kUnseen = absl::Seconds(3);  // An assignment that no beat names is gone.
constexpr absl::Duration kTellAgain = absl::Seconds(2);  // Cancel and Yield are repeated.
constexpr absl::Duration kAlive = absl::Seconds(3);      // Since a beat: that process lives.
constexpr size_t kKnownSteps = 3;                        // So many tell how long a step takes.

}  // namespace

const Assignment* Fleet::GangOf(const Digest& recipe) const {
  const auto work = works_.find(recipe);
  if (work == works_.end() || work->second.assignment == 0) return nullptr;
  return &assignments_.at(work->second.assignment);
}

void Fleet::Open(bool fresh) {
  if (!fresh) opened_ = clock_.Now();
  work_from_ = clock_.Now() + (fresh ? absl::ZeroDuration() : options_.grace);
}

void Fleet::Completed(const std::string& name, const v1::TaskSpec& task) {
  if (auto it = workers_.find(name); it != workers_.end()) {
    ++it->second.completed;
    histories_.erase(name);  // It can: its losses were not its fault.
  }
  if (!task.has_train()) return;
  const absl::StatusOr<Digest> recipe = RecipeDigest(task.train().recipe(), task.numerics_class());
  if (!recipe.ok()) return;
  if (auto it = works_.find(*recipe); it != works_.end()) {
    it->second.back_offs = 0;
    it->second.avoid.clear();
  }
}

void Fleet::Look(absl::Duration now) {
  // Not at every batch of commands: this walks over all workers. At most so many of them a second, however many there are.
  const absl::Duration least = std::max(absl::Milliseconds(50), workers_.size() * absl::Microseconds(50));
  if (now - last_look_ < least && now >= last_look_) return;
  CheckTimeouts(now);
  AccountTime(now);
  WaiveChecks(now);
  last_look_ = now;
  check_yields_ = true;
}

void Fleet::GiveOut(absl::Duration now) {
  if (now < work_from_) return;
  GiveOutQuestions(now);
  GiveOutChecks(now, true);
  // A bundle may be cut short (a change of kind, a task that must run alone): once more for the
  // rest.
  for (int round = 0; round < 3; ++round) {
    if (!Assign(now)) break;
  }
  GiveOutChecks(now, false);
}

void Fleet::WorkerConnected(ConnectionId connection, const v1::Register& hello) {
  if (connections_.contains(connection)) return;  // Said twice.
  std::string refusal;
  if (hello.worker().empty() || hello.numerics_class().empty()) {
    refusal = "a registration needs a worker name and a numerics class";
  } else if (hello.software_version() != kVersion) {
    refusal = absl::StrCat("worker ", hello.worker(), " is of version '", hello.software_version(),
                           "', the coordinator of '", kVersion,
                           "': install the coordinator's version on this worker's host");
  }
  if (!refusal.empty()) {
    DERMIS_LOG(kWarning, "refused: ", refusal);
    v1::Directive directive;
    directive.mutable_welcome()->set_refusal(refusal);
    directive.mutable_welcome()->set_incarnation(studies_.state().incarnation());
    batch_.Send(connection, std::move(directive));
    batch_.Close(connection, refusal);
    return;
  }
  uint64_t held = 0;
  if (auto old = workers_.find(hello.worker()); old != workers_.end()) {
    if (old->second.hello.incarnation() == hello.incarnation()) {
      // The same process on a new stream: what it runs goes on.
      held = old->second.assignment;
      batch_.Close(old->second.connection, "the worker came back on a new stream");
      Remove(hello.worker());
    } else if (clock_.Now() - old->second.last_beat < kAlive) {
      // Two of one name would take each other's place for ever. The second waits: it tries again by
      // itself.
      const std::string why = absl::StrCat(
          "a worker called ", hello.worker(), " is here already (host ", old->second.hello.host(),
          "; this one is on ", hello.host(), "): give each worker its own --name");
      DERMIS_LOG(kWarning, why);
      batch_.Close(connection, why);
      return;
    } else {
      // Its supervisor started it again before the old stream was seen to end.
      LoseWorker(hello.worker(), "its process was replaced by a new one");
    }
  }
  const absl::Duration now = clock_.Now();
  Worker& worker = Add(hello, connection);
  worker.last_beat = now;
  studies_.PinStudies(hello.numerics_class());
  studies_.TouchClass(hello.numerics_class());

  v1::Directive welcome;
  welcome.mutable_welcome()->set_incarnation(studies_.state().incarnation());
  for (const v1::RunningAttempt& running : hello.running()) {
    if (worker.assignment == 0 && Adopt(hello.worker(), worker, running)) {
      welcome.mutable_welcome()->add_adopted(running.assignment());
    }
  }
  if (held != 0 && worker.assignment != held) Leave(held, hello.worker());
  DERMIS_LOG(kInfo, "worker ", hello.worker(), " registered (", hello.numerics_class(), ", ",
             hello.threads(), " threads", worker.assignment != 0 ? ", goes on" : "", ")");
  batch_.Send(connection, std::move(welcome));
  if (!studies_.state().trust().revoked().empty()) batch_.Send(connection, Revocations());
  SendDeleted(connection, studies_.Gone());
}

v1::Directive Fleet::Revocations() const {
  v1::Directive directive;
  for (const std::string& serial : studies_.state().trust().revoked()) {
    directive.mutable_revocations()->add_serials(serial);
  }
  return directive;
}

void Fleet::TellRevocations() {
  const v1::Directive directive = Revocations();
  for (const auto& [connection, name] : connections_) batch_.Send(connection, directive);
}

void Fleet::SendDeleted(ConnectionId connection, absl::Span<const Digest> blobs) {
  constexpr size_t kAtOnce = 10'000;  // Far below what a message may hold.
  for (; !blobs.empty(); blobs.remove_prefix(std::min(kAtOnce, blobs.size()))) {
    v1::Directive directive;
    for (const Digest& blob : blobs.subspan(0, kAtOnce)) {
      directive.mutable_forget()->add_blobs(blob.bytes());
    }
    batch_.Send(connection, std::move(directive));
  }
}

void Fleet::TellDeleted(const std::vector<Digest>& blobs) {
  for (const auto& [connection, name] : connections_) SendDeleted(connection, blobs);
}

void Fleet::WorkerBeat(ConnectionId connection, const v1::Beat& beat) {
  auto [name, worker] = Find(connection);
  if (worker == nullptr) return;
  const absl::Duration now = clock_.Now();
  worker->last_beat = now;
  if (worker->draining != beat.draining()) ++freed_;
  worker->draining = beat.draining();
  bool seen = false;
  for (const v1::RunningAttempt& running : beat.running()) {
    if (running.assignment() == 0 || running.assignment() != worker->assignment) {
      batch_.SendCancel(connection, running.assignment(), "it is not this worker's assignment");
      continue;
    }
    seen = true;
    worker->seen = now;
    Progress(*worker, running.progress(), now);
    worker->waits_for.assign(running.waits_for().begin(), running.waits_for().end());
    if (Assignment& assignment = assignments_.at(worker->assignment);
        running.step() > assignment.step) {
      assignment.step = running.step();
      if (!assignment.under_way) UnderWay(assignment, now);
      studies_.Touch(assignment.study);
    }
  }
  if (worker->assignment == 0) return;
  Assignment& assignment = assignments_.at(worker->assignment);
  if (!seen) {
    if (now - worker->seen > kUnseen) {
      DERMIS_LOG(kWarning, "worker ", name, " does not run assignment ", worker->assignment,
                 " that it was given: given anew");
      Leave(worker->assignment, name);
    }
    return;
  }
  // What was said once may have been lost with a stream.
  if ((assignment.doomed || assignment.yielding) && now - worker->told > kTellAgain) {
    worker->told = now;
    if (assignment.doomed) {
      batch_.SendCancel(connection, assignment.id, assignment.why);
    } else {
      batch_.SendYield(connection, assignment.id, assignment.why);
    }
  }
}

void Fleet::AttemptEnded(ConnectionId connection, v1::AttemptEnded ended) {
  auto [name, worker] = Find(connection);
  if (worker == nullptr || ended.assignment() == 0 || worker->assignment != ended.assignment()) {
    return;
  }
  // That a task fails is not believed of it either.
  if (Expelled(*worker)) {
    ended.set_outcome(v1::OUTCOME_YIELDED);
    ended.clear_results();
  }
  const absl::Duration now = clock_.Now();
  worker->last_beat = now;
  Assignment& assignment = assignments_.at(ended.assignment());
  const bool tried_elsewhere = assignment.question == 0 || questions_.Has(assignment.question);
  if (tried_elsewhere && (ended.outcome() == v1::OUTCOME_UNAVAILABLE ||
                          ended.outcome() == v1::OUTCOME_PEER_LOST)) {
    studies_.Touch(assignment.study);
    Study* const study = studies_.FindStudy(assignment.study);
    if (study != nullptr && assignment.question == 0) {
      study->hint = absl::StrCat("worker ", name, ": ", ended.cause());
    }
    DERMIS_LOG(kWarning, "worker ", name, " could not: ", ended.cause(), "; tried elsewhere");
  }
  if (assignment.gang) {
    GangMemberEnded(name, *worker, assignment, ended);
  } else {
    BundleEnded(name, *worker, assignment, ended);
  }
}

void Fleet::WorkerDisconnected(ConnectionId connection, const std::string& cause) {
  auto [name, worker] = Find(connection);
  if (worker == nullptr) return;
  LoseWorker(name, cause.empty() ? "its stream was closed" : cause);
}

std::pair<std::string, Worker*> Fleet::Find(ConnectionId connection) {
  auto it = connections_.find(connection);
  if (it == connections_.end()) return {"", nullptr};
  return {it->second, &workers_.at(it->second)};
}

bool Fleet::Adopt(const std::string& name, Worker& worker, const v1::RunningAttempt& running) {
  const absl::Duration now = clock_.Now();
  const uint64_t id = running.assignment();
  if (id == 0 || Expelled(worker) || condemned_.contains(id)) return false;
  auto it = assignments_.find(id);
  if (it != assignments_.end()) {
    Assignment& known = it->second;
    if (known.doomed) return false;
    if (known.gang) {
      if (!known.members.contains(name)) {
        if (!known.adopted || running.tasks_size() == 0 ||
            running.tasks(0) != known.recipe.bytes()) {
          return false;
        }
        known.members.insert(name);
        ++known.world;
      }
    } else if (known.worker != name) {
      return false;
    }
  } else if (running.has_generation()) {
    if (running.tasks_size() == 0) return false;
    const absl::StatusOr<Digest> recipe = Digest::FromBytes(running.tasks(0));
    if (!recipe.ok()) return false;
    const std::set<std::string> wanting = studies_.Wanting(*recipe);
    RecipeWork& work = works_[*recipe];
    if (!studies_.IsToBeTrained(*recipe) || work.assignment != 0 || !SameClass(*wanting.begin(), worker)) {
      return false;
    }
    Assignment& gang = assignments_[id];
    gang.id = id;
    gang.gang = true;
    gang.adopted = true;
    gang.study = *wanting.begin();
    gang.started = now;
    gang.under_way = now;
    gang.recipe = *recipe;
    gang.generation = running.generation();
    gang.members = {name};
    gang.world = 1;
    gang.states_before = studies_.state().StatesStored(*recipe);
    gang.step = running.step();
    gangs_.insert(id);
    work.assignment = id;
  } else {
    std::vector<Digest> tasks;
    for (const std::string& bytes : running.tasks()) {
      const absl::StatusOr<Digest> task = Digest::FromBytes(bytes);
      if (!task.ok()) return false;
      auto unit = studies_.units().find(*task);
      if (unit == studies_.units().end() || unit->second.assignment != 0 ||
          !studies_.IsToBeRun(unit->second)) {
        continue;
      }
      tasks.push_back(*task);
    }
    if (tasks.empty()) return false;
    Assignment& bundle = assignments_[id];
    bundle.id = id;
    bundle.adopted = true;
    bundle.started = now;
    bundle.worker = name;
    for (const Digest& task : tasks) {
      Unit& unit = studies_.units().at(task);
      studies_.SetWaiting(unit, false);
      unit.delayed = false;
      unit.assignment = id;
      bundle.kind = unit.spec.kind_case();
      bundle.study = *unit.studies.begin();
    }
    bundle.tasks = std::move(tasks);
  }
  Occupy(worker, id, now);
  worker.progress = running.progress();
  studies_.Touch(assignments_.at(id).study);
  return true;
}

bool Fleet::SameClass(const std::string& study, const Worker& worker) const {
  return studies_.state().studies().at(study).numerics_class == worker.hello.numerics_class();
}

Worker& Fleet::Add(const v1::Register& hello, ConnectionId connection) {
  Worker& worker = workers_[hello.worker()];
  worker.hello = hello;
  worker.connection = connection;
  connections_[connection] = hello.worker();
  SetIdle(worker, true);
  ++classes_[hello.numerics_class()];
  return worker;
}

void Fleet::SetIdle(const Worker& worker, bool idle) {
  std::set<std::string>& names = idle_[worker.hello.numerics_class()];
  if (idle) {
    names.insert(worker.hello.worker());
    ++freed_;
  } else {
    names.erase(worker.hello.worker());
    if (names.empty()) idle_.erase(worker.hello.numerics_class());
  }
}

void Fleet::Remove(const std::string& name) {
  const auto it = workers_.find(name);
  connections_.erase(it->second.connection);
  SetIdle(it->second, false);
  const auto count = classes_.find(it->second.hello.numerics_class());
  if (--count->second == 0) classes_.erase(count);
  workers_.erase(it);
  ++freed_;  // Others may be asked instead.
}

std::set<std::string> Fleet::Suspects() const {
  std::set<std::string> suspects;
  for (const auto& [name, record] : studies_.state().quarantined()) {
    if (workers_.contains(name)) suspects.insert(name);
  }
  for (const std::string& name : struck_) {
    if (workers_.contains(name) && Quarantined(name)) suspects.insert(name);
  }
  return suspects;
}

void Fleet::Occupy(Worker& worker, uint64_t id, absl::Duration now) {
  SetIdle(worker, false);
  worker.assignment = id;
  worker.seen = now;
  worker.told = now;
  worker.progress = 0;
  worker.waits_for.clear();
  worker.progress_at = now;
  worker.steps.clear();
}

void Fleet::SetFree(Worker& worker) {
  SetIdle(worker, true);
  worker.assignment = 0;
  worker.steps.clear();
}

bool Fleet::Free(const Worker& worker) const {
  return worker.assignment == 0 && !worker.draining && !Expelled(worker);
}

bool Fleet::Expelled(const Worker& worker) const {
  return studies_.state().IsQuarantined(worker.hello.worker());
}

void Fleet::Progress(Worker& worker, uint64_t progress, absl::Duration now) {
  if (progress <= worker.progress) return;
  worker.steps.push_back(absl::ToDoubleSeconds(now - worker.progress_at) /
                         static_cast<double>(progress - worker.progress));
  if (worker.steps.size() > 31) worker.steps.pop_front();
  worker.progress_at = now;
  worker.progress = progress;
}

void Fleet::UnderWay(Assignment& gang, absl::Duration now) {
  gang.under_way = now;
  // What its members took for pieces of fetching says nothing of steps.
  for (const std::string& member : gang.members) {
    if (const auto worker = workers_.find(member); worker != workers_.end()) worker->second.steps.clear();
  }
}

absl::Duration Fleet::LastProgress(const Worker& worker) const {
  const Assignment& assignment = assignments_.at(worker.assignment);
  if (!assignment.gang || assignment.under_way) return worker.progress_at;
  absl::Duration last = worker.progress_at;
  for (const std::string& member : assignment.members) {
    if (const auto other = workers_.find(member); other != workers_.end()) last = std::max(last, other->second.progress_at);
  }
  return last;
}

absl::Duration Fleet::StuckLimit(const Worker& worker) const {
  const Assignment& assignment = assignments_.at(worker.assignment);
  if (assignment.gang && !assignment.under_way) return options_.first_progress;
  if (worker.steps.size() < kKnownSteps) return options_.first_progress;
  std::vector<double> steps(worker.steps.begin(), worker.steps.end());
  const auto median = steps.begin() + static_cast<std::ptrdiff_t>(steps.size() / 2);
  std::nth_element(steps.begin(), median, steps.end());
  return std::max(options_.stuck_after, 20 * absl::Seconds(*median));
}

void Fleet::CheckTimeouts(absl::Duration now) {
  std::vector<std::pair<std::string, std::string>> lost;
  const absl::Duration least = std::min(options_.stuck_after, options_.first_progress);
  studies_.counters().looks += workers_.size();
  for (const auto& [name, worker] : workers_) {
    if (now - worker.last_beat > options_.lost_after) {
      lost.emplace_back(name,
                        absl::StrCat("no beat for ", absl::FormatDuration(now - worker.last_beat)));
      continue;
    }
    if (worker.assignment == 0) continue;
    if (now - worker.progress_at <= least) continue;
    const absl::Duration idle = now - LastProgress(worker);
    if (idle <= StuckLimit(worker)) continue;
    // A rank that waits for others is not to blame; they are, or the one that they wait for.
    if (!worker.waits_for.empty() && idle <= 2 * StuckLimit(worker)) continue;
    condemned_.insert(worker.assignment);
    lost.emplace_back(name, absl::StrCat("stuck: no progress for ", absl::FormatDuration(idle)));
  }
  for (const auto& [name, cause] : lost) {
    if (workers_.contains(name)) LoseWorker(name, absl::StrCat(cause, WhereIs(name)));
  }
}

std::string Fleet::WhereIs(const std::string& name) const {
  const Worker& worker = workers_.at(name);
  if (worker.assignment == 0) return "";
  const Assignment& assignment = assignments_.at(worker.assignment);
  if (!assignment.gang) return absl::StrCat(" in a task of study ", assignment.study);
  auto rank = assignment.ranks.find(name);
  std::string trial;
  if (const Study* study = studies_.FindStudy(assignment.study);
      study != nullptr && study->run != nullptr && study->run->sweep().trials().size() > 1) {
    if (const auto* training = study->run->sweep().FindActive(assignment.recipe)) {
      trial = absl::StrCat(", trial ", training->trial);
    }
  }
  return absl::StrCat(", study ", assignment.study, trial, ", recipe ",
                      assignment.recipe.short_hex(),
                      rank == assignment.ranks.end()
                          ? ""
                          : absl::StrCat(", rank ", rank->second, " of ", assignment.ranks.size()),
                      ", step ", assignment.step);
}

void Fleet::AccountTime(absl::Duration now) {
  const double seconds =
      last_look_ == absl::Duration() ? 0.0 : absl::ToDoubleSeconds(now - last_look_);
  for (auto& [id, study] : studies_.all()) study->workers = 0;
  Study* study = nullptr;  // Many of one follow each other.
  double each = 0;
  studies_.counters().looks += assignments_.size();
  for (const auto& [id, assignment] : assignments_) {
    if (assignment.question != 0) continue;  // Nobody's share pays for them.
    if (study == nullptr || study->id != assignment.study) {
      study = studies_.FindStudy(assignment.study);
      if (study == nullptr) continue;
      each = seconds / studies_.state().studies().at(study->id).priority;
    }
    const size_t workers = assignment.gang ? assignment.members.size() : 1;
    for (size_t k = 0; k < workers; ++k) study->used += each;
    study->workers += static_cast<uint32_t>(workers);
  }
}

std::string Fleet::CommonClass() const {
  std::map<std::string, int> classes;
  for (const auto& [name, worker] : workers_) ++classes[worker.hello.numerics_class()];
  std::string best;
  int most = 0;
  for (const auto& [name, count] : classes) {
    if (count > most) {
      best = name;
      most = count;
    }
  }
  return best;
}

}  // namespace dermis
