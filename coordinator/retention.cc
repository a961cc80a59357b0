#include "coordinator/retention.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

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
      // Any trial may still be taken; then only its models are evaluated and explained.
      if (sweep.chosen() && !sweep.IsFinal(k)) continue;
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
  batch_.AfterFlush([this, blobs = std::move(blobs)] { RemoveInTurn(blobs); });
}

Digest SplitDigest(const std::vector<uint32_t>& images) {
  std::string text;
  for (uint32_t image : images) absl::StrAppend(&text, image, ",");
  return Sha256Of(text);
}

Studies::Leavings Studies::LeavingsOf(const std::string& id) const {
  Leavings leavings;
  leavings.event.set_id(id);
  const StudyRecord& record = state_.studies().at(id);
  const Study& study = *studies_.at(id);
  if (study.run != nullptr) {
    const StudyRun::TestLook look = study.run->test_look();
    if (!look.models.empty()) leavings.event.set_test_split(SplitDigest(look.images).bytes());
    for (const Digest& model : look.models) leavings.event.add_test_models(model.bytes());
    for (const Digest& first : look.evaluations) {
      leavings.event.add_test_evaluations(first.bytes());
    }
  }
  const auto others_have = [&](const auto& have) {
    return std::any_of(studies_.begin(), studies_.end(), [&](const auto& other) {
      return other.first != id && have(other.first, *other.second);
    });
  };
  std::set<Digest> tasks, blobs;
  for (const auto& [task, stored] : state_.tasks()) {
    if (stored.blobs.empty() || !Has(study, task)) continue;
    if (others_have([this, &task = task](const std::string&, const Study& other) { return Has(other, task); })) {
      continue;
    }
    tasks.insert(task);
    blobs.insert(stored.blobs.begin(), stored.blobs.end());
  }
  for (const Digest& task : tasks) leavings.event.add_tasks(task.bytes());
  // A blob that another result names stays.
  std::erase_if(blobs, [&](const Digest& blob) {
    const std::vector<Digest> users = state_.UsersOf(blob);
    return std::any_of(users.begin(), users.end(),
                       [&](const Digest& user) { return !tasks.contains(user); });
  });
  for (const std::string& hex : {record.spec.training().init().digest(), record.spec.model().digest()}) {
    const absl::StatusOr<Digest> given = Digest::FromHex(hex);
    if (!hex.empty() && given.ok() && !state_.Names(*given)) blobs.insert(*given);
  }
  const auto manifest = manifests_.find(record.image_set);
  leavings.images = manifest != manifests_.end() &&
                    !others_have([&](const std::string& other, const Study&) {
                      const Digest& images = state_.studies().at(other).image_set;
                      // One that cannot be read now may have the same chunks.
                      return images == record.image_set || !manifests_.contains(images);
                    });
  if (leavings.images) {
    blobs.insert(record.image_set);
    for (const Digest& part : manifest->second.parts) {
      if (!others_have([&](const std::string& other, const Study&) {
            return manifests_.at(state_.studies().at(other).image_set).parts.contains(part);
          })) {
        blobs.insert(part);
      }
    }
  }
  for (const Digest& blob : blobs) {
    if (!blobs_.Has(blob)) continue;
    leavings.blobs.push_back(blob);
    leavings.bytes += blobs_.Size(blob);
  }
  return leavings;
}

void Studies::Delete(Leavings leavings) {
  for (const Digest& blob : leavings.blobs) leavings.event.add_blobs(blob.bytes());
  v1::Event event;
  *event.mutable_study_deleted() = std::move(leavings.event);
  Record(std::move(event));
  batch_.AfterFlush([this, blobs = std::move(leavings.blobs)] { RemoveInTurn(blobs); });
}

constexpr size_t kAtOnce = 32;
constexpr size_t kFew = 512;  // Of a picture: its results are blobs, too.

void Studies::RemoveInTurn(const std::vector<Digest>& blobs) {
  for (const Digest& blob : blobs) blobs_.Going(blob);
  // A few (a picture that somebody wants gone) do not wait for the thousands of another deletion.
  to_remove_.insert(blobs.size() <= kFew ? to_remove_.begin() : to_remove_.end(), blobs.begin(),
                    blobs.end());
  RemoveSome();
}

void Studies::RemoveSome() {
  for (size_t i = 0; i < kAtOnce && !to_remove_.empty(); ++i) {
    if (IsUsed(to_remove_.front())) {
      blobs_.Keep(to_remove_.front());
    } else {
      blobs_.RemoveGoing(to_remove_.front());
    }
    to_remove_.pop_front();
  }
}

bool Studies::IsStored(const Digest& image_set, const v1::ImageSetManifest& manifest) const {
  if (!blobs_.Has(image_set)) return false;
  const auto there = [this](const std::string& bytes) {
    const absl::StatusOr<Digest> part = Digest::FromBytes(bytes);
    return bytes.empty() || (part.ok() && blobs_.Has(*part));
  };
  return std::all_of(manifest.chunks().begin(), manifest.chunks().end(), [&](const v1::ImageChunk& chunk) {
    return there(chunk.pixels()) && there(chunk.masks()) && there(chunk.labels());
  });
}

std::vector<Digest> Studies::Gone() const {
  constexpr size_t kMost = 4096;
  std::vector<Digest> gone;
  for (auto blob = gone_.rbegin(); blob != gone_.rend() && gone.size() < kMost; ++blob) {
    if (!state_.Names(*blob) && !blobs_.Has(*blob)) gone.push_back(*blob);
  }
  return gone;
}

bool Studies::IsUsed(const Digest& blob) const {
  if (state_.Names(blob)) return true;
  const std::string hex = blob.hex();
  return std::any_of(state_.studies().begin(), state_.studies().end(), [&](const auto& study) {
    const StudyRecord& record = study.second;
    // Of images that cannot be read now, anything may be a part.
    const auto manifest = manifests_.find(record.image_set);
    return record.image_set == blob || manifest == manifests_.end() ||
           manifest->second.parts.contains(blob) || record.spec.training().init().digest() == hex ||
           record.spec.model().digest() == hex;
  });
}

}  // namespace dermis
