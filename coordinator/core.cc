#include "coordinator/core.h"

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/image_set.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/tasks.h"
#include "coordinator/scheduler.h"
#include "coordinator/state.h"
#include "coordinator/study_run.h"

namespace dermis {
namespace {

constexpr const char* kStageNames[kStages] = {"training", "evaluation", "explanation"};
constexpr absl::Duration kUnseen = absl::Seconds(3);  // An assignment that no beat names is gone.
constexpr absl::Duration kTellAgain = absl::Seconds(2);  // Cancel and Yield are repeated.
constexpr absl::Duration kQuarantine = absl::Minutes(10);
constexpr uint32_t kPoison = 3;
constexpr size_t kStrikes = 3;
constexpr absl::Duration kAlive = absl::Seconds(3);  // Since a beat: that process lives.
constexpr size_t kKnownSteps = 3;  // So many tell how long a step takes.
constexpr size_t kMaxAlarms = 100;

absl::Duration BackOff(uint32_t times) {
  return std::min(absl::Seconds(30), absl::Milliseconds(250) * (1 << std::min(times, 10u)));
}

}  // namespace

class Core::Impl {
 public:
  Impl(Clock& clock, Journal& journal, Outbox& outbox, const BlobIndex& blobs, Options options)
      : clock_(clock), journal_(journal), outbox_(outbox), blobs_(blobs), options_(options) {}

  // ------------------------------------------------------------------ opening and committing

  absl::Status Open() {
    RETURN_IF_ERROR(journal_.Replay([this](uint64_t row, const JournalEntry& entry) {
      next_row_ = row + 1;
      return Apply(row, entry, nullptr);
    }));
    const bool fresh = state_.incarnation() == 0;
    lost_blobs_.clear();  // What replay missed is found by looking for all.
    for (const Digest& blob : state_.NamedBlobs()) {
      if (!blobs_.Has(blob)) BlobLost(blob, "not in the store at the start");
    }
    opened_ = clock_.Now();
    work_from_ = fresh ? opened_ : opened_ + options_.grace;
    v1::Event event;
    event.mutable_started()->set_incarnation(state_.incarnation() + 1);
    event.mutable_started()->set_version(kVersion);
    Record(std::move(event));
    return Flush();
  }

  absl::Status Flush() {
    RETURN_IF_ERROR(fatal_);
    if (!pending_.empty()) {
      if (absl::Status status = journal_.Append(pending_); !status.ok()) {
        fatal_ = status;
        return status;
      }
      counters_.events += pending_.size();
      pending_.clear();
      pending_results_.clear();
    }
    // A callback may ask for more (a service that answers and looks again): those wait for their
    // turn.
    std::vector<std::function<void()>> released = std::move(after_flush_);
    after_flush_.clear();
    std::vector<Message> messages = std::move(messages_);
    messages_.clear();
    for (std::function<void()>& callback : released) callback();
    for (const Message& message : messages) {
      if (message.close) {
        outbox_.Close(message.connection, message.why);
      } else {
        outbox_.Send(message.connection, message.directive);
      }
    }
    return absl::OkStatus();
  }

  void BlobLost(const Digest& blob, const std::string& cause) {
    const bool images = std::any_of(manifests_.begin(), manifests_.end(), [&](const auto& entry) {
      return entry.first == blob || HasChunk(*entry.second, blob);
    });
    if ((!state_.Names(blob) && !images) || blobs_.Has(blob)) return;
    DERMIS_LOG(kWarning, "blob ", blob.short_hex(), " is lost (", cause, "): ",
               images ? "images must be given again" : "what it held is computed again");
    v1::Event event;
    event.mutable_blob_dropped()->set_digest(blob.bytes());
    event.mutable_blob_dropped()->set_cause(cause);
    Record(std::move(event));
    stop_unwanted_ = true;
  }

  void AfterFlush(std::function<void()> callback) { after_flush_.push_back(std::move(callback)); }

  uint64_t incarnation() const { return state_.incarnation(); }

  // ------------------------------------------------------------------ workers

  void WorkerConnected(ConnectionId connection, const v1::Register& hello) {
    if (connections_.contains(connection)) return;  // Said twice.
    std::string refusal;
    if (hello.worker().empty() || hello.numerics_class().empty()) {
      refusal = "a registration needs a worker name and a numerics class";
    } else if (hello.software_version() != kVersion) {
      refusal = absl::StrCat("worker ", hello.worker(), " is of version '",
                             hello.software_version(), "', the coordinator of '", kVersion,
                             "': install the coordinator's version on this worker's host");
    }
    if (!refusal.empty()) {
      DERMIS_LOG(kWarning, "refused: ", refusal);
      v1::Directive directive;
      directive.mutable_welcome()->set_refusal(refusal);
      directive.mutable_welcome()->set_incarnation(state_.incarnation());
      Send(connection, std::move(directive));
      Close(connection, refusal);
      return;
    }
    uint64_t held = 0;
    if (auto old = workers_.find(hello.worker()); old != workers_.end()) {
      if (old->second.hello.incarnation() == hello.incarnation()) {
        // The same process on a new stream: what it runs goes on.
        held = old->second.assignment;
        Close(old->second.connection, "the worker came back on a new stream");
        connections_.erase(old->second.connection);
        workers_.erase(old);
      } else if (clock_.Now() - old->second.last_beat < kAlive) {
        // Two of one name would take each other's place for ever. The second waits: it tries again by itself.
        const std::string why = absl::StrCat("a worker called ", hello.worker(), " is here already (host ",
                                             old->second.hello.host(), "; this one is on ", hello.host(),
                                             "): give each worker its own --name");
        DERMIS_LOG(kWarning, why);
        Close(connection, why);
        return;
      } else {
        // Its supervisor started it again before the old stream was seen to end.
        LoseWorker(hello.worker(), "its process was replaced by a new one");
      }
    }
    const absl::Duration now = clock_.Now();
    Worker& worker = workers_[hello.worker()];
    worker.hello = hello;
    worker.connection = connection;
    worker.last_beat = now;
    connections_[connection] = hello.worker();
    PinStudies(hello.numerics_class());
    TouchClass(hello.numerics_class());

    v1::Directive welcome;
    welcome.mutable_welcome()->set_incarnation(state_.incarnation());
    for (const v1::RunningAttempt& running : hello.running()) {
      if (worker.assignment == 0 && Adopt(hello.worker(), worker, running)) {
        welcome.mutable_welcome()->add_adopted(running.assignment());
      }
    }
    if (held != 0 && worker.assignment != held) Leave(held, hello.worker());
    DERMIS_LOG(kInfo, "worker ", hello.worker(), " registered (", hello.numerics_class(), ", ",
               hello.threads(), " threads", worker.assignment != 0 ? ", goes on" : "", ")");
    Send(connection, std::move(welcome));
  }

  void WorkerBeat(ConnectionId connection, const v1::Beat& beat) {
    auto [name, worker] = Find(connection);
    if (worker == nullptr) return;
    const absl::Duration now = clock_.Now();
    worker->last_beat = now;
    worker->draining = beat.draining();
    bool seen = false;
    for (const v1::RunningAttempt& running : beat.running()) {
      if (running.assignment() == 0 || running.assignment() != worker->assignment) {
        SendCancel(connection, running.assignment(), "it is not this worker's assignment");
        continue;
      }
      seen = true;
      worker->seen = now;
      Progress(*worker, running.progress(), now);
      worker->waits_for.assign(running.waits_for().begin(), running.waits_for().end());
      if (Assignment& assignment = assignments_.at(worker->assignment); running.step() > assignment.step) {
        assignment.step = running.step();
        Touch(assignment.study);
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
        SendCancel(connection, assignment.id, assignment.why);
      } else {
        SendYield(connection, assignment.id, assignment.why);
      }
    }
  }

