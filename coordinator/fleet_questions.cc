// Questions about single images come before all other work: to whoever is free, and where nobody
// is, to workers that leave the rest of their bundle for it, or a gang that stores its state and
// parts.
#include <algorithm>
#include <map>
#include <set>

#include "common/log.h"
#include "coordinator/fleet.h"

namespace dermis {
namespace {

// A bundle of a question: short, for all workers to have a part of it, and what comes first to be
// told first.
constexpr double kBundleSeconds = 0.25;
constexpr size_t kMostTasks = 64;

}  // namespace

void Fleet::GiveOutQuestions(absl::Duration now) {
  for (auto& [id, assignment] : assignments_) {
    if (assignment.question == 0 || assignment.doomed || questions_.Has(assignment.question))
      continue;
    assignment.doomed = true;
    assignment.why = "whoever asked has the answer, or has gone";
    const auto worker = workers_.find(assignment.worker);
    if (worker == workers_.end()) continue;
    worker->second.told = now;
    batch_.SendCancel(worker->second.connection, id, assignment.why);
  }
  if (questions_.size() == 0) return;
  std::map<std::string, std::vector<std::string>>
      free;  // By class; sound ones alone where there are some.
  std::set<std::string> classes, sound;
  for (const auto& [name, worker] : workers_) {
    classes.insert(worker.hello.numerics_class());
    if (!Quarantined(name)) sound.insert(worker.hello.numerics_class());
  }
  for (const auto& [name, worker] : workers_) {
    const std::string& numerics_class = worker.hello.numerics_class();
    if (Free(worker) && (!Quarantined(name) || !sound.contains(numerics_class))) {
      free[numerics_class].push_back(name);
    }
  }
  for (auto& [numerics_class, names] : free) {
    for (size_t left = names.size(); left > 0; --left) {
      const std::string& name = names[left - 1];
      const size_t threads = std::max(1u, workers_.at(name).hello.threads());
      const uint64_t id = NewAssignment();
      auto bundle =
          questions_.Take(numerics_class, left, now, id, [&](v1::TaskSpec::KindCase kind) {
            const auto known = unit_seconds_.find(kind);
            if (known == unit_seconds_.end()) return threads;
            const double units = kBundleSeconds / std::max(known->second, 1e-4);
            return std::clamp(static_cast<size_t>(units), std::min(threads, kMostTasks),
                              kMostTasks);
          });
      if (!bundle) break;
      SendQuestion(*std::move(bundle), name, id, now);
    }
  }
  for (const std::string& numerics_class : classes) MakeRoomForQuestions(numerics_class, now);
}

void Fleet::SendQuestion(Questions::Bundle bundle, const std::string& name, uint64_t id,
                         absl::Duration now) {
  Assignment& assignment = assignments_[id];
  assignment.id = id;
  assignment.study = bundle.study;
  assignment.question = bundle.question;
  assignment.started = now;
  assignment.worker = name;
  assignment.kind = bundle.kind;
  assignment.tasks = std::move(bundle.tasks);
  v1::Directive directive;
  directive.mutable_assign()->set_assignment(id);
  *directive.mutable_assign()->mutable_bundle() = std::move(bundle.bundle);
  Worker& worker = workers_.at(name);
  Occupy(worker, id, now);
  studies_.Touch(assignment.study);
  batch_.Send(worker.connection, std::move(directive));
}

void Fleet::MakeRoomForQuestions(const std::string& numerics_class, absl::Duration now) {
  if (!questions_.Waiting(numerics_class, now)) return;
  const std::string why = "an image is to be explained";
  bool coming = false;  // Somebody will be free in a moment.
  std::set<uint64_t> gangs;
  for (const auto& [name, worker] : workers_) {
    if (worker.hello.numerics_class() != numerics_class || worker.assignment == 0) continue;
    Assignment& assignment = assignments_.at(worker.assignment);
    if (assignment.gang) {
      coming |= assignment.yielding || assignment.doomed;
      gangs.insert(assignment.id);
      continue;
    }
    coming = true;
    if (assignment.question != 0 || assignment.yielding || assignment.doomed) continue;
    assignment.yielding = true;
    assignment.why = why;
    workers_.at(name).told = now;
    batch_.SendYield(worker.connection, assignment.id, why);
  }
  if (coming || gangs.empty()) return;
  // The smallest one: its training loses least.
  const uint64_t smallest =
      *std::min_element(gangs.begin(), gangs.end(), [&](uint64_t a, uint64_t b) {
        return assignments_.at(a).members.size() < assignments_.at(b).members.size();
      });
  YieldGang(assignments_.at(smallest), why);
}

}  // namespace dermis
