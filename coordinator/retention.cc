#include "coordinator/retention.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "common/log.h"
#include "coordinator/studies.h"

namespace dermis {

std::vector<uint64_t> SupersededSteps(const std::vector<uint64_t>& steps,
                                      const std::set<uint64_t>& pinned) {
  std::vector<uint64_t> superseded;
  std::optional<uint64_t> kept;
  for (size_t i = 0; i + 2 < steps.size(); ++i) {
    if (!kept || steps[i] >= 2 * *kept) {
      kept = steps[i];
    } else if (!pinned.contains(steps[i])) {
      superseded.push_back(steps[i]);
    }
  }
  return superseded;
}

std::set<uint64_t> Studies::PinnedSteps(const Digest& recipe) const {
  std::set<uint64_t> pinned;
  for (const auto& [id, study] : studies_) {
    if (study->run == nullptr || state_.studies().at(id).cancelled) continue;
    const SweepPlanner& sweep = study->run->sweep();
    const std::vector<uint32_t>* const trainings = sweep.Find(recipe);
    if (trainings == nullptr) continue;
    for (uint32_t k : *trainings) {
      const SweepPlanner::Training& training = sweep.training(k);
      // Any trial may still be taken; then only its model is evaluated and explained.
      if (sweep.chosen() && sweep.final_training() != &training) continue;
      if (const auto step = training.planner.target_step()) pinned.insert(*step);
    }
  }
  return pinned;
}

void Studies::RetireStates(const Digest& recipe) {
  const std::map<uint64_t, Digest>* const states = state_.StatesOf(recipe);
  if (states == nullptr) return;
  std::vector<uint64_t> steps;
  for (const auto& [step, task] : *states) {
    if (!state_.Find(task)->retired) steps.push_back(step);
  }
  std::vector<Digest> tasks;
  for (uint64_t step : SupersededSteps(steps, PinnedSteps(recipe)))
    tasks.push_back(states->at(step));
  Retire(tasks);
}

void Studies::RetireIdleStates(size_t most) {
  std::vector<std::pair<uint64_t, Digest>> idle;  // By age.
  for (const auto& [recipe, states] : state_.states()) {
    if (!Wanting(recipe).empty()) continue;
    const std::set<uint64_t> pinned = PinnedSteps(recipe);
    for (const auto& [step, task] : states) {
      const StoredTask& stored = *state_.Find(task);
      if (!stored.retired && !pinned.contains(step)) idle.emplace_back(stored.row, task);
    }
  }
  std::sort(idle.begin(), idle.end());
  if (idle.size() > most) idle.resize(most);
  std::vector<Digest> tasks;
  for (const auto& [row, task] : idle) tasks.push_back(task);
  if (!tasks.empty()) {
    DERMIS_LOG(kWarning, "the disk is almost full: ", tasks.size(),
               " training states that nobody goes on from are removed; if they are wanted again, "
               "they are computed again");
  }
  Retire(tasks);
}

void Studies::Retire(const std::vector<Digest>& tasks) {
  if (tasks.empty()) return;
  std::vector<Digest> blobs;
  v1::Event event;
  for (const Digest& task : tasks) {
    event.mutable_states_retired()->add_tasks(task.bytes());
    for (const Digest& blob : state_.Find(task)->blobs) blobs.push_back(blob);
  }
  Record(std::move(event));
  // Once it is durable: what is named then stays.
  batch_.AfterFlush([this, blobs = std::move(blobs)] {
    for (const Digest& blob : blobs) RemoveUnused(blob);
  });
}

void Studies::RemoveUnused(const Digest& blob) {
  if (state_.Names(blob)) return;
  for (const auto& [id, record] : state_.studies()) {
    if (record.spec.training().init().digest() == blob.hex()) return;
    if (record.spec.model().digest() == blob.hex()) return;
  }
  blobs_.Remove(blob);
}

}  // namespace dermis