  void AttemptEnded(ConnectionId connection, const v1::AttemptEnded& ended) {
    auto [name, worker] = Find(connection);
    if (worker == nullptr || ended.assignment() == 0 || worker->assignment != ended.assignment()) {
      return;
    }
    const absl::Duration now = clock_.Now();
    worker->last_beat = now;
    Assignment& assignment = assignments_.at(ended.assignment());
    if (ended.outcome() == v1::OUTCOME_UNAVAILABLE) {
      Touch(assignment.study);
      if (Study* study = FindStudy(assignment.study)) {
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

  void WorkerDisconnected(ConnectionId connection, const std::string& cause) {
    auto [name, worker] = Find(connection);
    if (worker == nullptr) return;
    LoseWorker(name, cause.empty() ? "its stream was closed" : cause);
  }

  // ------------------------------------------------------------------ results

  void CompleteTasks(std::vector<CheckedCompletion> completions, CompleteReply reply) {
    auto response = std::make_shared<v1::CompleteTasksResponse>();
    for (CheckedCompletion& done : completions) {
      v1::CompletionReply& verdict = *response->add_replies();
      verdict.set_verdict(done.verdict);
      if (done.verdict != v1::CompletionReply::STORED) {
        for (const Digest& blob : done.missing) verdict.add_missing(blob.bytes());
        verdict.set_cause(done.cause);
        continue;
      }
      if (const StoredTask* stored = state_.Find(done.task)) {
        ++counters_.duplicates;
        if (stored->payload.bytes() == done.completion.result().payload_digest()) continue;
        Conflict(done, stored->payload, verdict);
        continue;
      }
      if (const Digest* before = state_.FindForgotten(done.task);
          before != nullptr && before->bytes() != done.completion.result().payload_digest()) {
        Conflict(done, *before, verdict);
        continue;
      }
      ++counters_.completions;
      const std::string& by = done.completion.attempt().worker();
      if (auto it = workers_.find(by); it != workers_.end()) {
        ++it->second.completed;
        histories_.erase(by);  // It can: its losses were not its fault.
      }
      v1::Event event;
      v1::TaskCompleted& completed = *event.mutable_task_completed();
      completed.mutable_spec()->Swap(done.completion.mutable_spec());
      completed.mutable_result()->Swap(done.completion.mutable_result());
      completed.mutable_attempt()->Swap(done.completion.mutable_attempt());
      Record(std::move(event), done.task, done.payload.get());
    }
    AfterFlush([response, reply = std::move(reply)] { reply(*response); });
  }

  // Two results of one task: the first stays, people are told.
  void Conflict(const CheckedCompletion& done, const Digest& stored, v1::CompletionReply& verdict) {
    verdict.set_verdict(v1::CompletionReply::CONFLICT);
    verdict.set_cause(absl::StrCat(
        Describe(done.completion.spec()), " (task ", done.task.short_hex(), ") gave payload ",
        absl::BytesToHexString(done.completion.result().payload_digest()).substr(0, 12),
        " on worker ", done.completion.attempt().worker(), ", but ", stored.short_hex(),
        " is stored: one of two workers computes wrong"));
    ++counters_.conflicts;
    DERMIS_LOG(kError, "ALARM: ", verdict.cause());
    alarms_.push_back(verdict.cause());
    if (alarms_.size() > kMaxAlarms) alarms_.erase(alarms_.begin());
  }

  absl::StatusOr<v1::TaskResult> ReadResult(const Digest& task) const {
    if (auto it = pending_results_.find(task); it != pending_results_.end()) {
      return pending_[it->second].event.task_completed().result();
    }
    return journal_.ReadResult(task);
  }

  v1::FetchResultsResponse FetchResults(const v1::FetchResultsRequest& request) const {
    v1::FetchResultsResponse response;
    for (const std::string& bytes : request.tasks()) {
      v1::TaskResult& out = *response.add_results();
      absl::StatusOr<Digest> task = Digest::FromBytes(bytes);
      if (!task.ok() || state_.Find(*task) == nullptr) continue;
      absl::StatusOr<v1::TaskResult> result = ReadResult(*task);
      if (result.ok()) {
        out = *std::move(result);
      } else {
        DERMIS_LOG(kError, "result of ", task->short_hex(), ": ", result.status().message());
      }
    }
    return response;
  }

  // ------------------------------------------------------------------ people

  void Submit(Submission submission,
              std::function<void(const absl::StatusOr<v1::SubmitResponse>&)> reply) {
    absl::StatusOr<v1::SubmitResponse> response = DoSubmit(std::move(submission));
    AfterFlush([response = std::move(response), reply = std::move(reply)] { reply(response); });
  }

  void Cancel(const std::string& id, StatusReply reply) {
    auto it = state_.studies().find(id);
    if (it != state_.studies().end() && !it->second.cancelled &&
        PhaseOf(*FindStudy(id)) == v1::StudyStatus::RUNNING) {
      v1::Event event;
      event.mutable_study_cancelled()->set_id(id);
      Record(std::move(event));
      StopUnwanted();
    }
    AfterFlush([status = Status(id), reply = std::move(reply)] { reply(status); });
  }

  void Retry(const std::string& id, StatusReply reply) {
    const auto it = state_.failures().lower_bound({id, Digest()});
    const bool failures = it != state_.failures().end() && it->first.first == id;
    if (const Study* study = FindStudy(id); study != nullptr && (failures || !study->problem.ok())) {
      v1::Event event;
      event.mutable_failures_cleared()->set_study(id);
      Record(std::move(event));
    }
    AfterFlush([status = Status(id), reply = std::move(reply)] { reply(status); });
  }

  absl::StatusOr<v1::StudyStatus> Status(const std::string& id) const {
    auto it = state_.studies().find(id);
    if (it == state_.studies().end()) {
      std::vector<std::string> names;
      for (const auto& [name, record] : state_.studies()) names.push_back(name);
      return absl::NotFoundError(
          absl::StrCat("no study ", id, "; there ",
                       names.empty() ? "is none" : "are: ", absl::StrJoin(names, ", ")));
    }
    const StudyRecord& record = it->second;
    const Study& study = *studies_.at(id);
    v1::StudyStatus status;
    status.set_id(id);
    status.set_phase(PhaseOf(study));
    status.set_submitted_unix_ms(record.submitted_unix_ms);
    for (int s = 0; s < kStages; ++s) {
      if (s == static_cast<int>(Stage::kExplanation) && !record.spec.has_explanation()) break;
      v1::StageProgress& stage = *status.add_stages();
      stage.set_stage(kStageNames[s]);
      stage.set_computed(study.computed[s]);
      stage.set_reused(study.reused[s]);
    }
    status.mutable_stages(0)->set_unit("epochs");
    status.mutable_stages(0)->set_total(record.spec.training().epochs());
    status.mutable_stages(1)->set_unit("images");
    if (status.stages_size() > 2) status.mutable_stages(2)->set_unit("tasks");
    if (study.run != nullptr) {
      const TrainingPlanner& training = study.run->training();
      if (training.stop_epoch()) status.mutable_stages(0)->set_total(*training.stop_epoch());
      // What is stored, or what the gang that trains it now says.
      uint64_t epochs = training.epochs_done();
      if (auto trial = trials_.find(study.run->recipe_digest());
          trial != trials_.end() && trial->second.assignment != 0) {
        epochs = std::max(epochs, assignments_.at(trial->second.assignment).step / training.steps_per_epoch());
      }
      status.mutable_stages(0)->set_done(std::min(epochs, status.stages(0).total()));
      if (auto last = training.last_epoch()) *status.mutable_last_epoch() = *last;
      if (const EvaluationPlanner* evaluation = study.run->evaluation()) {
        status.mutable_stages(1)->set_done(evaluation->images_done());
        status.mutable_stages(1)->set_total(evaluation->images_total());
      }
      if (const ExplanationPlanner* explanation = study.run->explanation()) {
        status.mutable_stages(2)->set_done(explanation->tasks_done());
        status.mutable_stages(2)->set_total(explanation->tasks_total());
      }
    }
    AddProblems(record, study, status);
    for (const auto& [name, worker] : workers_) {
      if (worker.assignment != 0 && assignments_.at(worker.assignment).study == id) {
        status.set_workers(status.workers() + 1);
      }
    }
    return status;
  }

  uint64_t StudyVersion(const std::string& id) const {
    auto it = studies_.find(id);
    return it == studies_.end() ? 0 : it->second->version;
  }

  v1::ListResponse List() const {
    std::vector<const StudyRecord*> records;
    for (const auto& [id, record] : state_.studies()) records.push_back(&record);
    std::sort(records.begin(), records.end(),
              [](const StudyRecord* a, const StudyRecord* b) { return a->order < b->order; });
    v1::ListResponse response;
    for (const StudyRecord* record : records) *response.add_studies() = *Status(record->id);
    return response;
  }

  absl::StatusOr<v1::StudyResults> Results(const std::string& id) const {
    v1::StudyResults results;
    ASSIGN_OR_RETURN(*results.mutable_status(), Status(id));
    const StudyRecord& record = state_.studies().at(id);
    const Study& study = *studies_.at(id);
    *results.mutable_spec() = record.spec;
    results.set_image_set(record.image_set.bytes());
    results.set_numerics_class(record.numerics_class);
    if (study.run == nullptr || !study.run->training_done()) return results;
    const TrainingPlanner::Outcome& outcome = *study.run->training().outcome();
    *results.mutable_model() = outcome.model;
    results.set_stop_epoch(outcome.stop_epoch);
    ASSIGN_OR_RETURN(*results.mutable_training(),
                     ReadState(study.run->recipe_digest(), outcome.step));
    if (const EvaluationPlanner* evaluation = study.run->evaluation();
        evaluation != nullptr && evaluation->done()) {
      for (uint32_t image : evaluation->test()) results.add_test_images(image);
      for (float logit : evaluation->logits()) results.add_test_logits(logit);
    }
    const ExplanationPlanner* explanation = study.run->explanation();
    if (explanation == nullptr) return results;
    for (size_t i = 0; i < explanation->chosen().size(); ++i) {
      v1::ExplainedImage& image = *results.add_explained();
      image.set_image(explanation->chosen()[i].image);
      image.set_why(explanation->chosen()[i].why);
      for (const v1::MethodSpec& method : record.spec.explanation().methods()) {
        ASSIGN_OR_RETURN(ExplanationPlanner::MethodTask task, explanation->TaskOf(i, method));
        v1::MethodResult& out = *image.add_results();
        *out.mutable_method() = method;
        *out.mutable_task() = std::move(task.task);
        if (state_.Find(task.digest) != nullptr) {
          ASSIGN_OR_RETURN(*out.mutable_result(), ReadResult(task.digest));
        }
        if (!task.superpixels.none() && state_.Find(task.superpixels) != nullptr) {
          ASSIGN_OR_RETURN(*out.mutable_superpixels(), ReadResult(task.superpixels));
        }
      }
    }
    return results;
  }

  v1::ClusterStatusResponse ClusterStatus() const {
    v1::ClusterStatusResponse response;
    response.set_version(kVersion);
    response.set_incarnation(state_.incarnation());
    response.set_free_bytes(blobs_.FreeBytes());
    response.set_disk_low(blobs_.LowDisk());
    for (const std::string& alarm : alarms_) response.add_alarms(alarm);
    for (const auto& [name, worker] : workers_) {
      v1::WorkerStatus& out = *response.add_workers();
      out.set_worker(name);
      out.set_host(worker.hello.host());
      out.set_numerics_class(worker.hello.numerics_class());
      out.set_threads(worker.hello.threads());
      out.set_completed(worker.completed);
      out.set_state(Quarantined(name) ? "quarantined" : "idle");
      if (worker.assignment == 0) continue;
      const Assignment& assignment = assignments_.at(worker.assignment);
      if (!Quarantined(name)) out.set_state(assignment.gang ? "gang" : "units");
      if (assignment.gang) {
        out.set_doing(absl::StrCat(assignment.study, ": trains ", assignment.recipe.short_hex(),
                                   " with ", assignment.members.size(), " worker",
                                   assignment.members.size() == 1 ? "" : "s", ", step ",
                                   assignment.step, assignment.yielding ? ", yields" : ""));
      } else {
        std::string what = "finishes";
        for (const Digest& task : assignment.tasks) {
          auto unit = units_.find(task);
          if (unit == units_.end() || unit->second.assignment != assignment.id) continue;
          what = Describe(unit->second.spec);
          break;
        }
        out.set_doing(absl::StrCat(assignment.study, ": ", what));
      }
    }
    return response;
  }

  Counters counters() const { return counters_; }
  std::vector<std::string> alarms() const { return alarms_; }

  // ------------------------------------------------------------------ time

  void Tick() {
    const absl::Duration now = clock_.Now();
    // Not at every batch of commands: this walks over all workers.
    if (now - last_check_ >= absl::Milliseconds(50) || now < last_check_) {
      CheckTimeouts(now);
      AccountTime(now);
      last_check_ = now;
      check_yields_ = true;
    }
    for (const Digest& blob : std::exchange(lost_blobs_, {})) BlobLost(blob, "it could not be read");
    if (std::exchange(stop_unwanted_, false)) StopUnwanted();
    while (!delayed_.empty() && delayed_.begin()->first <= now) {
      const Digest task = delayed_.begin()->second;
      delayed_.erase(delayed_.begin());
      auto it = units_.find(task);
      if (it != units_.end() && it->second.delayed && it->second.not_before <= now) {
        it->second.delayed = false;
        Enqueue(task, it->second, false);
      }
    }
    if (now < work_from_) return;
    // A bundle may be cut short (a change of kind, a task that must run alone): once more for the
    // rest.
    for (int round = 0; round < 3; ++round) {
      if (!Assign(now)) break;
    }
  }

  std::string Dump() const {
    std::string out = state_.Dump();
    for (const auto& [id, study] : studies_) {
      absl::StrAppend(&out, "run ", id, " phase ", static_cast<int>(PhaseOf(*study)));
      for (int s = 0; s < kStages; ++s) {
        absl::StrAppend(&out, " ", study->computed[s], "+", study->reused[s]);
      }
      if (study->run != nullptr) {
        absl::StrAppend(&out, " epochs ", study->run->training().epochs_done(), " outcome ",
                        study->run->training_done() ? study->run->training().outcome()->step : 0);
        if (study->run->evaluation() != nullptr) {
          absl::StrAppend(&out, " images ", study->run->evaluation()->images_done());
        }
        if (study->run->explanation() != nullptr) {
          absl::StrAppend(&out, " explained ", study->run->explanation()->chosen().size(),
                          " tasks ", study->run->explanation()->tasks_done(), "/",
                          study->run->explanation()->tasks_total());
        }
      }
      std::vector<Digest> wanted;
      for (const auto& [task, stage] : study->wanted) wanted.push_back(task);
      std::sort(wanted.begin(), wanted.end());
      for (const Digest& task : wanted) absl::StrAppend(&out, "\n  wants ", task.hex());
      for (const auto& [task, want] : study->failed)
        absl::StrAppend(&out, "\n  failed ", task.hex());
      absl::StrAppend(&out, "\n");
    }
    return out;
  }

  std::string DescribeWork() const {
    std::string out;
    for (const auto& [id, study] : studies_) {
      absl::StrAppend(&out, "study ", id, ": ", study->wanted.size(), " wanted, ", study->waiting,
                      " wait, queue of ", study->queue.size(), "\n");
      std::vector<Digest> wanted;
      for (const auto& [task, stage] : study->wanted) wanted.push_back(task);
      std::sort(wanted.begin(), wanted.end());
      if (wanted.size() > 10) wanted.resize(10);
      for (const Digest& task : wanted) {
        auto it = units_.find(task);
        if (it == units_.end()) {
          absl::StrAppend(&out, "  ", task.short_hex(), " unknown\n");
          continue;
        }
        const Unit& unit = it->second;
        absl::StrAppend(&out, "  ", task.short_hex(), " ", Describe(unit.spec),
                        unit.waiting ? ", waits" : "", unit.delayed ? ", backs off" : "",
                        ", assignment ", unit.assignment, ", avoids ",
                        absl::StrJoin(unit.avoid, " "), "\n");
      }
    }
    for (const auto& [id, assignment] : assignments_) {
      absl::StrAppend(&out, "assignment ", id, " of ", assignment.study, ": ",
                      assignment.gang ? absl::StrJoin(assignment.members, " ") : assignment.worker,
                      assignment.yielding ? ", yields" : "", assignment.doomed ? ", doomed" : "",
                      "\n");
    }
    return out;
  }

 private:
  struct Worker {
    v1::Register hello;
    ConnectionId connection = 0;
    absl::Duration last_beat;
    uint64_t assignment = 0;    // 0: free.
    absl::Duration seen;        // When it was last known to run the assignment.
    absl::Duration told;        // When it was last told to stop.
    uint64_t progress = 0;
    absl::Duration progress_at;
    std::deque<double> steps;  // Seconds a unit of progress, the last few.
    std::vector<uint32_t> waits_for;  // Ranks of its gang.
    bool draining = false;
    uint64_t completed = 0;
  };

  // Losses of a worker (by name) since it last completed a task.
  struct History {
    std::set<Digest> lost;
    uint64_t completions_before = 0;  // Of the cluster, at the first loss.
    absl::Duration quarantined_until = -absl::InfiniteDuration();
  };

  struct Assignment {
    uint64_t id = 0;
    std::string study;  // Charged for it.
    bool gang = false;
    absl::Duration started;
    std::string why;  // Yielding or doomed: the reason.
    bool yielding = false;
    bool doomed = false;  // Told to cancel.
    // Bundle.
    std::string worker;
    std::vector<Digest> tasks;
    v1::TaskSpec::KindCase kind = v1::TaskSpec::KIND_NOT_SET;
    // Gang.
    Digest recipe;
    v1::Generation generation;
    std::set<std::string> members;  // Those that have not ended.
    std::map<std::string, uint32_t> ranks;  // Empty where it was adopted: ranks are not told again.
    uint32_t world = 0;
    bool adopted = false;
    size_t states_before = 0;
    uint64_t step = 0;  // That it has reached, for people.
  };

  // A unit that someone wants and that has no result.
  struct Unit {
    v1::TaskSpec spec;
    std::set<std::string> studies;
    uint64_t assignment = 0;
    bool waiting = false;  // In the queues of `studies`.
    bool delayed = false;  // In delayed_, until not_before.
    absl::Duration not_before;
    uint32_t back_offs = 0;
    bool single = false;          // A bundle with it failed as a whole: runs by itself.
    std::set<std::string> avoid;  // Workers that just failed it,
    absl::Duration avoid_until;   // until then; nobody else may ever be free.
  };

  // What is known of training a recipe beside its stored states.
  struct Trial {
    uint64_t assignment = 0;
    absl::Duration not_before = -absl::InfiniteDuration();
    uint32_t back_offs = 0;
    std::set<std::string> avoid;
  };

  struct Study {
    std::string id;
    std::unique_ptr<StudyRun> run;  // Null: not pinned, or a problem.
    absl::Status problem;           // It cannot go on.
    std::string hint;               // The last passing trouble, for people.
    absl::flat_hash_map<Digest, Stage> wanted;
    std::map<Digest, StudyRun::Want> failed;
    bool training_failed = false;
    std::array<uint64_t, kStages> computed{}, reused{};
    std::deque<Digest> queue;  // May name tasks that do not wait any more.
    uint64_t waiting = 0;
    double used = 0;
    uint32_t workers = 0;
    std::optional<absl::Duration> hungry_since;
    uint64_t version = 1;
  };

  struct Message {
    ConnectionId connection = 0;
    bool close = false;
    std::string why;
    v1::Directive directive;
  };

  // ------------------------------------------------------------------ events

  void Record(v1::Event event, const Digest& task = Digest(),
              const v1::Payload* payload = nullptr) {
    event.set_unix_ms(clock_.UnixMillis());
    if (event.has_task_completed()) pending_results_[task] = pending_.size();
    pending_.push_back({std::move(event), task});
    // A copy of the pointer's target would cost; pending_ may grow while it is applied only if
    // Apply recorded events, which it does not.
    if (absl::Status status = Apply(next_row_++, pending_.back(), payload); !status.ok()) {
      DERMIS_LOG(kError, "an event that does not apply: ", status.message());
      fatal_ = status;
    }
  }

  // State, then all that is folded from it. The same live and in replay.
  absl::Status Apply(uint64_t row, const JournalEntry& entry, const v1::Payload* payload) {
    RETURN_IF_ERROR(state_.Apply(row, entry));
    const v1::Event& event = entry.event;
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
        FoldDropped(event.blob_dropped());
        break;
      case v1::Event::kFailuresCleared:
        FoldCleared(event.failures_cleared().study());
        break;
      default:
        break;
    }
    return absl::OkStatus();
  }

  // Begins a study anew from what is stored: after its submission, its pinning, and every time it
  // is submitted again. Counters start at zero.
  void StartStudy(const std::string& id) {
    const StudyRecord& record = state_.studies().at(id);
    std::unique_ptr<Study>& slot = studies_[id];
    uint64_t version = 1;
    if (slot != nullptr) {
      DropWants(*slot);
      version = slot->version + 1;
    }
    slot = std::make_unique<Study>();
    Study& study = *slot;
    study.id = id;
    study.version = version;
    // Who comes later shares from now on: no credit for the time before.
    std::optional<double> least;
    for (const auto& [other, entry] : studies_) {
      if (other == id || PhaseOf(*entry) != v1::StudyStatus::RUNNING) continue;
      least = least ? std::min(*least, entry->used) : entry->used;
    }
    study.used = least.value_or(0);
    if (record.numerics_class.empty() || record.cancelled) return;
    absl::StatusOr<std::shared_ptr<const v1::ImageSetManifest>> manifest =
        Manifest(record.image_set);
    if (!manifest.ok()) {
      study.problem = manifest.status();
      return;
    }
    absl::StatusOr<std::unique_ptr<StudyRun>> run =
        StudyRun::Make(record.spec, record.image_set, *manifest, record.numerics_class);
    if (!run.ok()) {
      study.problem = run.status();
      return;
    }
    study.run = *std::move(run);
    study.training_failed = state_.failures().contains({id, study.run->recipe_digest()});
    FeedStoredStates(study);
    if (const auto* states = state_.StatesOf(study.run->recipe_digest())) {
      const TrainingPlanner& training = study.run->training();
      const uint64_t limit = training.target_step().value_or(training.last_step());
      for (const auto& [step, task] : *states) {
        if (step <= limit) ++study.reused[static_cast<int>(Stage::kTraining)];
      }
    }
    DrainFolds();
  }

  // The longest history tells where training stops; then that very state may be there, too.
  void FeedStoredStates(Study& study) {
    const Digest& recipe = study.run->recipe_digest();
    const std::map<uint64_t, Digest>* states = state_.StatesOf(recipe);
    if (states == nullptr) return;
    const auto feed = [&](uint64_t step) {
      absl::StatusOr<v1::TrainOutput> output = ReadState(recipe, step);
      if (!output.ok()) {
        DERMIS_LOG(kWarning, "state of ", recipe.short_hex(), " at step ", step, ": ",
                   output.status().message());
        return false;
      }
      AddWants(study, study.run->OnState(*output));
      return true;
    };
    for (auto it = states->rbegin(); it != states->rend(); ++it) {
      if (feed(it->first)) break;
    }
    const std::optional<uint64_t> target = study.run->training().target_step();
    if (!study.run->training_done() && target && states->contains(*target)) feed(*target);
  }

  void AddWants(Study& study, absl::StatusOr<StudyRun::Wants> wants) {
    ++study.version;
    if (!wants.ok()) {
      study.problem = wants.status();
      DERMIS_LOG(kError, "study ", study.id, ": ", wants.status().message());
      DropWants(study);
      stop_unwanted_ = true;
      return;
    }
    for (StudyRun::Want& want : *wants) {
      if (state_.Find(want.task) != nullptr) {
        ++study.reused[static_cast<int>(want.stage)];
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

  // Results that were there already, fed to their studies; these may want more that is there
  // already.
  void DrainFolds() {
    while (!folds_.empty()) {
      auto [id, task] = std::move(folds_.front());
      folds_.pop_front();
      Study* study = FindStudy(id);
      if (study == nullptr || study->run == nullptr) continue;
      AddWants(*study, study->run->OnResult(task, [&] { return ReadPayload(task); }));
    }
  }

  void FoldCompleted(const JournalEntry& entry, const v1::Payload* payload) {
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
        if (!Training(*study) || study->run->recipe_digest() != *recipe) continue;
        if (!output) output = read();
        ++study->computed[static_cast<int>(Stage::kTraining)];
        study->hint.clear();
        if (output->ok()) {
          AddWants(*study, study->run->OnState((*output)->train()));
        } else {
          DERMIS_LOG(kError, "study ", id, ": ", output->status().message());
        }
      }
      if (auto it = trials_.find(*recipe); it != trials_.end()) {
        it->second.back_offs = 0;
        it->second.avoid.clear();
      }
    }
    if (auto it = units_.find(entry.task); it != units_.end()) {
      const std::set<std::string> wanting = it->second.studies;
      SetWaiting(it->second, false);
      units_.erase(it);
      for (const std::string& id : wanting) {
        Study& study = *studies_.at(id);
        auto want = study.wanted.find(entry.task);
        if (want == study.wanted.end()) continue;
        ++study.computed[static_cast<int>(want->second)];
        study.wanted.erase(want);
        study.hint.clear();
        AddWants(study, study.run->OnResult(entry.task, read));
      }
    }
    DrainFolds();
  }

  void FoldFailed(const v1::TaskFailed& failed) {
    const absl::StatusOr<Digest> task = Digest::FromBytes(failed.task());
    if (!task.ok()) return;
    for (const std::string& id : failed.studies()) {
      Study* study = FindStudy(id);
      if (study == nullptr || study->run == nullptr) continue;
      ++study->version;
      if (study->run->recipe_digest() == *task) study->training_failed = true;
      auto want = study->wanted.find(*task);
      if (want == study->wanted.end()) continue;
      auto unit = units_.find(*task);
      study->failed[*task] = {*task, want->second, unit->second.spec};
      study->wanted.erase(want);
      Unwant(*study, *task);
    }
  }

  void FoldCleared(const std::string& id) {
    Study* study = FindStudy(id);
    if (study == nullptr) return;
    if (!study->problem.ok()) return StartStudy(id);  // What could not be read may be there again.
    ++study->version;
    study->training_failed = false;
    StudyRun::Wants again;
    for (auto& [task, want] : study->failed) again.push_back(std::move(want));
    study->failed.clear();
    if (state_.studies().at(id).cancelled || study->run == nullptr) return;
    // Another study may have trained the recipe meanwhile.
    if (!study->run->training_done()) FeedStoredStates(*study);
    AddWants(*study, std::move(again));
    DrainFolds();
  }

  static bool HasChunk(const v1::ImageSetManifest& manifest, const Digest& blob) {
    return std::any_of(manifest.chunks().begin(), manifest.chunks().end(), [&](const v1::ImageChunk& chunk) {
      return chunk.pixels() == blob.bytes() || chunk.masks() == blob.bytes();
    });
  }

  // Lost results: studies begin anew from what is left. Lost images cannot be computed.
  void FoldDropped(const v1::BlobDropped& dropped) {
    const absl::StatusOr<Digest> blob = Digest::FromBytes(dropped.digest());
    if (!blob.ok()) return;
    std::vector<std::string> ids;
    for (const auto& [id, study] : studies_) {
      if (study->run != nullptr) ids.push_back(id);
    }
    for (const std::string& id : ids) {
      StartStudy(id);
      Study& study = *FindStudy(id);
      const auto manifest = manifests_.find(state_.studies().at(id).image_set);
      if (study.problem.ok() && manifest != manifests_.end() && HasChunk(*manifest->second, *blob)) {
        study.problem = absl::DataLossError(absl::StrCat("a part of its images (blob ", blob->short_hex(),
                                                         ") is lost: submit the study again with its images"));
        DropWants(study);
      }
    }
  }

  void DropWants(Study& study) {
    ++study.version;
    std::vector<Digest> tasks;
    for (const auto& [task, stage] : study.wanted) tasks.push_back(task);
    study.wanted.clear();
    for (const Digest& task : tasks) Unwant(study, task);
    study.queue.clear();
    study.failed.clear();
    study.hungry_since.reset();
  }

  void Unwant(Study& study, const Digest& task) {
    auto it = units_.find(task);
    if (it == units_.end() || it->second.studies.erase(study.id) == 0) return;
    if (it->second.waiting) --study.waiting;
    if (it->second.studies.empty()) units_.erase(it);
  }

  // ------------------------------------------------------------------ reading what is stored

  absl::StatusOr<v1::Payload> ParsePayload(const v1::TaskResult& result) const {
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
      return absl::DataLossError(
          absl::StrCat("payload blob ", blob.short_hex(), " does not parse"));
    }
    return payload;
  }

  absl::StatusOr<v1::Payload> ReadPayload(const Digest& task) const {
    ASSIGN_OR_RETURN(v1::TaskResult result, ReadResult(task));
    return ParsePayload(result);
  }

  absl::StatusOr<v1::TrainOutput> ReadState(const Digest& recipe, uint64_t step) const {
    const std::map<uint64_t, Digest>* states = state_.StatesOf(recipe);
    auto it = states == nullptr ? std::map<uint64_t, Digest>::const_iterator() : states->find(step);
    if (states == nullptr || it == states->end()) {
      return absl::NotFoundError(absl::StrCat("no state at step ", step));
    }
    ASSIGN_OR_RETURN(v1::Payload payload, ReadPayload(it->second));
    return std::move(*payload.mutable_train());
  }

  absl::StatusOr<std::shared_ptr<const v1::ImageSetManifest>> Manifest(const Digest& image_set) {
    auto it = manifests_.find(image_set);
    if (it != manifests_.end()) return it->second;
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
    manifests_[image_set] = manifest;
    return std::shared_ptr<const v1::ImageSetManifest>(manifest);
  }

  // ------------------------------------------------------------------ studies

  Study* FindStudy(const std::string& id) {
    auto it = studies_.find(id);
    return it == studies_.end() ? nullptr : it->second.get();
  }

  void Touch(const std::string& id) {
    if (Study* study = FindStudy(id)) ++study->version;
  }

  // A worker of this class came or went: what studies of it say changes.
  void TouchClass(const std::string& numerics_class) {
    for (auto& [id, study] : studies_) {
      const std::string& pinned = state_.studies().at(id).numerics_class;
      if (pinned.empty() || pinned == numerics_class) ++study->version;
    }
  }

  v1::StudyStatus::Phase PhaseOf(const Study& study) const {
    const auto record = state_.studies().find(study.id);
    if (record == state_.studies().end()) return v1::StudyStatus::RUNNING;
    if (record->second.cancelled) return v1::StudyStatus::CANCELLED;
    if (!study.problem.ok()) return v1::StudyStatus::FAILED;
    if (study.run == nullptr) return v1::StudyStatus::RUNNING;
    if (study.run->done()) return v1::StudyStatus::DONE;
    if (!study.run->training_done()) {
      return study.training_failed ? v1::StudyStatus::FAILED : v1::StudyStatus::RUNNING;
    }
    if (!study.failed.empty() && study.wanted.empty()) return v1::StudyStatus::FAILED;
    return v1::StudyStatus::RUNNING;
  }

  // Its training can be worked on.
  bool Training(const Study& study) const {
    return study.run != nullptr && study.problem.ok() && !study.run->training_done() &&
           !study.training_failed && !state_.studies().at(study.id).cancelled;
  }

  void AddProblems(const StudyRecord& record, const Study& study, v1::StudyStatus& status) const {
    constexpr int kMost = 20;
    if (!study.problem.ok()) status.add_problems(std::string(study.problem.message()));
    const auto first = state_.failures().lower_bound({record.id, Digest()});
    for (auto it = first; it != state_.failures().end() && it->first.first == record.id; ++it) {
      if (status.problems_size() >= kMost) {
        status.add_problems("... and more");
        break;
      }
      std::string what = absl::StrCat("task ", it->first.second.short_hex());
      if (auto failed = study.failed.find(it->first.second); failed != study.failed.end()) {
        what = Describe(failed->second.spec);
      } else if (study.run != nullptr && study.run->recipe_digest() == it->first.second) {
        what = "training";
      }
      status.add_problems(absl::StrCat(what, " failed on worker ", it->second.worker, ": ",
                                       it->second.cause, " (dermis retry ", record.id,
                                       " tries again)"));
    }
    if (status.phase() != v1::StudyStatus::RUNNING) return;
    if (record.numerics_class.empty()) {
      status.add_problems("no worker is there yet: start one");
      return;
    }
    bool any = false;
    std::set<std::string> others;
    for (const auto& [name, worker] : workers_) {
      if (worker.hello.numerics_class() == record.numerics_class) {
        any = true;
      } else {
        others.insert(absl::StrCat(name, " (", worker.hello.numerics_class(), ")"));
      }
    }
    if (!any) {
      status.add_problems(
          absl::StrCat("no worker of numerics class ", record.numerics_class, " is there",
                       others.empty() ? "" : "; cannot help, as other bits would come out: ",
                       absl::StrJoin(others, ", ")));
    }
    if (!study.hint.empty()) status.add_problems(study.hint);
  }

  std::string CommonClass() const {
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

  void PinStudies(const std::string& numerics_class) {
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

  absl::StatusOr<v1::SubmitResponse> DoSubmit(Submission submission) {
    if (blobs_.LowDisk()) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "the coordinator's disk is almost full (", blobs_.FreeBytes() >> 20,
          " MiB free): new studies are refused until there is space; running ones go on"));
    }
    ASSIGN_OR_RETURN(const Digest digest, MessageDigest(submission.spec));
    manifests_[submission.image_set] = submission.manifest;
    v1::SubmitResponse response;
    std::string numerics_class = CommonClass();
    std::string id = submission.spec.name();
    for (int n = 2;; ++n) {
      auto it = state_.studies().find(id);
      if (it == state_.studies().end()) break;
      ASSIGN_OR_RETURN(const Digest other, MessageDigest(it->second.spec));
      if (other == digest && it->second.image_set == submission.image_set) {
        response.set_attached(true);
        if (!it->second.numerics_class.empty()) numerics_class = it->second.numerics_class;
        break;
      }
      id = absl::StrCat(submission.spec.name(), "@", n);
    }
    RETURN_IF_ERROR(
        StudyRun::Make(submission.spec, submission.image_set, submission.manifest, numerics_class)
            .status());
    response.set_id(id);
    for (const std::string& warning : submission.warnings) response.add_warnings(warning);
    const v1::TrainingSpec& training = submission.spec.training();
    if (training.logical_shards() > 0 && training.batch_size() / training.logical_shards() < 16) {
      response.add_warnings(absl::StrCat(
          "a shard holds ", training.batch_size() / training.logical_shards(),
          " images; batch norm is per shard and noisy below 16: fewer logical_shards or a larger "
          "batch_size"));
    }
    if (!response.attached() || PhaseOf(*FindStudy(id)) != v1::StudyStatus::RUNNING) {
      v1::Event event;
      v1::StudySubmitted& submitted = *event.mutable_study_submitted();
      submitted.set_id(id);
      *submitted.mutable_spec() = std::move(submission.spec);
      submitted.set_image_set(submission.image_set.bytes());
      submitted.set_numerics_class(numerics_class);
      submitted.set_user(submission.user);
      Record(std::move(event));
    }
    const Study& study = *FindStudy(id);
    for (uint64_t reused : study.reused) response.set_reused(response.reused() + reused);
    DERMIS_LOG(kInfo, "study ", id, response.attached() ? " attached" : " submitted", ", ",
               response.reused(), " results found");
    return response;
  }

  // ------------------------------------------------------------------ queues

  void SetWaiting(Unit& unit, bool waiting) {
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

  void Enqueue(const Digest& task, Unit& unit, bool first) {
    if (unit.waiting) return;
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

  void Avoid(Unit& unit, const std::string& worker) {
    unit.avoid = {worker};
    unit.avoid_until = clock_.Now() + absl::Seconds(15);
  }

  // Back into the queue, now or after a while.
  void Release(const Digest& task, Unit& unit, bool back_off) {
    unit.assignment = 0;
    if (!back_off) {
      Enqueue(task, unit, true);
      return;
    }
    unit.not_before = clock_.Now() + BackOff(unit.back_offs++);
    unit.delayed = true;
    delayed_.emplace(unit.not_before, task);
  }

  std::vector<Digest> Remaining(const Assignment& assignment) const {
    std::vector<Digest> tasks;
    for (const Digest& task : assignment.tasks) {
      auto it = units_.find(task);
      if (it != units_.end() && it->second.assignment == assignment.id) tasks.push_back(task);
    }
    return tasks;
  }

  // ------------------------------------------------------------------ assignments that end

  void Release(Worker& worker) {
    worker.assignment = 0;
    worker.steps.clear();
  }
  static bool Free(const Worker& worker) { return worker.assignment == 0 && !worker.draining; }

  void EraseAssignment(uint64_t id) {
    Touch(assignments_.at(id).study);
    assignments_.erase(id);
  }

  void Fail(const Digest& task, const std::set<std::string>& studies, const std::string& cause,
            const std::string& worker) {
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

  void BundleEnded(const std::string& name, Worker& worker, Assignment& assignment,
                   const v1::AttemptEnded& ended) {
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
    Release(worker);
    for (auto it = remaining.rbegin(); it != remaining.rend(); ++it) {
      Unit& unit = units_.at(*it);
      if (culprit == *it) continue;
      if (unclear) unit.single = true;
      if (ended.outcome() == v1::OUTCOME_UNAVAILABLE) Avoid(unit, name);
      Release(*it, unit, back_off);
    }
    EraseAssignment(assignment.id);
    if (culprit) {
      const std::set<std::string> studies = units_.at(*culprit).studies;
      units_.at(*culprit).assignment = 0;
      Fail(*culprit, studies, ended.cause(), name);
    }
  }

  // Everyone who is still in the gang is told to stop without a result.
  void Doom(Assignment& gang, const std::string& why) {
    if (gang.doomed) return;
    gang.doomed = true;
    gang.why = why;
    for (const std::string& member : gang.members) {
      auto it = workers_.find(member);
      if (it == workers_.end()) continue;
      it->second.told = clock_.Now();
      SendCancel(it->second.connection, gang.id, why);
    }
  }

  void GangMemberEnded(const std::string& name, Worker& worker, Assignment& gang,
                       const v1::AttemptEnded& ended) {
    gang.members.erase(name);
    Release(worker);
    const std::string cause =
        absl::StrCat("worker ", name, " ended: ", v1::Outcome_Name(ended.outcome()),
                     ended.cause().empty() ? "" : ", ", ended.cause());
    switch (ended.outcome()) {
      case v1::OUTCOME_DONE:
        break;
      case v1::OUTCOME_YIELDED:
        // It drains. All ranks stop at the same step, and rank 0 may be storing the state now.
        YieldGang(gang, cause);
        break;
      case v1::OUTCOME_FAILED:
        // A rank calls only its own error a failure: what a lost peer or a cancel does to it has other names. So it
        // stands although others, whom it told, may have been heard first.
        Fail(gang.recipe, Wanting(gang.recipe), ended.cause(), name);
        Doom(gang, cause);
        break;
      case v1::OUTCOME_UNAVAILABLE:
        trials_[gang.recipe].avoid.insert(name);
        Doom(gang, cause);
        break;
      default:
        Doom(gang, cause);
        break;
    }
    if (gang.members.empty()) FinishGang(gang);
  }

  void FinishGang(Assignment& gang) {
    Trial& trial = trials_[gang.recipe];
    if (trial.assignment == gang.id) trial.assignment = 0;
    const bool advanced = CountStates(gang.recipe) > gang.states_before;
    if (!advanced && !(gang.yielding && !gang.doomed)) {
      trial.not_before = clock_.Now() + BackOff(trial.back_offs++);
    }
    EraseAssignment(gang.id);
  }

  size_t CountStates(const Digest& recipe) const {
    const std::map<uint64_t, Digest>* states = state_.StatesOf(recipe);
    return states == nullptr ? 0 : states->size();
  }

  std::set<std::string> Wanting(const Digest& recipe) const {
    std::set<std::string> ids;
    for (const auto& [id, study] : studies_) {
      if (Training(*study) && study->run->recipe_digest() == recipe) ids.insert(id);
    }
    return ids;
  }

  // The worker does not have the assignment (any more), by nobody's fault.
  void Leave(uint64_t id, const std::string& name) {
    auto it = assignments_.find(id);
    if (it == assignments_.end()) return;
    if (auto worker = workers_.find(name);
        worker != workers_.end() && worker->second.assignment == id) {
      Release(worker->second);
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
      Release(*task, units_.at(*task), false);
    }
    EraseAssignment(id);
  }

  void LoseWorker(std::string name, const std::string& cause) {
    auto it = workers_.find(name);
    const uint64_t id = it->second.assignment;
    const std::string numerics_class = it->second.hello.numerics_class();
    const bool draining = it->second.draining;
    Close(it->second.connection, cause);
    connections_.erase(it->second.connection);
    workers_.erase(it);
    TouchClass(numerics_class);
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
        trials_[recipe].avoid = {name};
        RecordLoss(recipe, Wanting(recipe), name, numerics_class, cause, alone);
        Strike(name, recipe, numerics_class);
      }
      return;
    }
    const std::vector<Digest> remaining = Remaining(assignment);
    const bool counts = !assignment.doomed && !draining;
    EraseAssignment(id);
    for (auto task = remaining.rbegin(); task != remaining.rend(); ++task) {
      Unit& unit = units_.at(*task);
      Avoid(unit, name);
      Release(*task, unit, false);
    }
    if (!counts || remaining.empty()) return;
    for (const Digest& task : remaining) {
      RecordLoss(task, units_.at(task).studies, name, numerics_class, cause, remaining.size() == 1);
    }
    Strike(name, remaining[0], numerics_class);
  }

  void RecordLoss(const Digest& task, const std::set<std::string> studies,
                  const std::string& worker, const std::string& numerics_class,
                  const std::string& cause, bool alone) {
    ++counters_.losses;
    v1::Event event;
    v1::AttemptLost& lost = *event.mutable_attempt_lost();
    lost.set_task(task.bytes());
    lost.set_worker(worker);
    lost.set_cause(cause);
    lost.set_alone(alone);
    Record(std::move(event));
    const LossRecord* losses = state_.LossesOf(task);
    if (losses == nullptr || losses->alone < kPoison) return;
    // On two workers where there are two.
    if (losses->workers.size() < 2) {
      for (const auto& [name, other] : workers_) {
        if (other.hello.numerics_class() == numerics_class && !losses->workers.contains(name)) {
          return;
        }
      }
    }
    Fail(
        task, studies,
        absl::StrCat("its worker was lost ", losses->alone, " times while it ran nothing else (on ",
                     absl::StrJoin(losses->workers, ", "), "), the last time: ", cause),
        worker);
  }

  // Different tasks lost one after the other, with nothing completed, while others get on.
  void Strike(const std::string& name, const Digest& task, const std::string& numerics_class) {
    auto [it, fresh] = histories_.try_emplace(name);
    History& history = it->second;
    if (fresh) history.completions_before = counters_.completions;
    history.lost.insert(task);
    if (history.lost.size() < kStrikes || counters_.completions == history.completions_before) {
      return;
    }
    const bool others = std::any_of(workers_.begin(), workers_.end(), [&](const auto& other) {
      return other.first != name && other.second.hello.numerics_class() == numerics_class &&
             !Quarantined(other.first);
    });
    if (!others) return;
    history.quarantined_until = clock_.Now() + kQuarantine;
    DERMIS_LOG(
        kError, "worker ", name, " lost ", history.lost.size(),
        " different tasks while others succeed: quarantined for 10 minutes. Look at its host.");
  }

  bool Quarantined(const std::string& name) const {
    auto it = histories_.find(name);
    return it != histories_.end() && it->second.quarantined_until > clock_.Now();
  }

  // Work that nobody wants any more: gangs store what they have, bundles stop.
  void StopUnwanted() {
    for (auto& [id, assignment] : assignments_) {
      if (assignment.doomed || assignment.yielding) continue;
      if (assignment.gang) {
        if (Wanting(assignment.recipe).empty()) YieldGang(assignment, "nobody wants it any more");
      } else if (Remaining(assignment).empty()) {
        assignment.doomed = true;
        assignment.why = "nobody wants it any more";
        auto worker = workers_.find(assignment.worker);
        if (worker == workers_.end()) continue;
        worker->second.told = clock_.Now();
        SendCancel(worker->second.connection, id, assignment.why);
      }
    }
  }

  void YieldGang(Assignment& gang, const std::string& why) {
    if (gang.yielding || gang.doomed) return;
    gang.yielding = true;
    gang.why = why;
    DERMIS_LOG(kInfo, "study ", gang.study, ": its gang of ", gang.members.size(),
               " yields: ", why);
    for (const std::string& member : gang.members) {
      auto it = workers_.find(member);
      if (it == workers_.end()) continue;
      it->second.told = clock_.Now();
      SendYield(it->second.connection, gang.id, why);
    }
  }

  // ------------------------------------------------------------------ timeouts

  void Progress(Worker& worker, uint64_t progress, absl::Duration now) {
    if (progress <= worker.progress) return;
    worker.steps.push_back(absl::ToDoubleSeconds(now - worker.progress_at) /
                           static_cast<double>(progress - worker.progress));
    if (worker.steps.size() > 31) worker.steps.pop_front();
    worker.progress_at = now;
    worker.progress = progress;
  }

  // How long a worker may make no progress: until it is known how fast it is, as long as fetching and warming up may
  // take.
  absl::Duration StuckLimit(const Worker& worker) const {
    if (worker.steps.size() < kKnownSteps) return options_.first_progress;
    std::vector<double> steps(worker.steps.begin(), worker.steps.end());
    const auto median = steps.begin() + static_cast<std::ptrdiff_t>(steps.size() / 2);
    std::nth_element(steps.begin(), median, steps.end());
    return std::max(options_.stuck_after, 20 * absl::Seconds(*median));
  }

  void CheckTimeouts(absl::Duration now) {
    std::vector<std::pair<std::string, std::string>> lost;
    for (const auto& [name, worker] : workers_) {
      if (now - worker.last_beat > options_.lost_after) {
        lost.emplace_back(
            name, absl::StrCat("no beat for ", absl::FormatDuration(now - worker.last_beat)));
        continue;
      }
      if (worker.assignment == 0) continue;
      if (now - worker.progress_at <= StuckLimit(worker)) continue;
      // A rank that waits for others is not to blame; they are, or the one that they wait for.
      if (!worker.waits_for.empty() && now - worker.progress_at <= 2 * StuckLimit(worker)) continue;
      condemned_.insert(worker.assignment);
      lost.emplace_back(name, absl::StrCat("stuck: no progress for ",
                                           absl::FormatDuration(now - worker.progress_at)));
    }
    for (const auto& [name, cause] : lost) {
      if (workers_.contains(name)) LoseWorker(name, absl::StrCat(cause, WhereIs(name)));
    }
  }

  // ", study s, recipe 1234, rank 1 of 2, step 1200": what a worker was at when it was lost.
  std::string WhereIs(const std::string& name) const {
    const Worker& worker = workers_.at(name);
    if (worker.assignment == 0) return "";
    const Assignment& assignment = assignments_.at(worker.assignment);
    if (!assignment.gang) return absl::StrCat(" in a task of study ", assignment.study);
    auto rank = assignment.ranks.find(name);
    return absl::StrCat(", study ", assignment.study, ", recipe ", assignment.recipe.short_hex(),
                        rank == assignment.ranks.end()
                            ? ""
                            : absl::StrCat(", rank ", rank->second, " of ", assignment.ranks.size()),
                        ", step ", assignment.step);
  }

  void AccountTime(absl::Duration now) {
    const double seconds =
        last_check_ == absl::Duration() ? 0.0 : absl::ToDoubleSeconds(now - last_check_);
    for (auto& [id, study] : studies_) study->workers = 0;
    for (const auto& [name, worker] : workers_) {
      if (worker.assignment == 0) continue;
      if (Study* study = FindStudy(assignments_.at(worker.assignment).study)) {
        study->used += seconds;
        ++study->workers;
      }
    }
  }

  // ------------------------------------------------------------------ assigning

  uint64_t NewAssignment() { return (state_.incarnation() << 32) | ++assignment_counter_; }

  // What a worker says it runs: goes on where its work is wanted and nobody else does it.
  bool Adopt(const std::string& name, Worker& worker, const v1::RunningAttempt& running) {
    const absl::Duration now = clock_.Now();
    const uint64_t id = running.assignment();
    if (id == 0 || condemned_.contains(id)) return false;
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
      const std::set<std::string> wanting = Wanting(*recipe);
      Trial& trial = trials_[*recipe];
      if (wanting.empty() || trial.assignment != 0 || !SameClass(*wanting.begin(), worker)) {
        return false;
      }
      Assignment& gang = assignments_[id];
      gang.id = id;
      gang.gang = true;
      gang.adopted = true;
      gang.study = *wanting.begin();
      gang.started = now;
      gang.recipe = *recipe;
      gang.generation = running.generation();
      gang.members = {name};
      gang.world = 1;
      gang.states_before = CountStates(*recipe);
      gang.step = running.step();
      trial.assignment = id;
    } else {
      std::vector<Digest> tasks;
      for (const std::string& bytes : running.tasks()) {
        const absl::StatusOr<Digest> task = Digest::FromBytes(bytes);
        if (!task.ok()) return false;
        auto unit = units_.find(*task);
        if (unit == units_.end() || unit->second.assignment != 0) continue;
        tasks.push_back(*task);
      }
      if (tasks.empty()) return false;
      Assignment& bundle = assignments_[id];
      bundle.id = id;
      bundle.adopted = true;
      bundle.started = now;
      bundle.worker = name;
      for (const Digest& task : tasks) {
        Unit& unit = units_.at(task);
        SetWaiting(unit, false);
        unit.delayed = false;
        unit.assignment = id;
        bundle.kind = unit.spec.kind_case();
        bundle.study = *unit.studies.begin();
      }
      bundle.tasks = std::move(tasks);
    }
    Occupy(worker, id, now);
    worker.progress = running.progress();
    Touch(assignments_.at(id).study);
    return true;
  }

  bool SameClass(const std::string& study, const Worker& worker) const {
    return state_.studies().at(study).numerics_class == worker.hello.numerics_class();
  }

  void Occupy(Worker& worker, uint64_t id, absl::Duration now) {
    worker.assignment = id;
    worker.seen = now;
    worker.told = now;
    worker.progress = 0;
    worker.waits_for.clear();
    worker.progress_at = now;
    worker.steps.clear();
  }

  // One round of the scheduler. True: something was assigned.
  bool Assign(absl::Duration now) {
    bool any_free = false;
    for (const auto& [name, worker] : workers_) {
      if (Free(worker)) {
        any_free = true;
        break;
      }
    }
    if (!any_free && !check_yields_) return false;
    check_yields_ = false;

    Cluster cluster;
    std::vector<std::string> names;
    std::vector<Study*> studies;
    std::vector<Digest> recipes;
    cluster.bundle_seconds = absl::ToDoubleSeconds(options_.bundle);
    cluster.max_bundle = options_.max_bundle;
    for (const auto& [name, worker] : workers_) {
      names.push_back(name);
      cluster.workers.push_back({name, worker.hello.numerics_class(),
                                 Free(worker),
                                 Quarantined(name)});
    }
    std::vector<std::pair<uint64_t, std::string>> order;
    for (const auto& [id, study] : studies_) {
      if (study->waiting > 0 || Training(*study)) {
        order.emplace_back(state_.studies().at(id).order, id);
      } else {
        study->hungry_since.reset();
      }
    }
    std::sort(order.begin(), order.end());
    std::set<Digest> seen;
    for (const auto& [position, id] : order) {
      Study& study = *studies_.at(id);
      const size_t index = studies.size();
      studies.push_back(&study);
      Cluster::Study view;
      view.numerics_class = state_.studies().at(id).numerics_class;
      view.used = study.used;
      view.waiting_units = study.waiting;
      view.unit_seconds = UnitSeconds(study);
      view.workers = study.workers;
      bool runnable = study.waiting > 0, served = study.workers > 0;
      if (Training(study)) {
        const Digest& recipe = study.run->recipe_digest();
        const Trial& trial = trials_[recipe];
        if (trial.assignment != 0) {
          served = true;  // By itself, or by another study that trains the same.
        } else if (trial.not_before <= now) {
          runnable = true;
        }
        if (seen.insert(recipe).second) {
          Cluster::Trial out;
          out.study = index;
          out.shards = study.run->recipe().logical_shards();
          out.avoid = trial.avoid;
          const LossRecord* losses = state_.LossesOf(recipe);
          out.alone = losses != nullptr && (losses->shared >= kPoison || losses->alone > 0);
          if (trial.assignment != 0) {
            const Assignment& gang = assignments_.at(trial.assignment);
            out.world = static_cast<uint32_t>(gang.members.size());
            out.may_yield =
                !gang.yielding && !gang.doomed && now - gang.started >= options_.regroup_after;
          } else {
            out.waiting = trial.not_before <= now;
          }
          cluster.trials.push_back(std::move(out));
          recipes.push_back(recipe);
        }
      }
      if (runnable && !served) {
        if (!study.hungry_since) study.hungry_since = now;
      } else {
        study.hungry_since.reset();
      }
      view.starved = study.hungry_since && now - *study.hungry_since > options_.starved_after;
      cluster.studies.push_back(std::move(view));
    }
    if (cluster.studies.empty() || cluster.workers.empty()) return false;

    const Plan plan = Schedule(cluster);
    for (size_t t : plan.yields) {
      YieldGang(assignments_.at(trials_.at(recipes[t]).assignment),
                "its workers are wanted for a larger gang or another study");
    }
    bool assigned = false;
    for (const Plan::Gang& gang : plan.gangs) {
      std::vector<std::string> members;
      for (size_t w : gang.workers) members.push_back(names[w]);
      assigned |=
          StartGang(recipes[gang.trial], *studies[cluster.trials[gang.trial].study], members, now);
    }
    for (const Plan::Bundle& bundle : plan.bundles) {
      Study& study = *studies[bundle.study];
      if (StartBundle(study, names[bundle.worker], bundle.units, now)) {
        assigned = true;
        continue;
      }
      // What is left is not for that worker (it just failed it): another one that is free.
      for (size_t w = 0; w < names.size(); ++w) {
        const Worker& other = workers_.at(names[w]);
        if (Free(other) && !cluster.workers[w].suspect &&
            other.hello.numerics_class() == cluster.studies[bundle.study].numerics_class &&
            StartBundle(study, names[w], bundle.units, now)) {
          assigned = true;
          break;
        }
      }
    }
    return assigned && !plan.bundles.empty();
  }

  // The front of the queue that still waits; stale entries go.
  double UnitSeconds(Study& study) {
    while (!study.queue.empty()) {
      auto it = units_.find(study.queue.front());
      if (it != units_.end() && it->second.waiting && it->second.studies.contains(study.id)) {
        auto known = unit_seconds_.find(it->second.spec.kind_case());
        return known == unit_seconds_.end() ? 0.1 : known->second;
      }
      study.queue.pop_front();
    }
    return 0.1;
  }

  bool StartBundle(Study& study, const std::string& name, uint32_t units, absl::Duration now) {
    Worker& worker = workers_.at(name);
    if (worker.assignment != 0) return false;  // It took another's leavings in this round.
    bool others = false;
    for (const auto& [other, entry] : workers_) {
      if (other != name && entry.hello.numerics_class() == worker.hello.numerics_class() &&
          !Quarantined(other)) {
        others = true;
      }
    }
    std::vector<Digest> tasks, skipped;
    v1::TaskSpec::KindCase kind = v1::TaskSpec::KIND_NOT_SET;
    while (tasks.size() < units && !study.queue.empty() && skipped.size() < 64) {
      const Digest task = study.queue.front();
      auto it = units_.find(task);
      if (it == units_.end() || !it->second.waiting || !it->second.studies.contains(study.id)) {
        study.queue.pop_front();
        continue;
      }
      Unit& unit = it->second;
      if (others && now < unit.avoid_until && unit.avoid.contains(name)) {
        study.queue.pop_front();
        skipped.push_back(task);
        continue;
      }
      const LossRecord* losses = state_.LossesOf(task);
      const bool single = unit.single || losses != nullptr;
      if (!tasks.empty() && (single || unit.spec.kind_case() != kind)) break;
      study.queue.pop_front();
      kind = unit.spec.kind_case();
      SetWaiting(unit, false);
      tasks.push_back(task);
      if (single) break;
    }
    for (auto it = skipped.rbegin(); it != skipped.rend(); ++it) study.queue.push_front(*it);
    if (tasks.empty()) return false;

    const uint64_t id = NewAssignment();
    Assignment& bundle = assignments_[id];
    bundle.id = id;
    bundle.study = study.id;
    bundle.started = now;
    bundle.worker = name;
    bundle.kind = kind;
    v1::Directive directive;
    directive.mutable_assign()->set_assignment(id);
    for (const Digest& task : tasks) {
      Unit& unit = units_.at(task);
      unit.assignment = id;
      *directive.mutable_assign()->mutable_bundle()->add_tasks() = unit.spec;
    }
    bundle.tasks = std::move(tasks);
    Occupy(worker, id, now);
    ++study.workers;
    ++study.version;
    Send(worker.connection, std::move(directive));
    return true;
  }

  bool StartGang(const Digest& recipe, Study& study, const std::vector<std::string>& members,
                 absl::Duration now) {
    const TrainingPlanner& planner = study.run->training();
    // From the greatest stored state that does not lie beyond the goal and whose blob is there.
    const uint64_t limit = planner.target_step().value_or(planner.last_step());
    uint64_t start_step = 0;
    std::string start_state;
    if (const std::map<uint64_t, Digest>* states = state_.StatesOf(recipe)) {
      for (auto it = states->upper_bound(limit); it != states->begin();) {
        --it;
        absl::StatusOr<v1::TrainOutput> output = ReadState(recipe, it->first);
        if (!output.ok()) continue;
        absl::StatusOr<Digest> blob = Digest::FromBytes(output->state());
        if (!blob.ok()) continue;
        if (!blobs_.Has(*blob)) {
          lost_blobs_.push_back(*blob);
          continue;
        }
        start_step = it->first;
        start_state = output->state();
        break;
      }
    }
    v1::TrainGoal goal = planner.goal();
    // Others that train the same recipe for fewer epochs: their states are stored on the way.
    std::set<uint64_t> exact(goal.exact_steps().begin(), goal.exact_steps().end());
    for (const std::string& id : Wanting(recipe)) {
      const v1::TrainGoal other = studies_.at(id)->run->training().goal();
      exact.insert(other.exact_steps().begin(), other.exact_steps().end());
    }
    goal.clear_exact_steps();
    for (uint64_t step : exact) {
      if (step > start_step && step <= goal.max_epochs() * planner.steps_per_epoch()) {
        goal.add_exact_steps(step);
      }
    }

    const uint64_t id = NewAssignment();
    Assignment& gang = assignments_[id];
    gang.id = id;
    gang.gang = true;
    gang.study = study.id;
    gang.started = now;
    gang.recipe = recipe;
    gang.generation.set_incarnation(state_.incarnation());
    gang.generation.set_counter(assignment_counter_);
    gang.members.insert(members.begin(), members.end());
    gang.world = static_cast<uint32_t>(members.size());
    gang.states_before = CountStates(recipe);
    gang.step = start_step;
    trials_[recipe].assignment = id;

    v1::GangSeat seat;
    *seat.mutable_generation() = gang.generation;
    const uint32_t shards = study.run->recipe().logical_shards();
    uint32_t first = 0;
    for (uint32_t rank = 0; rank < gang.world; ++rank) {
      const v1::Register& hello = workers_.at(members[rank]).hello;
      v1::GangMember& member = *seat.add_roster();
      member.set_worker(members[rank]);
      member.set_peer_address(hello.peer_address());
      member.set_peer_socket(hello.peer_socket());
      member.set_host(hello.host());
      member.set_first_shard(first);
      member.set_shards(shards / gang.world + (rank < shards % gang.world ? 1 : 0));
      gang.ranks[members[rank]] = rank;
      first += member.shards();
    }
    *seat.mutable_recipe() = study.run->recipe();
    seat.set_numerics_class(state_.studies().at(study.id).numerics_class);
    seat.set_start_step(start_step);
    seat.set_start_state(start_state);
    *seat.mutable_goal() = goal;
    seat.set_segment_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(options_.segment)));
    for (uint32_t rank = 0; rank < gang.world; ++rank) {
      Worker& worker = workers_.at(members[rank]);
      Occupy(worker, id, now);
      ++study.workers;
      v1::Directive directive;
      directive.mutable_assign()->set_assignment(id);
      *directive.mutable_assign()->mutable_gang() = seat;
      directive.mutable_assign()->mutable_gang()->set_rank(rank);
      Send(worker.connection, std::move(directive));
    }
    ++study.version;
    DERMIS_LOG(kInfo, "study ", study.id, ": trains ", recipe.short_hex(), " from step ",
               start_step, " on ", absl::StrJoin(members, ", "));
    return true;
  }

