// How attempts end: as they should, by an error, by a loss; and what is counted against whom.
#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/log.h"
#include "common/tasks.h"
#include "coordinator/fleet.h"

namespace dermis {
namespace {

constexpr absl::Duration kQuarantine = absl::Minutes(10);
constexpr size_t kStrikes = 3;

}  // namespace

void Fleet::BundleEnded(const std::string& name, Worker& worker, Assignment& assignment,
                        const v1::AttemptEnded& ended) {
  if (assignment.question != 0) {
    questions_.Ended(assignment.question, assignment.id, name, ended, clock_.Now());
    SetFree(worker);
    EraseAssignment(assignment.id);
    return;
  }
  const std::vector<Digest> remaining = Remaining(assignment);
  const size_t done = assignment.tasks.size() - remaining.size();
  if (ended.outcome() == v1::OUTCOME_DONE && done > 0 && !assignment.adopted) {
    const double seconds =
        absl::ToDoubleSeconds(clock_.Now() - assignment.started) / static_cast<double>(done);
    auto [it, fresh] = unit_seconds_.try_emplace(assignment.kind, seconds);
    if (!fresh) it->second += 0.3 * (seconds - it->second);
  }
  std::optional<Digest> culprit;
  if (ended.outcome() == v1::OUTCOME_FAILED) {
    const absl::StatusOr<Digest> named = Digest::FromBytes(ended.task());
    if (named.ok() && std::find(remaining.begin(), remaining.end(), *named) != remaining.end()) {
      culprit = *named;
    } else if (remaining.size() == 1) {
      culprit = remaining[0];
    }
  }
  const bool unclear = ended.outcome() == v1::OUTCOME_FAILED && !culprit;
  const bool back_off = ended.outcome() != v1::OUTCOME_YIELDED && !culprit;
  SetFree(worker);
  for (auto it = remaining.rbegin(); it != remaining.rend(); ++it) {
    Unit& unit = studies_.units().at(*it);
    if (culprit == *it) continue;
    if (unclear) unit.single = true;
    if (ended.outcome() == v1::OUTCOME_UNAVAILABLE) studies_.Avoid(unit, name);
    studies_.Release(*it, unit, back_off);
  }
  if (assignment.check && ended.outcome() != v1::OUTCOME_DONE) {
    CheckWork& work = check_works_[assignment.tasks[0]];
    work.not_before = clock_.Now() + BackOff(work.tries);
    if (ended.outcome() != v1::OUTCOME_YIELDED) ++work.tries;
  }
  EraseAssignment(assignment.id);
  if (culprit) {
    const std::set<std::string> studies = studies_.units().at(*culprit).studies;
    studies_.units().at(*culprit).assignment = 0;
    studies_.Fail(*culprit, studies, ended.cause(), name);
  }
}

void Fleet::GangMemberEnded(const std::string& name, Worker& worker, Assignment& gang,
                            const v1::AttemptEnded& ended) {
  gang.members.erase(name);
  SetFree(worker);
  const std::string cause =
      absl::StrCat("worker ", name, " ended: ", v1::Outcome_Name(ended.outcome()),
                   ended.cause().empty() ? "" : ", ", ended.cause());
  switch (ended.outcome()) {
    case v1::OUTCOME_DONE:
      break;
    case v1::OUTCOME_YIELDED:
      // It drains. All ranks stop at the same step, and rank 0 may be storing the state now.
      Yield(gang, cause);
      break;
    case v1::OUTCOME_FAILED:
      // A rank calls only its own error a failure: what a lost peer or a cancel does to it has
      // other names. So it stands although others, whom it told, may have been heard first.
      studies_.Fail(gang.recipe, studies_.Wanting(gang.recipe), ended.cause(), name);
      Doom(gang, cause);
      break;
    case v1::OUTCOME_UNAVAILABLE:
      works_[gang.recipe].avoid.insert(name);
      Doom(gang, cause);
      break;
    default:
      Doom(gang, cause);
      break;
  }
  if (gang.members.empty()) FinishGang(gang);
}

void Fleet::FinishGang(Assignment& gang) {
  RecipeWork& work = works_[gang.recipe];
  if (work.assignment == gang.id) work.assignment = 0;
  // It waits again, for whoever still wants it.
  for (auto& [id, front] : fronts_) {
    const Study* study = studies_.FindStudy(id);
    if (study == nullptr || study->run == nullptr || study->run->sweep().FindActive(gang.recipe) == nullptr) continue;
    front.training = std::min(front.training, study->run->sweep().Find(gang.recipe)->front());
  }
  const bool advanced = studies_.state().StatesStored(gang.recipe) > gang.states_before;
  if (!advanced && !(gang.yielding && !gang.doomed)) {
    work.not_before = clock_.Now() + BackOff(work.back_offs++);
  }
  EraseAssignment(gang.id);
}

std::vector<Worker*> Fleet::WorkersOf(const Assignment& assignment) {
  std::vector<Worker*> workers;
  const auto add = [&](const std::string& name) {
    if (const auto it = workers_.find(name); it != workers_.end()) workers.push_back(&it->second);
  };
  for (const std::string& member : assignment.members) add(member);
  if (!assignment.gang) add(assignment.worker);
  return workers;
}

void Fleet::Doom(Assignment& assignment, const std::string& why) {
  if (assignment.doomed) return;
  assignment.doomed = true;
  assignment.why = why;
  for (Worker* const worker : WorkersOf(assignment)) {
    worker->told = clock_.Now();
    // What it waited for is gone: it is not stuck for that.
    if (assignment.gang && !assignment.under_way) worker->progress_at = clock_.Now();
    batch_.SendCancel(worker->connection, assignment.id, why);
  }
}

void Fleet::Yield(Assignment& assignment, const std::string& why) {
  if (assignment.yielding || assignment.doomed) return;
  assignment.yielding = true;
  assignment.why = why;
  if (assignment.gang) {
    DERMIS_LOG(kInfo, "study ", assignment.study, ": its gang of ", assignment.members.size(),
               " yields: ", why);
  }
  for (Worker* const worker : WorkersOf(assignment)) {
    worker->told = clock_.Now();
    batch_.SendYield(worker->connection, assignment.id, why);
  }
}

void Fleet::Leave(uint64_t id, const std::string& name) {
  auto it = assignments_.find(id);
  if (it == assignments_.end()) return;
  if (auto worker = workers_.find(name);
      worker != workers_.end() && worker->second.assignment == id) {
    SetFree(worker->second);
  }
  Assignment& assignment = it->second;
  if (assignment.gang) {
    assignment.members.erase(name);
    Doom(assignment, absl::StrCat("worker ", name, " does not run it any more"));
    if (assignment.members.empty()) FinishGang(assignment);
    return;
  }
  const std::vector<Digest> remaining = Remaining(assignment);
  for (auto task = remaining.rbegin(); task != remaining.rend(); ++task) {
    studies_.Release(*task, studies_.units().at(*task), false);
  }
  EraseAssignment(id);
}

void Fleet::LoseWorker(std::string name, const std::string& cause) {
  auto it = workers_.find(name);
  const uint64_t id = it->second.assignment;
  const std::string numerics_class = it->second.hello.numerics_class();
  const bool draining = it->second.draining;
  batch_.Close(it->second.connection, cause);
  Remove(name);
  studies_.TouchClass(numerics_class);
  if (id == 0) {
    DERMIS_LOG(kInfo, "idle worker ", name, " left: ", cause);
    return;
  }
  DERMIS_LOG(kWarning, "worker ", name, " lost while it worked: ", cause);
  Assignment& assignment = assignments_.at(id);
  if (assignment.gang) {
    const bool counts = !assignment.doomed && !draining;
    const Digest recipe = assignment.recipe;
    const bool alone = assignment.world == 1;
    assignment.members.erase(name);
    Doom(assignment, absl::StrCat("worker ", name, " was lost: ", cause));
    if (assignment.members.empty()) FinishGang(assignment);
    if (counts) {
      works_[recipe].avoid = {name};
      RecordLoss(recipe, studies_.Wanting(recipe), name, numerics_class, cause, alone);
      Strike(name, recipe, numerics_class);
    }
    return;
  }
  const std::vector<Digest> remaining = Remaining(assignment);
  const bool counts = !assignment.doomed && !draining;
  EraseAssignment(id);
  for (auto task = remaining.rbegin(); task != remaining.rend(); ++task) {
    Unit& unit = studies_.units().at(*task);
    studies_.Avoid(unit, name);
    studies_.Release(*task, unit, false);
  }
  if (!counts || remaining.empty()) return;
  for (const Digest& task : remaining) {
    RecordLoss(task, studies_.units().at(task).studies, name, numerics_class, cause,
               remaining.size() == 1);
  }
  Strike(name, remaining[0], numerics_class);
}

void Fleet::RecordLoss(const Digest& task, const std::set<std::string> studies,
                       const std::string& worker, const std::string& numerics_class,
                       const std::string& cause, bool alone) {
  ++studies_.counters().losses;
  v1::Event event;
  v1::AttemptLost& lost = *event.mutable_attempt_lost();
  lost.set_task(task.bytes());
  lost.set_worker(worker);
  lost.set_cause(cause);
  lost.set_alone(alone);
  studies_.Record(std::move(event));
  const LossRecord* losses = studies_.state().LossesOf(task);
  if (losses == nullptr || losses->alone < kPoison) return;
  // On two workers where there are two.
  if (losses->workers.size() < 2) {
    for (const auto& [name, other] : workers_) {
      if (other.hello.numerics_class() == numerics_class && !losses->workers.contains(name)) {
        return;
      }
    }
  }
  studies_.Fail(
      task, studies,
      absl::StrCat("its worker was lost ", losses->alone, " times while it ran nothing else (on ",
                   absl::StrJoin(losses->workers, ", "), "), the last time: ", cause),
      worker);
}

void Fleet::Strike(const std::string& name, const Digest& task, const std::string& numerics_class) {
  auto [it, fresh] = histories_.try_emplace(name);
  History& history = it->second;
  if (fresh) history.completions_before = studies_.counters().completions;
  history.lost.insert(task);
  if (history.lost.size() < kStrikes ||
      studies_.counters().completions == history.completions_before) {
    return;
  }
  const bool others = std::any_of(workers_.begin(), workers_.end(), [&](const auto& other) {
    return other.first != name && other.second.hello.numerics_class() == numerics_class &&
           !Quarantined(other.first);
  });
  if (!others) return;
  history.quarantined_until = clock_.Now() + kQuarantine;
  struck_.insert(name);
  DERMIS_LOG(
      kError, "worker ", name, " lost ", history.lost.size(),
      " different tasks while others succeed: quarantined for 10 minutes. Look at its host.");
}

bool Fleet::Quarantined(const std::string& name) const {
  if (studies_.state().IsQuarantined(name)) return true;
  auto it = histories_.find(name);
  return it != histories_.end() && it->second.quarantined_until > clock_.Now();
}

void Fleet::StopUnwanted() {
  for (auto& [id, assignment] : assignments_) {
    if (assignment.doomed || assignment.yielding || assignment.question != 0) continue;
    if (assignment.gang) {
      YieldUnwanted(assignment);
      continue;
    }
    if (assignment.check && studies_.state().FindCheck(assignment.tasks[0]) != nullptr) continue;
    const std::vector<Digest> remaining = Remaining(assignment);
    if (std::none_of(remaining.begin(), remaining.end(), [&](const Digest& task) {
          return studies_.IsToBeRun(studies_.units().at(task));
        })) {
      Doom(assignment, "no study that is not paused wants it any more");
    }
  }
}

void Fleet::StopTrained(const std::vector<Digest>& recipes) {
  for (const Digest& recipe : recipes) {
    const auto work = works_.find(recipe);
    if (work == works_.end() || work->second.assignment == 0) continue;
    Assignment& gang = assignments_.at(work->second.assignment);
    if (!gang.doomed && !gang.yielding) YieldUnwanted(gang);
  }
}

void Fleet::YieldUnwanted(Assignment& gang) {
  if (!studies_.IsToBeTrained(gang.recipe)) {
    Yield(gang, "no study that is not paused wants it any more");
  }
}

void Fleet::EraseAssignment(uint64_t id) {
  const Assignment& assignment = assignments_.at(id);
  studies_.Touch(assignment.study);
  if (assignment.question != 0) {
    questions_.GiveBack(assignment.question, id, assignment.worker, true, clock_.Now());
    question_assignments_.erase(id);
  }
  if (assignment.check) {
    CheckWork& work = check_works_[assignment.tasks[0]];
    if (work.assignment == id) work.assignment = 0;
  }
  gangs_.erase(id);
  assignments_.erase(id);
  ++freed_;
}

std::vector<Digest> Fleet::Remaining(const Assignment& assignment) const {
  std::vector<Digest> tasks;
  for (const Digest& task : assignment.tasks) {
    auto it = studies_.units().find(task);
    if (it != studies_.units().end() && it->second.assignment == assignment.id)
      tasks.push_back(task);
  }
  return tasks;
}

}  // namespace dermis
