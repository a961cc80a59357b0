#include "coordinator/studies.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/image_set.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/tasks.h"

namespace dermis {

absl::Status Studies::Replay(uint64_t row, const JournalEntry& entry) {
  next_row_ = row + 1;
  return Apply(row, entry, nullptr);
}

void Studies::Record(v1::Event event, const Digest& task, const v1::Payload* payload) {
  event.set_unix_ms(clock_.UnixMillis());
  // The entry stays where it is while it is applied: Apply records nothing.
  const JournalEntry& entry = batch_.Add({std::move(event), task});
  if (absl::Status status = Apply(next_row_++, entry, payload); !status.ok()) {
    DERMIS_LOG(kError, "an event that does not apply: ", status.message());
    batch_.Break(status);
  }
}

void Studies::LookForBlobs() {
  lost_blobs_.clear();  // What replay missed is found here.
  for (const Digest& blob : state_.NamedBlobs()) {
    if (!blobs_.Has(blob)) DropLost(blob, "not in the store at the start");
  }
  BeginAnew();
  std::vector<Digest> left;  // It died before it could remove them.
  for (const Digest& blob : state_.UnnamedBlobs()) {
    if (blobs_.Has(blob)) left.push_back(blob);
  }
  RemoveInTurn(left);
  std::set<Digest> inits;  // And models that were given.
  for (const auto& [id, study] : studies_) {
    const Digest& given = state_.studies().at(id).brings.model;
    if (!given.none() && BeginsWith(*study, given)) inits.insert(given);
  }
  for (const Digest& init : inits) BlobLost(init, "not in the store at the start");
}

bool Studies::Settle(absl::Duration now) {
  RemoveSome();
  // What was computed before what was given: whether a study still needs that is known once it has
  // begun anew.
  const auto lost = std::exchange(lost_blobs_, {});
  for (const bool computed : {true, false}) {
    for (const Digest& blob : lost) {
      if (state_.Names(blob) == computed) DropLost(blob, "it could not be read");
    }
    BeginAnew();
  }
  for (const std::string& id : std::exchange(over_budget_, {})) {
    const auto record = state_.studies().find(id);
    const Study* study = FindStudy(id);
    if (study == nullptr || record->second.paused || record->second.max_hours == 0 ||
        study->spent < record->second.max_hours * 3600 ||
        PhaseOf(*study) != v1::StudyStatus::RUNNING) {
      continue;
    }
    v1::Event event;
    event.mutable_study_adjusted()->set_id(id);
    event.mutable_study_adjusted()->mutable_adjust()->set_paused(true);
    event.mutable_study_adjusted()->set_why(
        absl::StrCat("its budget of ", record->second.max_hours, " worker-hours is used up"));
    Record(std::move(event));
  }
  while (!delayed_.empty() && delayed_.begin()->first <= now) {
    const Digest task = delayed_.begin()->second;
    delayed_.erase(delayed_.begin());
    auto it = units_.find(task);
    if (it != units_.end() && it->second.delayed && it->second.not_before <= now) {
      it->second.delayed = false;
      Enqueue(task, it->second, false);
    }
  }
  return std::exchange(stop_unwanted_, false);
}

absl::Status Studies::Apply(uint64_t row, const JournalEntry& entry, const v1::Payload* payload) {
  const v1::Event& event = entry.event;
  ++changes_;
  // By what goes, as long as that is known.
  Digest dropped;
  if (event.has_blob_dropped()) {
    ASSIGN_OR_RETURN(dropped, Digest::FromBytes(event.blob_dropped().digest()));
    const std::vector<Digest> tasks = state_.UsersOf(dropped);
    for (const auto& [id, study] : studies_) {
      if (!begin_anew_.contains(id) && Concerns(*study, tasks)) begin_anew_.insert(id);
    }
  } else {
    BeginAnew();
  }
  std::vector<std::string> concerned;
  if (event.has_worker_quarantined()) {
    std::vector<Digest> tasks;
    for (const std::string& bytes : event.worker_quarantined().withdrawn()) {
      ASSIGN_OR_RETURN(tasks.emplace_back(), Digest::FromBytes(bytes));
    }
    for (const auto& [id, study] : studies_) {
      const auto failure = state_.failures().lower_bound({id, Digest()});
      const bool failed = failure != state_.failures().end() && failure->first.first == id;
      if (failed || Concerns(*study, tasks)) concerned.push_back(id);
    }
  }
  RETURN_IF_ERROR(state_.Apply(row, entry));
  switch (event.kind_case()) {
    case v1::Event::kStudySubmitted:
      StartStudy(event.study_submitted().id());
      break;
    case v1::Event::kStudyPinned:
      StartStudy(event.study_pinned().id());
      break;
    case v1::Event::kStudyCancelled:
      if (Study* study = FindStudy(event.study_cancelled().id())) DropWants(*study);
      break;
    case v1::Event::kTaskCompleted:
      FoldCompleted(entry, payload);
      break;
    case v1::Event::kTaskFailed:
      FoldFailed(event.task_failed());
      break;
    case v1::Event::kBlobDropped:
      FoldDropped(dropped);
      break;
    case v1::Event::kResultCompared: {
      ASSIGN_OR_RETURN(const Digest task, Digest::FromBytes(event.result_compared().task()));
      FoldCompared(task);
      break;
    }
    case v1::Event::kChecksWaived:
      CloseChecks();
      break;
    case v1::Event::kWorkerQuarantined:
      for (const std::string& id : concerned) {
        StartStudy(id);
        // A replay finds the right results where wrong ones led to other tasks, and would count
        // otherwise.
        studies_.at(id)->spent = 0;
      }
      CloseChecks();
      stop_unwanted_ = true;
      break;
    case v1::Event::kFailuresCleared:
      FoldCleared(event.failures_cleared().study());
      break;
    case v1::Event::kStudyAdjusted:
      FoldAdjusted(event.study_adjusted());
      break;
    case v1::Event::kStudyDeleted:
      FoldDeleted(event.study_deleted());
      break;
    default:
      break;
  }
  return absl::OkStatus();
}

void Studies::StartStudy(const std::string& id) {
  const StudyRecord& record = state_.studies().at(id);
  std::unique_ptr<StudyRun> offered = std::exchange(offered_, nullptr);
  std::unique_ptr<Study>& slot = studies_[id];
  uint64_t version = 1;
  double spent = 0;
  if (slot != nullptr) {
    DropWants(*slot);
    version = slot->version + 1;
    spent = slot->spent;
  }
  slot = std::make_unique<Study>();
  Study& study = *slot;
  study.id = id;
  study.version = version;
  study.beginning = ++beginnings_;
  study.spent = spent;
  if (record.max_hours > 0) over_budget_.insert(id);
  // Who comes later shares from now on: no credit for the time before.
  study.used = LeastUsed(id).value_or(0);
  if (record.numerics_class.empty() || record.cancelled) return;
  absl::StatusOr<std::shared_ptr<const v1::ImageSetManifest>> manifest = Manifest(record.image_set);
  if (!manifest.ok()) {
    study.problem = manifest.status();
    return;
  }
  absl::StatusOr<std::unique_ptr<StudyRun>> run = std::move(offered);
  if (*run == nullptr) {
    run = StudyRun::Make(record.spec, record.image_set, *manifest, record.numerics_class);
  }
  if (!run.ok()) {
    study.problem = run.status();
    return;
  }
  study.run = *std::move(run);
  FeedStoredStates(study);
  DrainFolds();
}

std::optional<double> Studies::LeastUsed(const std::string& but) const {
  std::optional<double> least;
  for (const auto& [other, entry] : studies_) {
    if (other == but || Paused(other) || PhaseOf(*entry) != v1::StudyStatus::RUNNING) continue;
    least = least ? std::min(*least, entry->used) : entry->used;
  }
  return least;
}

void Studies::Charge(const v1::Attempt& attempt, Study& study) {
  const double seconds = attempt.seconds() * std::max(1u, attempt.world_size());
  if (!(seconds > 0) || !std::isfinite(seconds)) return;  // A worker may say anything.
  study.spent += seconds;
  if (state_.studies().at(study.id).max_hours > 0) over_budget_.insert(study.id);
}

void Studies::FeedLongest(Study& study, const Digest& recipe, uint64_t row) {
  const std::map<uint64_t, Digest>* states = state_.StatesOf(recipe);
  if (states == nullptr) return;
  for (auto it = states->rbegin(); it != states->rend(); ++it) {
    if (state_.Find(it->second)->row >= row) continue;
    absl::StatusOr<v1::TrainOutput> output = ReadState(recipe, it->first);
    if (output.ok()) {
      AddWants(study, study.run->OnState(recipe, *output));
      return;
    }
    DERMIS_LOG(kWarning, "state of ", recipe.short_hex(), " at step ", it->first, ": ",
               output.status().message());
  }
}

void Studies::FeedStoredStates(Study& study) {
  AddWants(study, study.run->Start());
  const SweepPlanner& sweep = study.run->sweep();
  constexpr uint64_t kAll = std::numeric_limits<uint64_t>::max();
  std::set<Digest> seen;
  for (uint32_t index = 0; index < sweep.trainings(); ++index) {
    const Digest recipe = sweep.training(index).digest;
    if (!seen.insert(recipe).second) continue;
    if (const auto failure = state_.failures().find({study.id, recipe});
        failure != state_.failures().end()) {
      FeedLongest(study, recipe, failure->second.row);
      AddWants(study, study.run->OnTrainingFailed(recipe));
    }
    FeedLongest(study, recipe, kAll);
    if (const std::map<uint64_t, Digest>* states = state_.StatesOf(recipe)) {
      const TrainingPlanner& training = sweep.training(index).planner;
      const uint64_t limit = training.target_step().value_or(training.last_step());
      study.reused[static_cast<int>(Stage::kTraining)] +=
          static_cast<uint64_t>(std::distance(states->begin(), states->upper_bound(limit)));
    }
  }
  FeedFinalState(study);
}

void Studies::FeedFinalState(Study& study) {
  if (study.run == nullptr || study.run->training_done()) return;
  const SweepPlanner& sweep = study.run->sweep();
  for (const uint32_t index : sweep.finals()) {
    const SweepPlanner::Training& final = sweep.training(index);
    const Digest recipe = final.digest;
    // One that was made only now has heard of nothing.
    if (final.planner.epochs_done() == 0) {
      FeedLongest(study, recipe, std::numeric_limits<uint64_t>::max());
    }
    if (final.planner.outcome() || !final.planner.target_step()) continue;
    const uint64_t step = *final.planner.target_step();
    const std::map<uint64_t, Digest>* states = state_.StatesOf(recipe);
    if (states == nullptr || !states->contains(step)) continue;
    absl::StatusOr<v1::TrainOutput> output = ReadState(recipe, step);
    if (output.ok()) AddWants(study, study.run->OnState(recipe, *output));
  }
}

void Studies::AddWants(Study& study, absl::StatusOr<StudyRun::Wants> wants) {
  ++study.version;
  if (!wants.ok()) {
    study.problem = wants.status();
    DERMIS_LOG(kError, "study ", study.id, ": ", wants.status().message());
    DropWants(study);
    stop_unwanted_ = true;
    return;
  }
  for (StudyRun::Want& want : *wants) {
    if (const StoredTask* stored = state_.Find(want.task)) {
      ++study.reused[static_cast<int>(want.stage)];
      NoteCheck(study, want.task, *stored);
      folds_.emplace_back(study.id, want.task);
      continue;
    }
    if (state_.failures().contains({study.id, want.task})) {
      study.failed[want.task] = std::move(want);
      continue;
    }
    if (!study.wanted.try_emplace(want.task, want.stage).second) continue;
    auto [it, fresh] = units_.try_emplace(want.task);
    Unit& unit = it->second;
    if (fresh) unit.spec = std::move(want.spec);
    unit.studies.insert(study.id);
    if (fresh) {
      Enqueue(want.task, unit, false);
    } else if (unit.waiting) {
      ++study.waiting;
      study.queue.push_back(want.task);
    }
  }
}

void Studies::DrainFolds() {
  while (!folds_.empty()) {
    auto [id, task] = std::move(folds_.front());
    folds_.pop_front();
    Study* study = FindStudy(id);
    if (study == nullptr || study->run == nullptr) continue;
    AddWants(*study, study->run->OnResult(task, [this, &task = task] { return ReadPayload(task); }));
  }
}

void Studies::FoldCompleted(const JournalEntry& entry, const v1::Payload* payload) {
  const v1::TaskCompleted& done = entry.event.task_completed();
  const auto read = [&]() -> absl::StatusOr<v1::Payload> {
    if (payload != nullptr) return *payload;
    return ParsePayload(done.result());
  };
  if (done.spec().has_train()) {
    absl::StatusOr<Digest> recipe =
        RecipeDigest(done.spec().train().recipe(), done.spec().numerics_class());
    std::optional<absl::StatusOr<v1::Payload>> output;
    for (auto& [id, study] : studies_) {
      // Of a trial that is not trained now, too: what is known of it may be wanted later.
      if (!Training(*study) || study->run->sweep().Find(*recipe) == nullptr) continue;
      if (Wants(*study, *recipe)) Charge(done.attempt(), *study);
      if (!output) output = read();
      ++study->computed[static_cast<int>(Stage::kTraining)];
      study->hint.clear();
      if (output->ok()) {
        AddWants(*study, study->run->OnState(*recipe, (*output)->train()));
        FeedFinalState(*study);
      } else {
        DERMIS_LOG(kError, "study ", id, ": ", output->status().message());
      }
    }
    trained_.push_back(*recipe);  // A gang may train on for another study that has left.
  }
  if (auto it = units_.find(entry.task); it != units_.end()) {
    const std::set<std::string> wanting = it->second.studies;
    SetWaiting(it->second, false);
    units_.erase(it);
    for (const std::string& id : wanting) {
      Study& study = *studies_.at(id);
      auto want = study.wanted.find(entry.task);
      if (want == study.wanted.end()) continue;
      Charge(done.attempt(), study);
      ++study.computed[static_cast<int>(want->second)];
      study.wanted.erase(want);
      study.hint.clear();
      NoteCheck(study, entry.task, *state_.Find(entry.task));
      AddWants(study, study.run->OnResult(entry.task, read));
    }
  }
  DrainFolds();
}

void Studies::NoteCheck(Study& study, const Digest& task, const StoredTask& stored) {
  switch (stored.check) {
    case StoredTask::Check::kNone:
      return;
    case StoredTask::Check::kOpen:
      study.checks.insert(task);
      return;
    case StoredTask::Check::kSame:
      ++study.checks_same;
      return;
    case StoredTask::Check::kWaived:
      ++study.checks_waived;
      return;
  }
}

void Studies::FoldCompared(const Digest& task) {
  const StoredTask* stored = state_.Find(task);
  if (stored == nullptr) return;
  for (auto& [id, study] : studies_) {
    // It was open for the study, or workers differ by chance of what it has.
    if (study->checks.erase(task) == 0 &&
        (stored->check != StoredTask::Check::kOpen || state_.studies().at(id).cancelled ||
         !Has(*study, task))) {
      continue;
    }
    NoteCheck(*study, task, *stored);
    ++study->version;
  }
}

void Studies::CloseChecks() {
  for (auto& [id, study] : studies_) {
    for (auto it = study->checks.begin(); it != study->checks.end();) {
      const Digest task = *it;
      if (state_.FindCheck(task) != nullptr) {
        ++it;
        continue;
      }
      it = study->checks.erase(it);
      if (const StoredTask* stored = state_.Find(task)) NoteCheck(*study, task, *stored);
      ++study->version;
    }
  }
}

std::set<Digest> Studies::Quarantine(v1::WorkerQuarantined event) {
  std::set<Digest> recipes;
  for (const Digest& task : state_.ResultsThrough(event.worker())) {
    event.add_withdrawn(task.bytes());
    if (const StoredTask* stored = state_.Find(task); stored && !stored->recipe.none()) {
      recipes.insert(stored->recipe);
    }
  }
  DERMIS_LOG(kError, "ALARM: worker ", event.worker(), " is quarantined: ", event.why(), "; ",
             event.withdrawn_size(), " results are withdrawn and computed again");
  v1::Event outer;
  *outer.mutable_worker_quarantined() = std::move(event);
  Record(std::move(outer));
  return recipes;
}

void Studies::FoldFailed(const v1::TaskFailed& failed) {
  const absl::StatusOr<Digest> task = Digest::FromBytes(failed.task());
  if (!task.ok()) return;
  for (const std::string& id : failed.studies()) {
    Study* study = FindStudy(id);
    if (study == nullptr || study->run == nullptr) continue;
    ++study->version;
    AddWants(*study, study->run->OnTrainingFailed(*task));
    stop_unwanted_ = true;  // The trial's other trainings.
    FeedFinalState(*study);
    auto want = study->wanted.find(*task);
    if (want == study->wanted.end()) continue;
    auto unit = units_.find(*task);
    study->failed[*task] = {*task, want->second, unit->second.spec};
    study->wanted.erase(want);
    Unwant(*study, *task);
  }
  DrainFolds();
}

void Studies::FoldCleared(const std::string& id) {
  Study* study = FindStudy(id);
  if (study == nullptr) return;
  if (!study->problem.ok()) return StartStudy(id);  // What could not be read may be there again.
  // Which trials went on was decided with what had failed: once more from the beginning.
  if (study->run != nullptr) {
    const auto& trials = study->run->sweep().trials();
    if (!study->run->training_done() ||
        std::any_of(trials.begin(), trials.end(), [](const SweepPlanner::Trial& trial) {
          return trial.state == SweepPlanner::TrialState::kFailed;
        })) {
      return StartStudy(id);
    }
  }
  ++study->version;
  StudyRun::Wants again;
  for (auto& [task, want] : study->failed) again.push_back(std::move(want));
  study->failed.clear();
  if (state_.studies().at(id).cancelled || study->run == nullptr) return;
  AddWants(*study, std::move(again));
  DrainFolds();
}

void Studies::FoldAdjusted(const v1::StudyAdjusted& adjusted) {
  Study* study = FindStudy(adjusted.id());
  if (study == nullptr) return;
  ++study->version;
  over_budget_.insert(study->id);
  if (!adjusted.adjust().has_paused()) return;
  stop_unwanted_ = true;
  study->hungry_since.reset();
  // The time of its pause is no credit.
  if (!adjusted.adjust().paused()) {
    study->used = std::max(study->used, LeastUsed(study->id).value_or(0));
  }
}

void Studies::FoldDeleted(const v1::StudyDeleted& deleted) {
  const std::string& id = deleted.id();
  for (const std::string& bytes : deleted.blobs()) {
    if (const auto blob = Digest::FromBytes(bytes); blob.ok()) gone_.push_back(*blob);
  }
  Study* study = FindStudy(id);
  if (study == nullptr) return;
  DropWants(*study);
  stop_unwanted_ = true;
  studies_.erase(id);
  std::erase_if(manifests_, [&](const auto& entry) {
    return std::none_of(state_.studies().begin(), state_.studies().end(), [&](const auto& other) {
      return other.second.image_set == entry.first;
    });
  });
}

void Studies::BlobLost(const Digest& blob, const std::string& cause) {
  DropLost(blob, cause);
  BeginAnew();
}

void Studies::BeginAnew() {
  for (const std::string& id : std::exchange(begin_anew_, {})) StartStudy(id);
}

void Studies::DropLost(const Digest& blob, const std::string& cause) {
  const bool images = std::any_of(manifests_.begin(), manifests_.end(), [&](const auto& entry) {
    return entry.first == blob || entry.second.parts.contains(blob);
  });
  const bool init = std::any_of(studies_.begin(), studies_.end(), [&](const auto& entry) {
    return entry.second->problem.ok() && BeginsWith(*entry.second, blob);
  });
  if ((!state_.Names(blob) && !images && !init) || blobs_.Has(blob)) return;
  DERMIS_LOG(kWarning, "blob ", blob.short_hex(), " is lost (", cause,
             "): ", images || init ? "it must be given again" : "what it held is computed again");
  v1::Event event;
  event.mutable_blob_dropped()->set_digest(blob.bytes());
  event.mutable_blob_dropped()->set_cause(cause);
  Record(std::move(event));
  stop_unwanted_ = true;
}

Studies::Images::Images(std::shared_ptr<const v1::ImageSetManifest> of) : manifest(std::move(of)) {
  for (const v1::ImageChunk& chunk : manifest->chunks()) {
    for (const std::string& bytes : {chunk.pixels(), chunk.masks(), chunk.labels()}) {
      if (const auto part = Digest::FromBytes(bytes); part.ok() && !bytes.empty()) parts.insert(*part);
    }
  }
}

bool Studies::BeginsWith(const Study& study, const Digest& given) const {
  if (study.run == nullptr || state_.studies().at(study.id).brings.model != given) return false;
  return study.run->spec().has_model() || !study.run->sweep().active().empty();
}

bool Studies::Has(const Study& study, const Digest& task) const {
  if (study.run == nullptr) return false;
  const StoredTask* stored = state_.Find(task);
  const bool training = stored != nullptr && !stored->recipe.none();
  return training ? study.run->sweep().Find(stored->recipe) != nullptr
                  : study.run->Has(task) || study.run->sweep().Find(task) != nullptr;
}

bool Studies::Concerns(const Study& study, const std::vector<Digest>& tasks) const {
  return std::any_of(tasks.begin(), tasks.end(),
                     [&](const Digest& task) { return Has(study, task); });
}

void Studies::FoldDropped(const Digest& blob) {
  for (const auto& [id, slot] : studies_) {
    const StudyRecord& record = state_.studies().at(id);
    const auto manifest = manifests_.find(record.image_set);
    const bool images = manifest != manifests_.end() && manifest->second.parts.contains(blob);
    if (!images && record.brings.model != blob) continue;
    if (begin_anew_.erase(id) > 0) StartStudy(id);  // Whether it needs them is known then.
    Study& study = *slot;
    if (!study.problem.ok() || study.run == nullptr || study.run->done()) continue;
    if (!images && !BeginsWith(study, blob)) continue;
    study.problem = absl::DataLossError(absl::StrCat(
        images ? "a part of its images" : "the weights it begins with", " (blob ", blob.short_hex(),
        ") is lost: submit the study again with ", images ? "its images" : "them"));
    DropWants(study);
  }
}

void Studies::DropWants(Study& study) {
  ++study.version;
  std::vector<Digest> tasks;
  for (const auto& [task, stage] : study.wanted) tasks.push_back(task);
  study.wanted.clear();
  for (const Digest& task : tasks) Unwant(study, task);
  study.queue.clear();
  study.checks.clear();
  study.failed.clear();
  study.hungry_since.reset();
}

void Studies::Unwant(Study& study, const Digest& task) {
  auto it = units_.find(task);
  if (it == units_.end() || it->second.studies.erase(study.id) == 0) return;
  if (it->second.waiting) --study.waiting;
  if (it->second.studies.empty()) units_.erase(it);
}

void Studies::PinStudies(const std::string& numerics_class) {
  std::vector<std::string> ids;
  for (const auto& [id, record] : state_.studies()) {
    if (record.numerics_class.empty()) ids.push_back(id);
  }
  for (const std::string& id : ids) {
    v1::Event event;
    event.mutable_study_pinned()->set_id(id);
    event.mutable_study_pinned()->set_numerics_class(numerics_class);
    Record(std::move(event));
  }
}

void Studies::Fail(const Digest& task, const std::set<std::string>& studies,
                   const std::string& cause, const std::string& worker) {
  if (studies.empty()) return;
  DERMIS_LOG(kError, "task ", task.short_hex(), " failed on worker ", worker, ": ", cause);
  v1::Event event;
  v1::TaskFailed& failed = *event.mutable_task_failed();
  failed.set_task(task.bytes());
  failed.set_cause(cause);
  failed.set_worker(worker);
  for (const std::string& study : studies) failed.add_studies(study);
  Record(std::move(event));
}

absl::StatusOr<v1::Payload> Studies::ParsePayload(const v1::TaskResult& result) const {
  v1::Payload payload;
  if (result.payload_blob().empty()) {
    if (!payload.ParseFromString(result.payload())) {
      return absl::DataLossError("a stored payload does not parse");
    }
    return payload;
  }
  ASSIGN_OR_RETURN(Digest blob, Digest::FromBytes(result.payload_blob()));
  const absl::StatusOr<std::string> bytes = blobs_.Read(blob);
  if (!bytes.ok()) lost_blobs_.push_back(blob);
  RETURN_IF_ERROR(bytes.status());
  if (!payload.ParseFromString(*bytes)) {
    return absl::DataLossError(absl::StrCat("payload blob ", blob.short_hex(), " does not parse"));
  }
  return payload;
}

absl::StatusOr<v1::Payload> Studies::ReadPayload(const Digest& task) const {
  ASSIGN_OR_RETURN(v1::TaskResult result, batch_.ReadResult(task));
  return ParsePayload(result);
}

absl::StatusOr<v1::TrainOutput> Studies::ReadState(const Digest& recipe, uint64_t step) const {
  const std::map<uint64_t, Digest>* states = state_.StatesOf(recipe);
  auto it = states == nullptr ? std::map<uint64_t, Digest>::const_iterator() : states->find(step);
  if (states == nullptr || it == states->end()) {
    return absl::NotFoundError(absl::StrCat("no state at step ", step));
  }
  ASSIGN_OR_RETURN(v1::Payload payload, ReadPayload(it->second));
  v1::TrainOutput& output = *payload.mutable_train();
  if (state_.Find(it->second)->retired) {
    output.clear_state();
    output.clear_best_model();
    output.clear_last_model();
  }
  return std::move(output);
}

absl::StatusOr<std::shared_ptr<const v1::ImageSetManifest>> Studies::Manifest(
    const Digest& image_set) {
  auto it = manifests_.find(image_set);
  if (it != manifests_.end()) return it->second.manifest;
  absl::StatusOr<std::string> bytes = blobs_.Read(image_set);
  if (!bytes.ok()) {
    return absl::Status(
        bytes.status().code(),
        absl::StrCat("image set ", image_set.short_hex(), " cannot be read (",
                     bytes.status().message(), "): submit the study again with its images"));
  }
  auto manifest = std::make_shared<v1::ImageSetManifest>();
  if (!manifest->ParseFromString(*bytes)) {
    return absl::DataLossError(
        absl::StrCat("image set ", image_set.short_hex(), ": its manifest does not parse"));
  }
  RETURN_IF_ERROR(ValidateManifest(*manifest));
  manifests_.try_emplace(image_set, manifest);
  return std::shared_ptr<const v1::ImageSetManifest>(manifest);
}

Study* Studies::FindStudy(const std::string& id) {
  auto it = studies_.find(id);
  return it == studies_.end() ? nullptr : it->second.get();
}

void Studies::Touch(const std::string& id) {
  if (Study* study = FindStudy(id)) ++study->version;
}

void Studies::TouchClass(const std::string& numerics_class) {
  for (auto& [id, study] : studies_) {
    const std::string& pinned = state_.studies().at(id).numerics_class;
    if (pinned.empty() || pinned == numerics_class) ++study->version;
  }
}

v1::StudyStatus::Phase Studies::PhaseOf(const Study& study) const {
  const auto record = state_.studies().find(study.id);
  if (record == state_.studies().end()) return v1::StudyStatus::RUNNING;
  if (record->second.cancelled) return v1::StudyStatus::CANCELLED;
  if (!study.problem.ok()) return v1::StudyStatus::FAILED;
  if (study.run == nullptr) return v1::StudyStatus::RUNNING;
  if (study.run->done()) {
    return study.checks.empty() ? v1::StudyStatus::DONE : v1::StudyStatus::RUNNING;
  }
  if (!study.run->training_done()) {
    return study.run->sweep().failed() ? v1::StudyStatus::FAILED : v1::StudyStatus::RUNNING;
  }
  if (!study.failed.empty() && study.wanted.empty()) return v1::StudyStatus::FAILED;
  return v1::StudyStatus::RUNNING;
}

bool Studies::Training(const Study& study) const {
  return study.run != nullptr && study.problem.ok() && !study.run->sweep().active().empty() &&
         !study.run->sweep().failed() && !state_.studies().at(study.id).cancelled;
}

std::set<std::string> Studies::Wanting(const Digest& recipe) const {
  std::set<std::string> ids;
  for (const auto& [id, study] : studies_) {
    if (Wants(*study, recipe)) ids.insert(id);
  }
  return ids;
}

bool Studies::IsToBeTrained(const Digest& recipe) const {
  return std::any_of(studies_.begin(), studies_.end(), [&](const auto& entry) {
    return Wants(*entry.second, recipe) && !Paused(entry.first);
  });
}

bool Studies::IsToBeRun(const Unit& unit) const {
  return std::any_of(unit.studies.begin(), unit.studies.end(),
                     [&](const std::string& id) { return !Paused(id); });
}

void Studies::SetWaiting(Unit& unit, bool waiting) {
  if (unit.waiting == waiting) return;
  unit.waiting = waiting;
  for (const std::string& id : unit.studies) {
    Study& study = *studies_.at(id);
    if (waiting) {
      ++study.waiting;
    } else {
      --study.waiting;
    }
  }
}

void Studies::Enqueue(const Digest& task, Unit& unit, bool first) {
  if (unit.waiting) return;
  ++changes_;
  SetWaiting(unit, true);
  for (const std::string& id : unit.studies) {
    std::deque<Digest>& queue = studies_.at(id)->queue;
    if (first) {
      queue.push_front(task);
    } else {
      queue.push_back(task);
    }
  }
}

void Studies::Avoid(Unit& unit, const std::string& worker) {
  unit.avoid = {worker};
  unit.avoid_until = clock_.Now() + absl::Seconds(15);
}

void Studies::Release(const Digest& task, Unit& unit, bool back_off) {
  unit.assignment = 0;
  if (!back_off) {
    Enqueue(task, unit, true);
    return;
  }
  unit.not_before = clock_.Now() + BackOff(unit.back_offs++);
  unit.delayed = true;
  delayed_.emplace(unit.not_before, task);
}

}  // namespace dermis