  // ------------------------------------------------------------------ messages

  std::pair<std::string, Worker*> Find(ConnectionId connection) {
    auto it = connections_.find(connection);
    if (it == connections_.end()) return {"", nullptr};
    return {it->second, &workers_.at(it->second)};
  }

  void Send(ConnectionId connection, v1::Directive directive) {
    messages_.push_back({connection, false, "", std::move(directive)});
  }
  void SendCancel(ConnectionId connection, uint64_t assignment, const std::string& why) {
    v1::Directive directive;
    directive.mutable_cancel()->set_assignment(assignment);
    directive.mutable_cancel()->set_why(why);
    Send(connection, std::move(directive));
  }
  void SendYield(ConnectionId connection, uint64_t assignment, const std::string& why) {
    v1::Directive directive;
    directive.mutable_yield()->set_assignment(assignment);
    directive.mutable_yield()->set_why(why);
    Send(connection, std::move(directive));
  }
  void Close(ConnectionId connection, const std::string& why) {
    messages_.push_back({connection, true, why, v1::Directive()});
  }

  Clock& clock_;
  Journal& journal_;
  Outbox& outbox_;
  const BlobIndex& blobs_;
  const Options options_;

  // Durable, and folded from it.
  State state_;
  std::map<std::string, std::unique_ptr<Study>> studies_;
  absl::flat_hash_map<Digest, Unit> units_;
  std::deque<std::pair<std::string, Digest>> folds_;
  std::map<Digest, std::shared_ptr<const v1::ImageSetManifest>> manifests_;

