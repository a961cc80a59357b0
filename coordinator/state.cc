#include "coordinator/state.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/status_macros.h"
#include "common/tasks.h"

namespace dermis {

namespace {

Brought BroughtBy(const v1::StudySubmitted& submitted, const Digest& image_set) {
  Brought brings;
  brings.images = image_set;
  brings.model = GivenTo(submitted.spec()).value_or(Digest());
  brings.image_blobs = submitted.image_blobs();
  brings.image_bytes = submitted.image_bytes();
  brings.model_bytes = submitted.model_bytes();
  return brings;
}

}  // namespace

absl::StatusOr<Digest> GivenTo(const v1::StudySpec& spec) {
  const std::string& hex = spec.has_model() ? spec.model().digest() : spec.training().init().digest();
  if (hex.empty()) return Digest();
  return Digest::FromHex(hex);
}

absl::Status State::Apply(uint64_t row, const JournalEntry& entry) {
  const v1::Event& event = entry.event;
  switch (event.kind_case()) {
    case v1::Event::kStarted:
      incarnation_ = event.started().incarnation();
      spot_checks_ = event.started().spot_checks();
      return absl::OkStatus();
    case v1::Event::kStudySubmitted: {
      const v1::StudySubmitted& submitted = event.study_submitted();
      ASSIGN_OR_RETURN(Digest image_set, Digest::FromBytes(submitted.image_set()));
      auto [it, fresh] = studies_.try_emplace(submitted.id());
      StudyRecord& study = it->second;
      if (fresh) {
        study.order = ++submitted_;
        study.row = row;
      }
      study.id = submitted.id();
      study.spec = submitted.spec();
      study.image_set = image_set;
      study.numerics_class = submitted.numerics_class();
      study.user = submitted.user();
      study.brings = BroughtBy(submitted, image_set);
      study.submitted_unix_ms = event.unix_ms();
      study.cancelled = false;
      study.paused = false;
      return absl::OkStatus();
    }
    case v1::Event::kStudyPinned: {
      auto it = studies_.find(event.study_pinned().id());
      if (it == studies_.end()) return absl::InternalError("an unknown study is pinned");
      it->second.numerics_class = event.study_pinned().numerics_class();
      return absl::OkStatus();
    }
    case v1::Event::kStudyCancelled: {
      auto it = studies_.find(event.study_cancelled().id());
      if (it == studies_.end()) return absl::InternalError("an unknown study is cancelled");
      it->second.cancelled = true;
      return absl::OkStatus();
    }
    case v1::Event::kTaskCompleted: {
      const v1::TaskCompleted& done = event.task_completed();
      StoredTask stored;
      ASSIGN_OR_RETURN(stored.payload, Digest::FromBytes(done.result().payload_digest()));
      stored.row = row;
      stored.bytes = static_cast<uint32_t>(done.result().payload().size());
      stored.makers = MakersIndex(done.attempt());
      for (const v1::UsedResult& used : done.inputs()) {
        ASSIGN_OR_RETURN(Digest input, Digest::FromBytes(used.task()));
        stored.inputs.push_back(input);
      }
      stored.inputs_unknown = stored.inputs.empty() && UsesResults(done.spec());
      for (const std::string& blob : done.result().blobs()) {
        ASSIGN_OR_RETURN(Digest digest, Digest::FromBytes(blob));
        stored.blobs.push_back(digest);
      }
      if (!done.result().payload_blob().empty()) {
        ASSIGN_OR_RETURN(Digest digest, Digest::FromBytes(done.result().payload_blob()));
        stored.blobs.push_back(digest);
      }
      const auto before = completed_.find(entry.task);
      if (before != completed_.end()) {
        if (!before->second.retired) {
          return absl::InternalError(
              absl::StrCat("row ", row, ": a second result of task ", entry.task.short_hex()));
        }
        stored.row = before->second.row;  // What was known when stays as it was.
        for (const Digest& blob : before->second.blobs) Unname(blob, entry.task);
      }
      for (const Digest& blob : stored.blobs) users_[blob].push_back(entry.task);
      forgotten_.erase(entry.task);
      if (done.spec().has_train()) {
        ASSIGN_OR_RETURN(stored.recipe,
                         RecipeDigest(done.spec().train().recipe(), done.spec().numerics_class()));
        stored.step = done.spec().train().step();
      }
      const Digest recipe = stored.recipe;
      completed_[entry.task] = std::move(stored);
      if (!losses_.empty()) losses_.erase(entry.task);
      if (done.spec().has_train()) {
        states_[recipe][done.spec().train().step()] = entry.task;
        ++states_stored_[recipe];
        losses_.erase(recipe);
      } else {
        OpenCheckOf(entry.task, done);
      }
      return absl::OkStatus();
    }
    case v1::Event::kAttemptLost: {
      ASSIGN_OR_RETURN(Digest task, Digest::FromBytes(event.attempt_lost().task()));
      LossRecord& losses = losses_[task];
      if (event.attempt_lost().alone()) {
        ++losses.alone;
        losses.workers.insert(event.attempt_lost().worker());
      } else {
        ++losses.shared;
      }
      return absl::OkStatus();
    }
    case v1::Event::kTaskFailed: {
      ASSIGN_OR_RETURN(Digest task, Digest::FromBytes(event.task_failed().task()));
      for (const std::string& study : event.task_failed().studies()) {
        failures_[{study, task}] = {event.task_failed().cause(), event.task_failed().worker(), row};
      }
      return absl::OkStatus();
    }
    case v1::Event::kFailuresCleared: {
      const std::string& study = event.failures_cleared().study();
      for (auto it = failures_.lower_bound({study, Digest()});
           it != failures_.end() && it->first.first == study;) {
        losses_.erase(it->first.second);
        it = failures_.erase(it);
      }
      return absl::OkStatus();
    }
    case v1::Event::kBlobDropped: {
      ASSIGN_OR_RETURN(Digest blob, Digest::FromBytes(event.blob_dropped().digest()));
      Forget(blob);
      return absl::OkStatus();
    }
    case v1::Event::kStatesRetired:
      for (const std::string& bytes : event.states_retired().tasks()) {
        ASSIGN_OR_RETURN(Digest task, Digest::FromBytes(bytes));
        Retire(task);
      }
      return absl::OkStatus();
    case v1::Event::kStudyAdjusted:
      return ApplyAdjusted(event.study_adjusted());
    case v1::Event::kStudyDeleted:
      return ApplyDeleted(event.study_deleted());
    case v1::Event::kTokenCreated:
      trust_.Apply(event.token_created());
      return absl::OkStatus();
    case v1::Event::kCertificateIssued:
      trust_.Apply(event.certificate_issued());
      return absl::OkStatus();
    case v1::Event::kJoinRevoked:
      trust_.Apply(event.join_revoked());
      return absl::OkStatus();
    case v1::Event::kResultCompared:
      return ApplyCompared(event.result_compared());
    case v1::Event::kChecksWaived:
      return ApplyWaived(event.checks_waived());
    case v1::Event::kWorkerQuarantined:
      return ApplyQuarantined(event.unix_ms(), event.worker_quarantined());
    case v1::Event::kWorkerReleased:
      quarantined_.erase(event.worker_released().worker());
      return absl::OkStatus();
    case v1::Event::KIND_NOT_SET:
      break;
  }
  return absl::InternalError(absl::StrCat(
      "row ", row, ": an event of an unknown kind; was the store written by a newer version?"));
}

absl::Status State::ApplyAdjusted(const v1::StudyAdjusted& adjusted) {
  auto it = studies_.find(adjusted.id());
  if (it == studies_.end()) return absl::InternalError("an unknown study is adjusted");
  StudyRecord& study = it->second;
  const v1::Adjustment& adjust = adjusted.adjust();
  if (adjust.has_paused()) {
    study.paused = adjust.paused();
    study.paused_why = adjust.paused() ? adjusted.why() : "";
  }
  if (adjust.has_priority()) study.priority = adjust.priority();
  if (adjust.has_max_hours()) study.max_hours = adjust.max_hours();
  return absl::OkStatus();
}

absl::Status State::ApplyDeleted(const v1::StudyDeleted& deleted) {
  auto it = studies_.find(deleted.id());
  if (it == studies_.end()) return absl::InternalError("an unknown study is deleted");
  if (!deleted.test_split().empty()) {
    ASSIGN_OR_RETURN(const Digest split, Digest::FromBytes(deleted.test_split()));
    PastTestUse& use = past_[{it->second.image_set, split}];
    ++use.studies;
    for (const std::string& model : deleted.test_models()) {
      ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(model));
      use.models.insert(digest);
    }
    const auto& firsts =
        deleted.test_evaluations().empty() ? deleted.test_models() : deleted.test_evaluations();
    for (const std::string& first : firsts) {
      ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(first));
      use.evaluations.insert(digest);
    }
  }
  studies_.erase(it);
  const auto first = failures_.lower_bound({deleted.id(), Digest()});
  auto last = first;
  while (last != failures_.end() && last->first.first == deleted.id()) ++last;
  failures_.erase(first, last);
  for (const std::string& bytes : deleted.tasks()) {
    ASSIGN_OR_RETURN(const Digest task, Digest::FromBytes(bytes));
    ForgetTask(task);
  }
  for (const std::string& bytes : deleted.blobs()) {
    ASSIGN_OR_RETURN(const Digest blob, Digest::FromBytes(bytes));
    deleted_blobs_.insert(blob);
  }
  return absl::OkStatus();
}

