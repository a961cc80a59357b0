// Questions about single images come before all other work: to whoever is free, and where nobody
// is, to workers that leave the rest of their bundle for it, or a gang that stores its state and
// parts.
#include <algorithm>
#include <set>
#include <utility>

#include "common/log.h"
#include "coordinator/fleet.h"

namespace dermis {
namespace {

// A bundle of a question: short, for all workers to have a part of it, and what comes first to be
// told first.
constexpr double kBundleSeconds = 0.25;
constexpr size_t kMostTasks = 64;
// Who was told to yield so long ago is at something long: others are asked, too.
constexpr absl::Duration kSoon = absl::Seconds(3);

}  // namespace

void Fleet::GiveOutQuestions(absl::Duration now) {
  studies_.counters().looks += question_assignments_.size();
  for (const uint64_t id : question_assignments_) {
    Assignment& assignment = assignments_.at(id);
    if (questions_.Has(assignment.question)) continue;
    Doom(assignment, "whoever asked has the answer, or has gone");
  }
  if (questions_.size() == 0) return;
  const std::set<std::string> suspects = Suspects();
  for (const auto& [numerics_class, here] : classes_) {
    size_t ready = questions_.Ready(numerics_class, now);
    if (ready == 0) continue;
    std::vector<std::string> sound, all;
    if (const auto idle = idle_.find(numerics_class); idle != idle_.end()) {
      studies_.counters().looks += idle->second.size();
      for (const std::string& name : idle->second) {
        if (!Free(workers_.at(name))) continue;
        all.push_back(name);
        if (!suspects.contains(name)) sound.push_back(name);
      }
    }
    const auto doubtful = std::count_if(suspects.begin(), suspects.end(), [&, &numerics_class = numerics_class](const auto& name) {
      return workers_.at(name).hello.numerics_class() == numerics_class;
    });
    // Sound ones alone where there are some, free or not.
    std::vector<std::string>& free = here > static_cast<uint32_t>(doubtful) ? sound : all;
    while (!free.empty()) {
      const std::string name = free.back();
      const size_t threads = std::max(1u, workers_.at(name).hello.threads());
      const uint64_t id = NewAssignment();
      auto bundle = questions_.Take({name, numerics_class, here > 1, &free}, now, id,
                                    [&](v1::TaskSpec::KindCase kind) {
                                      return UnitsOfAQuestion(kind, threads);
                                    });
      free.pop_back();
      if (bundle) SendQuestion(*std::move(bundle), name, id, now);
    }
    ready = questions_.Ready(numerics_class, now);
    if (ready > 0) MakeRoomForQuestions(numerics_class, ready, now);
  }
}

size_t Fleet::UnitsOfAQuestion(v1::TaskSpec::KindCase kind, size_t threads) const {
  const auto known = unit_seconds_.find(kind);
  if (known == unit_seconds_.end()) return threads;
  const double units = kBundleSeconds / std::max(known->second, 1e-4);
  return std::clamp(static_cast<size_t>(units), std::min(threads, kMostTasks), kMostTasks);
}

bool Fleet::IsOfQuestion(const std::string& worker, const Digest& task) const {
  const auto at = workers_.find(worker);
  if (at == workers_.end() || !question_assignments_.contains(at->second.assignment)) return false;
  const std::vector<Digest>& tasks = assignments_.at(at->second.assignment).tasks;
  return std::find(tasks.begin(), tasks.end(), task) != tasks.end();
}

void Fleet::SendQuestion(Questions::Bundle bundle, const std::string& name, uint64_t id,
                         absl::Duration now) {
  Assignment& assignment = assignments_[id];
  question_assignments_.insert(id);
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

void Fleet::MakeRoomForQuestions(const std::string& numerics_class, size_t ready,
                                 absl::Duration now) {
  const std::string why = "an image is to be explained";
  size_t coming = 0;  // Will be free in a moment.
  std::vector<uint64_t> bundles;
  std::set<uint64_t> gangs;
  studies_.counters().looks += workers_.size();
  for (const auto& [name, worker] : workers_) {
    if (worker.hello.numerics_class() != numerics_class || worker.assignment == 0) continue;
    const Assignment& assignment = assignments_.at(worker.assignment);
    const bool familiarity = assignment.question != 0 && assignment.tasks[0].none();
    if (assignment.yielding || assignment.doomed) {
      if (now - worker.told < kSoon) ++coming;
    } else if (assignment.question != 0) {
      if (!familiarity) ++coming;  // Which may take as long as the features of all images do.
    } else if (assignment.gang) {
      gangs.insert(assignment.id);
    } else {
      bundles.push_back(assignment.id);
    }
  }
  for (const uint64_t id : bundles) {
    if (coming >= ready) return;
    Yield(assignments_.at(id), why);
    ++coming;
  }
  if (coming > 0 || gangs.empty()) return;
  // The smallest one: its training loses least.
  const uint64_t smallest =
      *std::min_element(gangs.begin(), gangs.end(), [&](uint64_t a, uint64_t b) {
        return assignments_.at(a).members.size() < assignments_.at(b).members.size();
      });
  Yield(assignments_.at(smallest), why);
}

}  // namespace dermis