  // Of this process.
  absl::Status fatal_;
  uint64_t next_row_ = 1;
  absl::Duration opened_, work_from_, last_check_;
  bool check_yields_ = true;
  bool stop_unwanted_ = false;               // At the next tick.
  mutable std::vector<Digest> lost_blobs_;   // Noticed while something was read; told at the next tick.
  std::map<std::string, Worker> workers_;
  std::map<ConnectionId, std::string> connections_;
  std::map<std::string, History> histories_;
  std::map<uint64_t, Assignment> assignments_;
  std::map<Digest, Trial> trials_;
  std::multimap<absl::Duration, Digest> delayed_;
  std::map<v1::TaskSpec::KindCase, double> unit_seconds_;
  std::set<uint64_t> condemned_;  // Stuck: not adopted when their worker comes back.
  uint64_t assignment_counter_ = 0;

  // The batch.
  std::vector<JournalEntry> pending_;
  absl::flat_hash_map<Digest, size_t> pending_results_;
  std::vector<std::function<void()>> after_flush_;
  std::vector<Message> messages_;

  Counters counters_;
  std::vector<std::string> alarms_;
};

Core::Core(Clock& clock, Journal& journal, Outbox& outbox, const BlobIndex& blobs, Options options)
    : impl_(std::make_unique<Impl>(clock, journal, outbox, blobs, options)) {}
