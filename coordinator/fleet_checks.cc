// Spot checks: who makes them, when they are waived, and workers that were found wrong.
#include <algorithm>

#include "absl/strings/str_cat.h"

#include "common/log.h"
#include "common/tasks.h"
#include "coordinator/fleet.h"

namespace dermis {
namespace {

constexpr uint32_t kCheckTries = 3;

}  // namespace

bool Fleet::MayCheck(const OpenCheck& check, const Worker& worker) const {
  return worker.hello.numerics_class() == check.spec.numerics_class() && !worker.draining &&
         !Expelled(worker) && !check.votes.contains(worker.hello.worker());
}

void Fleet::GiveOutChecks(absl::Duration now, bool urgent) {
  if (studies_.state().checks().empty()) return;
  for (const auto& [id, study] : studies_.all()) {
    if (study->checks.empty() || studies_.Paused(id)) continue;
    if (urgent && (study->run == nullptr || !study->run->done())) continue;
    for (const Digest& task : study->checks) {
      if (idle_.empty()) return;
      ++studies_.counters().looks;
      const auto work = check_works_.find(task);
      if (work != check_works_.end() &&
          (work->second.assignment != 0 || work->second.not_before > now)) {
        continue;
      }
      const OpenCheck* check = studies_.state().FindCheck(task);
      if (check == nullptr || (MajorityOf(*check) && check->disputed())) continue;
      // On another host than the first result's, where there is one.
      std::set<std::string> hosts;
      for (const auto& [voter, payload] : check->votes) {
        if (const auto it = workers_.find(voter); it != workers_.end()) {
          hosts.insert(it->second.hello.host());
        }
      }
      const bool elsewhere = std::any_of(workers_.begin(), workers_.end(), [&](const auto& entry) {
        return MayCheck(*check, entry.second) && !Quarantined(entry.first) &&
               !hosts.contains(entry.second.hello.host());
      });
      const auto idle = idle_.find(check->spec.numerics_class());
      if (idle == idle_.end()) continue;
      const auto taker = std::find_if(idle->second.begin(), idle->second.end(), [&](const std::string& name) {
        ++studies_.counters().looks;
        const Worker& worker = workers_.at(name);
        return Free(worker) && !Quarantined(name) && MayCheck(*check, worker) &&
               !(elsewhere && hosts.contains(worker.hello.host()));
      });
      if (taker != idle->second.end()) StartCheck(task, *check, *study, *taker, now);
    }
  }
}

void Fleet::StartCheck(const Digest& task, const OpenCheck& check, Study& study, std::string name,
                       absl::Duration now) {
  Assignment& assignment = SendUnits(study, name, {task}, {&check.spec}, now);
  assignment.check = true;
  check_works_[task].assignment = assignment.id;
}

void Fleet::WaiveChecks(absl::Duration now) {
  std::erase_if(check_works_, [&](const auto& work) {
    return work.second.assignment == 0 && studies_.state().FindCheck(work.first) == nullptr;
  });
  std::map<std::string, int> sound;
  studies_.counters().looks += workers_.size();
  for (const auto& [name, worker] : workers_) {
    if (!Quarantined(name) && !worker.draining) ++sound[worker.hello.numerics_class()];
  }
  for (const auto& [numerics_class, count] : sound) {
    if (count >= 2) company_[numerics_class] = now;
  }
  std::map<std::string, v1::ChecksWaived> waived;  // By reason.
  std::set<Digest> seen;
  for (const auto& [id, study] : studies_.all()) {
    if (study->checks.empty() || study->run == nullptr || !study->run->done() ||
        studies_.Paused(id)) {
      checks_since_.erase(id);
      continue;
    }
    const absl::Duration since = checks_since_.try_emplace(id, now).first->second;
    const std::string& numerics_class = studies_.state().studies().at(id).numerics_class;
    const auto company = company_.find(numerics_class);
    const absl::Duration last =
        std::max(opened_, company == company_.end() ? -absl::InfiniteDuration() : company->second);
    for (const Digest& task : study->checks) {
      const OpenCheck* check = studies_.state().FindCheck(task);
      if (check == nullptr || check->disputed() || !seen.insert(task).second) continue;
      const auto work = check_works_.find(task);
      if (work != check_works_.end() && work->second.assignment != 0) continue;
      std::string why;
      if (work != check_works_.end() && work->second.tries >= kCheckTries) {
        why = absl::StrCat("it failed ", work->second.tries, " times");
      } else if (now - last > options_.company &&
                 std::none_of(workers_.begin(), workers_.end(), [&](const auto& worker) {
                   return MayCheck(*check, worker.second) && !Quarantined(worker.first);
                 })) {
        why = "no second worker of its numerics class is there";
      } else if (now - since > options_.check_wait) {
        why = absl::StrCat("no worker was free for ", absl::FormatDuration(options_.check_wait));
      } else {
        continue;
      }
      waived[why].add_tasks(task.bytes());
    }
  }
  for (auto& [why, event] : waived) {
    DERMIS_LOG(kWarning, event.tasks_size(), " spot checks are not made: ", why);
    event.set_why(why);
    v1::Event outer;
    *outer.mutable_checks_waived() = std::move(event);
    studies_.Record(std::move(outer));
  }
}

void Fleet::Expel(const std::string& name, const std::set<Digest>& recipes) {
  const std::string why = absl::StrCat("worker ", name, " is quarantined for wrong results");
  if (const auto it = workers_.find(name); it != workers_.end()) {
    if (const auto held = assignments_.find(it->second.assignment); held != assignments_.end()) {
      Assignment& assignment = held->second;
      if (!assignment.gang) {
        for (const Digest& task : Remaining(assignment)) {
          studies_.Release(task, studies_.units().at(task), false);
        }
      }
      Doom(assignment, why);
    }
  }
  for (auto& [id, assignment] : assignments_) {
    if (assignment.gang && recipes.contains(assignment.recipe)) Doom(assignment, why);
  }
  StopUnwanted();
}

}  // namespace dermis