Usage State::UsageOf(const std::string& user, const std::string& but, const Brought* more) const {
  Usage usage;
  std::set<Digest> seen;
  const auto add = [&](const Brought& brings) {
    ++usage.studies;
    if (seen.insert(brings.images).second) {
      usage.blobs += brings.image_blobs;
      usage.bytes += brings.image_bytes;
    }
    if (!brings.model.none() && seen.insert(brings.model).second) {
      ++usage.blobs;
      usage.bytes += brings.model_bytes;
    }
  };
  for (const auto& [id, study] : studies_) {
    if (study.user == user && id != but) add(study.brings);
  }
  if (more != nullptr) add(*more);
  return usage;
}

const PastTestUse* State::PastUseOf(const Digest& image_set, const Digest& test_split) const {
  auto it = past_.find({image_set, test_split});
  return it == past_.end() ? nullptr : &it->second;
}

void State::Unname(const Digest& blob, const Digest& task) {
  auto it = users_.find(blob);
  if (it == users_.end()) return;
  std::erase(it->second, task);
  if (it->second.empty()) users_.erase(it);
}

// Its payload, which holds the metrics, may be a blob: that one stays.
void State::Retire(const Digest& task) {
  auto it = completed_.find(task);
  if (it == completed_.end() || it->second.recipe.none()) return;
  it->second.retired = true;
  for (const Digest& blob : it->second.blobs) {
    if (blob != it->second.payload) Unname(blob, task);
  }
}

