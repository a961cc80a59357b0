// Spot checks in the durable state: which units are computed by a second worker, what came of it,
// and what goes with a worker that was outvoted.
#include <algorithm>
#include <deque>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "coordinator/state.h"

namespace dermis {

bool OpenCheck::disputed() const {
  return std::any_of(votes.begin(), votes.end(),
                     [&](const auto& vote) { return vote.second != votes.begin()->second; });
}

std::optional<Digest> MajorityOf(const OpenCheck& check) {
  std::map<Digest, size_t> counts;
  for (const auto& [worker, payload] : check.votes) ++counts[payload];
  std::optional<Digest> best;
  size_t most = 1;
  for (const auto& [payload, count] : counts) {
    if (count > most) {
      most = count;
      best = payload;
    } else if (count == most) {
      best.reset();
    }
  }
  return best;
}

bool IsChosenForCheck(const Digest& task, double part) {
  uint64_t number = 0;  // The digest is as good as drawn at random, and everyone draws the same.
  for (int i = 0; i < 6; ++i) number = number << 8 | task.array()[static_cast<size_t>(i)];
  return static_cast<double>(number) < part * static_cast<double>(uint64_t{1} << 48);
}

const OpenCheck* State::FindCheck(const Digest& task) const {
  const auto it = checks_.find(task);
  return it == checks_.end() ? nullptr : &it->second;
}

void State::OpenCheckOf(const Digest& task, const v1::TaskCompleted& done) {
  const bool chosen = IsChosenForCheck(task, spot_checks_);
  auto it = checks_.find(task);  // Others may have differed before: of a result that was forgotten.
  if (it == checks_.end()) {
    if (!chosen) return;
    it = checks_.try_emplace(task).first;
  }
  StoredTask& stored = completed_.at(task);
  it->second.spec = done.spec();
  it->second.chosen = chosen;
  it->second.votes.try_emplace(done.attempt().worker(), stored.payload);
  stored.check = StoredTask::Check::kOpen;
  CloseIfAgreed(task);
}

void State::CloseIfAgreed(const Digest& task) {
  const auto it = checks_.find(task);
  if (it == checks_.end() || it->second.disputed()) return;
  const auto stored = completed_.find(task);
  if (it->second.votes.size() < 2) {
    if (it->second.chosen && stored != completed_.end()) return;  // A second worker is to come.
    if (stored != completed_.end()) stored->second.check = StoredTask::Check::kNone;
  } else if (stored != completed_.end()) {
    stored->second.check = StoredTask::Check::kSame;
  }
  checks_.erase(it);
}

absl::Status State::ApplyCompared(const v1::ResultCompared& compared) {
  ASSIGN_OR_RETURN(const Digest task, Digest::FromBytes(compared.task()));
  ASSIGN_OR_RETURN(const Digest payload, Digest::FromBytes(compared.payload()));
  const auto stored = completed_.find(task);
  const StoredTask* before = FindEver(task);
  if (before == nullptr) return absl::InternalError("a result is compared with none");
  auto [it, fresh] = checks_.try_emplace(task);
  if (fresh) {
    it->second.spec = compared.spec();
    it->second.votes[MakersOf(*before).front()] = before->payload;
    if (stored != completed_.end()) stored->second.check = StoredTask::Check::kOpen;
  }
  it->second.votes.try_emplace(compared.worker(), payload);
  CloseIfAgreed(task);
  return absl::OkStatus();
}

absl::Status State::ApplyWaived(const v1::ChecksWaived& waived) {
  for (const std::string& bytes : waived.tasks()) {
    ASSIGN_OR_RETURN(const Digest task, Digest::FromBytes(bytes));
    checks_.erase(task);
    if (auto it = completed_.find(task); it != completed_.end()) {
      it->second.check = StoredTask::Check::kWaived;
    }
  }
  return absl::OkStatus();
}

absl::Status State::ApplyQuarantined(uint64_t unix_ms, const v1::WorkerQuarantined& quarantined) {
  for (const std::string& bytes : quarantined.withdrawn()) {
    ASSIGN_OR_RETURN(const Digest task, Digest::FromBytes(bytes));
    Withdraw(task);
  }
  std::vector<Digest> voted;
  for (auto& [task, check] : checks_) {
    if (check.votes.erase(quarantined.worker()) > 0) voted.push_back(task);
  }
  for (const Digest& task : voted) CloseIfAgreed(task);
  std::erase_if(failures_,
                [&](const auto& failure) { return failure.second.worker == quarantined.worker(); });
  quarantined_[quarantined.worker()] = {quarantined.why(), unix_ms,
                                        static_cast<uint64_t>(quarantined.withdrawn_size())};
  return absl::OkStatus();
}

void State::Withdraw(const Digest& task) {
  if (const auto stored = completed_.find(task); stored != completed_.end()) {
    // What its blobs hold goes at the next start, unless somebody computes it again.
    deleted_blobs_.insert(stored->second.blobs.begin(), stored->second.blobs.end());
    ForgetTask(task);
  }
  forgotten_.erase(task);
  checks_.erase(task);
}

std::vector<Digest> State::ResultsThrough(const std::string& worker) const {
  // Forgotten results, too: what was computed from wrong ones comes out otherwise the next time.
  absl::flat_hash_map<Digest, const StoredTask*> all;
  for (const auto& [task, stored] : completed_) all[task] = &stored;
  for (const auto& [task, stored] : forgotten_) all.try_emplace(task, &stored);
  absl::flat_hash_map<Digest, std::vector<Digest>> users, trainings;  // By input; by recipe.
  std::set<Digest> through;
  std::deque<Digest> open;
  uint64_t first_row = 0;
  const auto add = [&](const Digest& task, const StoredTask& stored) {
    if (!through.insert(task).second) return;
    open.push_back(task);
    if (first_row == 0 || stored.row < first_row) first_row = stored.row;
  };
  for (const auto& [task, stored] : all) {
    for (const Digest& input : stored->inputs) users[input].push_back(task);
    if (!stored->recipe.none()) trainings[stored->recipe].push_back(task);
    const std::vector<std::string>& makers = MakersOf(*stored);
    if (std::find(makers.begin(), makers.end(), worker) != makers.end()) add(task, *stored);
  }
  if (!through.empty()) {
    for (const auto& [task, stored] : all) {
      // Of an older journal: it may come from any of them.
      if (stored->inputs_unknown && stored->row > first_row) add(task, *stored);
    }
  }
  while (!open.empty()) {
    const Digest task = open.front();
    open.pop_front();
    if (const auto it = users.find(task); it != users.end()) {
      for (const Digest& user : it->second) add(user, *all.at(user));
    }
    const StoredTask& stored = *all.at(task);
    if (stored.recipe.none()) continue;
    // A later state may come from it.
    for (const Digest& other : trainings.at(stored.recipe)) {
      if (all.at(other)->step > stored.step) add(other, *all.at(other));
    }
  }
  return std::vector<Digest>(through.begin(), through.end());
}

bool State::Stands(const v1::UsedResult& used) const {
  const absl::StatusOr<Digest> task = Digest::FromBytes(used.task());
  const absl::StatusOr<Digest> payload = Digest::FromBytes(used.payload());
  if (!task.ok() || !payload.ok()) return false;
  const StoredTask* stored = FindEver(*task);
  if (stored == nullptr) return false;
  if (stored->recipe.none()) return stored->payload == *payload;
  return std::find(stored->blobs.begin(), stored->blobs.end(), *payload) != stored->blobs.end();
}

}  // namespace dermis