Core::~Core() = default;

absl::Status Core::Open() { return impl_->Open(); }
uint64_t Core::incarnation() const { return impl_->incarnation(); }
void Core::WorkerConnected(ConnectionId connection, const v1::Register& hello) {
  impl_->WorkerConnected(connection, hello);
}
void Core::WorkerBeat(ConnectionId connection, const v1::Beat& beat) {
  impl_->WorkerBeat(connection, beat);
}
void Core::AttemptEnded(ConnectionId connection, const v1::AttemptEnded& ended) {
  impl_->AttemptEnded(connection, ended);
}
void Core::WorkerDisconnected(ConnectionId connection, const std::string& cause) {
  impl_->WorkerDisconnected(connection, cause);
}
void Core::CompleteTasks(std::vector<CheckedCompletion> completions, CompleteReply reply) {
  impl_->CompleteTasks(std::move(completions), std::move(reply));
}
v1::FetchResultsResponse Core::FetchResults(const v1::FetchResultsRequest& request) const {
  return impl_->FetchResults(request);
}
void Core::Submit(Submission submission,
                  std::function<void(const absl::StatusOr<v1::SubmitResponse>&)> reply) {
  impl_->Submit(std::move(submission), std::move(reply));
}
void Core::Cancel(const std::string& id, StatusReply reply) { impl_->Cancel(id, std::move(reply)); }
void Core::Retry(const std::string& id, StatusReply reply) { impl_->Retry(id, std::move(reply)); }
absl::StatusOr<v1::StudyStatus> Core::Status(const std::string& id) const {
  return impl_->Status(id);
}
uint64_t Core::StudyVersion(const std::string& id) const { return impl_->StudyVersion(id); }
v1::ListResponse Core::List() const { return impl_->List(); }
absl::StatusOr<v1::StudyResults> Core::Results(const std::string& id) const {
  return impl_->Results(id);
}
v1::ClusterStatusResponse Core::ClusterStatus() const { return impl_->ClusterStatus(); }
Core::Counters Core::counters() const { return impl_->counters(); }
std::vector<std::string> Core::alarms() const { return impl_->alarms(); }
void Core::BlobLost(const Digest& blob, const std::string& cause) { impl_->BlobLost(blob, cause); }
void Core::AfterFlush(std::function<void()> callback) { impl_->AfterFlush(std::move(callback)); }
void Core::Tick() { impl_->Tick(); }
absl::Status Core::Flush() { return impl_->Flush(); }
std::string Core::Dump() const { return impl_->Dump(); }
std::string Core::DescribeWork() const { return impl_->DescribeWork(); }

}  // namespace dermis