// Results without all of their bytes are none: their tasks are wanted again.
void State::Forget(const Digest& blob) {
  auto users = users_.find(blob);
  if (users == users_.end()) return;
  const std::vector<Digest> tasks = std::move(users->second);
  users_.erase(users);
  for (const Digest& task : tasks) ForgetTask(task);
}

void State::ForgetTask(const Digest& task) {
  auto stored = completed_.find(task);
  if (stored == completed_.end()) return;
  for (const Digest& blob : stored->second.blobs) Unname(blob, task);
  checks_.erase(task);
  if (auto it = states_.find(stored->second.recipe); it != states_.end()) {
    const auto state = it->second.find(stored->second.step);
    if (state != it->second.end() && state->second == task) it->second.erase(state);
    if (it->second.empty()) states_.erase(it);
  }
  forgotten_[task] = std::move(stored->second);
  completed_.erase(stored);
}

uint32_t State::MakersIndex(const v1::Attempt& attempt) {
  std::vector<std::string> makers(attempt.gang().begin(), attempt.gang().end());
  if (makers.empty()) makers.push_back(attempt.worker());
  const auto [it, fresh] = makers_index_.try_emplace(makers, static_cast<uint32_t>(makers_.size()));
  if (fresh) makers_.push_back(makers);
  return it->second;
}

const StoredTask* State::FindEver(const Digest& task) const {
  const StoredTask* stored = Find(task);
  return stored != nullptr ? stored : FindForgotten(task);
}

const StoredTask* State::FindForgotten(const Digest& task) const {
  auto it = forgotten_.find(task);
  return it == forgotten_.end() ? nullptr : &it->second;
}

std::vector<Digest> State::NamedBlobs() const {
  std::vector<Digest> blobs;
  for (const auto& [blob, tasks] : users_) blobs.push_back(blob);
  std::sort(blobs.begin(), blobs.end());
  return blobs;
}

std::vector<Digest> State::UsersOf(const Digest& blob) const {
  const auto users = users_.find(blob);
  return users == users_.end() ? std::vector<Digest>() : users->second;
}

uint64_t State::StatesStored(const Digest& recipe) const {
  auto it = states_stored_.find(recipe);
  return it == states_stored_.end() ? 0 : it->second;
}

std::vector<Digest> State::UnnamedBlobs() const {
  std::vector<Digest> blobs;
  for (const Digest& blob : deleted_blobs_) {
    if (!Names(blob)) blobs.push_back(blob);
  }
  for (const auto& [recipe, states] : states_) {
    for (const auto& [step, task] : states) {
      const StoredTask& stored = completed_.at(task);
      if (!stored.retired) continue;
      for (const Digest& blob : stored.blobs) {
        if (!Names(blob)) blobs.push_back(blob);
      }
    }
  }
  return blobs;
}

const StoredTask* State::Find(const Digest& task) const {
  auto it = completed_.find(task);
  return it == completed_.end() ? nullptr : &it->second;
}

const std::map<uint64_t, Digest>* State::StatesOf(const Digest& recipe) const {
  auto it = states_.find(recipe);
  return it == states_.end() ? nullptr : &it->second;
}

const LossRecord* State::LossesOf(const Digest& task) const {
  auto it = losses_.find(task);
  return it == losses_.end() ? nullptr : &it->second;
}

std::string State::Dump() const {
  std::string out;
  for (const auto& [id, study] : studies_) {
    std::string spec;
    if (absl::StatusOr<Digest> digest = MessageDigest(study.spec); digest.ok())
      spec = digest->hex();
    absl::StrAppend(&out, "study ", id, " spec ", spec, " images ", study.image_set.hex(),
                    " class ", study.numerics_class, " user ", study.user, " at ",
                    study.submitted_unix_ms, " order ", study.order, " cancelled ", study.cancelled,
                    " paused ", study.paused, " ", study.paused_why, " priority ", study.priority,
                    " hours ", study.max_hours, "\n");
  }
  for (const auto& [key, use] : past_) {
    absl::StrAppend(&out, "past use ", key.first.hex(), " ", key.second.hex(), " ", use.studies, " ",
                    use.models.size(), "\n");
  }
  std::vector<std::pair<Digest, const StoredTask*>> tasks;
  for (const auto& [digest, stored] : completed_) tasks.emplace_back(digest, &stored);
  std::sort(tasks.begin(), tasks.end());
  for (const auto& [digest, stored] : tasks) {
    absl::StrAppend(&out, "task ", digest.hex(), " ", stored->payload.hex(), " row ", stored->row,
                    " bytes ", stored->bytes, " blobs ", stored->blobs.size(),
                    stored->retired ? " retired" : "", " check ", static_cast<int>(stored->check),
                    " by ", absl::StrJoin(MakersOf(*stored), ","), " from ", stored->inputs.size(),
                    "\n");
  }
  for (const auto& [task, stored] : forgotten_) {
    absl::StrAppend(&out, "forgotten ", task.hex(), " ", stored.payload.hex(), " by ",
                    absl::StrJoin(MakersOf(stored), ","), "\n");
  }
  for (const auto& [task, check] : checks_) {
    absl::StrAppend(&out, "check ", task.hex(), check.chosen ? " chosen" : "");
    for (const auto& [worker, payload] : check.votes) {
      absl::StrAppend(&out, " ", worker, "=", payload.hex());
    }
    absl::StrAppend(&out, "\n");
  }
  for (const auto& [worker, record] : quarantined_) {
    absl::StrAppend(&out, "quarantined ", worker, " ", record.why, " ", record.withdrawn, "\n");
  }
  for (const auto& [recipe, steps] : states_) {
    for (const auto& [step, task] : steps) {
      absl::StrAppend(&out, "state ", recipe.hex(), " ", step, " ", task.hex(), "\n");
    }
  }
  for (const auto& [task, losses] : losses_) {
    absl::StrAppend(&out, "losses ", task.hex(), " ", losses.alone, " ", losses.shared, " ",
                    absl::StrJoin(losses.workers, ","), "\n");
  }
  for (const auto& [key, failure] : failures_) {
    absl::StrAppend(&out, "failure ", key.first, " ", key.second.hex(), " ", failure.cause, " ",
                    failure.worker, "\n");
  }
  absl::StrAppend(&out, trust_.Dump());
  return out;
}

}  // namespace dermis
