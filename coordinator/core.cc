#include "coordinator/core.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/log.h"
#include "common/status_macros.h"
#include "common/tasks.h"
#include "coordinator/history.h"
#include "coordinator/study_run.h"
#include "coordinator/views.h"

namespace dermis {
namespace {

constexpr size_t kMaxAlarms = 100;
// The disk is looked at so often, and so many states make room at a time.
constexpr absl::Duration kDiskLook = absl::Seconds(1);
constexpr size_t kRetiredAtOnce = 16;

absl::Status CheckAdjustment(const v1::Adjustment& adjust) {
  if (adjust.has_priority() && !(adjust.priority() >= 0.1 && adjust.priority() <= 10)) {
    return absl::InvalidArgumentError(
        absl::StrCat("priority ", adjust.priority(), ": it must be from 0.1 to 10; 1 is usual"));
  }
  if (adjust.has_max_hours() && !(adjust.max_hours() >= 0 && adjust.max_hours() <= 1e9)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a budget of ", adjust.max_hours(), " worker-hours: it must be from 0 (no limit) to 1e9"));
  }
  return absl::OkStatus();
}

// What there is of something, and what is asked for beside it. 0: no limit.
absl::Status CheckQuota(const std::string& user, uint64_t has, uint64_t more, uint64_t most,
                        const char* what, const char* option) {
  if (most == 0 || has + more <= most) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "user ", user, " has ", has, " ", what, ", this study would add ", more, ", and a user may have ", most,
      ": delete studies that are over (dermis delete STUDY), or ask whoever runs the cluster for more "
      "(dermis-coordinator ", option, ")"));
}

}  // namespace

Core::Core(Clock& clock, Journal& journal, Outbox& outbox, BlobIndex& blobs, Options options)
    : clock_(clock),
      journal_(journal),
      blobs_(blobs),
      batch_(journal, outbox),
      studies_(clock, batch_, blobs),
      questions_(studies_),
      fleet_(clock, batch_, studies_, questions_, blobs, options),
      spot_checks_(options.spot_checks),
      quota_(options.quota) {}

absl::Status Core::Open() {
  RETURN_IF_ERROR(journal_.Replay(
      [this](uint64_t row, const JournalEntry& entry) { return studies_.Replay(row, entry); }));
  fleet_.Open(studies_.state().incarnation() == 0);
  studies_.LookForBlobs();
  v1::Event event;
  event.mutable_started()->set_incarnation(studies_.state().incarnation() + 1);
  event.mutable_started()->set_version(kVersion);
  event.mutable_started()->set_spot_checks(spot_checks_);
  studies_.Record(std::move(event));
  std::set<std::string> users;
  for (const auto& [id, record] : studies_.state().studies()) users.insert(record.user);
  for (const std::string& user : users) SayBrought(user, {});
  return Flush();
}

void Core::SayBrought(const std::string& user, const std::vector<Digest>& named) const {
  if (brings_) brings_(user, studies_.state().UsageOf(user, ""), named);
}

void Core::DropUnused(const std::vector<Digest>& blobs) { studies_.RemoveInTurn(blobs); }

void Core::WorkerConnected(ConnectionId connection, const v1::Register& hello) {
  fleet_.WorkerConnected(connection, hello);
}

void Core::WorkerBeat(ConnectionId connection, const v1::Beat& beat) {
  fleet_.WorkerBeat(connection, beat);
}

void Core::AttemptEnded(ConnectionId connection, v1::AttemptEnded ended) {
  fleet_.AttemptEnded(connection, std::move(ended));
}

void Core::WorkerDisconnected(ConnectionId connection, const std::string& cause) {
  fleet_.WorkerDisconnected(connection, cause);
}

void Core::CompleteTasks(std::vector<CheckedCompletion> completions, CompleteReply reply) {
  auto response = std::make_shared<v1::CompleteTasksResponse>();
  for (CheckedCompletion& done : completions) {
    v1::CompletionReply& verdict = *response->add_replies();
    verdict.set_verdict(done.verdict);
    if (done.verdict != v1::CompletionReply::STORED) {
      for (const Digest& blob : done.missing) verdict.add_missing(blob.bytes());
      verdict.set_cause(done.cause);
      continue;
    }
    if (fleet_.IsOfQuestion(done.completion.attempt().worker(), done.task)) {
      verdict.set_verdict(v1::CompletionReply::REFUSED);
      verdict.set_cause("it is a question's, of which nothing is stored");
      continue;
    }
    if (RefuseStale(done, verdict)) continue;
    // A fast reduction gives other bits each time: its results are never compared.
    const bool compared =
        done.completion.spec().train().recipe().reduction() != v1::REDUCTION_FAST;
    if (const StoredTask* stored = studies_.state().Find(done.task)) {
      const bool same = stored->payload.bytes() == done.completion.result().payload_digest();
      const bool again = (same || !compared) && stored->retired;
      if (!same && compared) Conflict(done, stored->payload, verdict);
      if (compared) Compare(done, *stored);
      if (!again && !TakesItsPlace(done, verdict)) {
        ++studies_.counters().duplicates;
        continue;
      }
    } else if (const StoredTask* before = studies_.state().FindForgotten(done.task);
               compared && before != nullptr &&
               before->payload.bytes() != done.completion.result().payload_digest()) {
      Conflict(done, before->payload, verdict);
      // It is not the task that fails, whoever is wrong: another worker is asked.
      if (!done.completion.spec().has_train()) verdict.set_verdict(v1::CompletionReply::STALE);
      Compare(done, *before);
      if (!TakesItsPlace(done, verdict)) continue;
    }
    ++studies_.counters().completions;
    fleet_.Completed(done.completion.attempt().worker(), done.completion.spec());
    v1::Event event;
    v1::TaskCompleted& completed = *event.mutable_task_completed();
    completed.mutable_spec()->Swap(done.completion.mutable_spec());
    completed.mutable_result()->Swap(done.completion.mutable_result());
    completed.mutable_attempt()->Swap(done.completion.mutable_attempt());
    completed.mutable_inputs()->Swap(done.completion.mutable_inputs());
    studies_.Record(std::move(event), done.task, done.payload.get());
    Judge(done.task);  // Workers may have differed of it before.
    if (const StoredTask* stored = studies_.state().Find(done.task);
        stored != nullptr && !stored->recipe.none()) {
      studies_.RetireStates(stored->recipe);
    }
  }
  batch_.AfterFlush([response, reply = std::move(reply)] { reply(*response); });
}

bool Core::RefuseStale(const CheckedCompletion& done, v1::CompletionReply& verdict) {
  const State& state = studies_.state();
  const v1::Attempt& attempt = done.completion.attempt();
  std::vector<std::string> workers(attempt.gang().begin(), attempt.gang().end());
  workers.push_back(attempt.worker());
  for (const std::string& worker : workers) {
    if (!state.IsQuarantined(worker)) continue;
    verdict.set_verdict(v1::CompletionReply::STALE);
    verdict.set_cause(absl::StrCat("worker ", worker,
                                   " is quarantined for wrong results (dermis cluster status)"));
    return true;
  }
  for (const v1::UsedResult& used : done.completion.inputs()) {
    if (state.Stands(used)) continue;
    verdict.set_verdict(v1::CompletionReply::STALE);
    verdict.add_stale(used.task());
    verdict.set_cause("it was computed from results that have been withdrawn since");
  }
  return verdict.stale_size() > 0;
}

bool Core::TakesItsPlace(const CheckedCompletion& done, v1::CompletionReply& verdict) {
  if (studies_.state().FindEver(done.task) != nullptr) return false;
  v1::CompletionReply now;
  now.set_verdict(v1::CompletionReply::STORED);
  const bool stale = RefuseStale(done, now);
  verdict = std::move(now);
  return !stale;
}

void Core::Compare(const CheckedCompletion& done, const StoredTask& stored) {
  const v1::Attempt& attempt = done.completion.attempt();
  const std::string& worker = attempt.worker();
  const State& state = studies_.state();
  // Of a gang nobody knows whose part is wrong.
  if (done.completion.spec().has_train() || worker.empty()) return;
  const OpenCheck* check = state.FindCheck(done.task);
  const bool same = stored.payload.bytes() == done.completion.result().payload_digest();
  const bool voted =
      check != nullptr ? check->votes.contains(worker) : state.MakersOf(stored).front() == worker;
  if (!voted && (check != nullptr || !same)) {
    v1::Event event;
    v1::ResultCompared& compared = *event.mutable_result_compared();
    compared.set_task(done.task.bytes());
    compared.set_worker(worker);
    compared.set_payload(done.completion.result().payload_digest());
    if (check == nullptr) *compared.mutable_spec() = done.completion.spec();
    studies_.Record(std::move(event));
  }
  Judge(done.task);
}

void Core::Judge(const Digest& task) {
  const OpenCheck* found = studies_.state().FindCheck(task);
  if (found == nullptr || !found->disputed()) return;
  const OpenCheck check = *found;
  const std::optional<Digest> majority = MajorityOf(check);
  if (!majority) return;  // Fleet asks one more, and ViewCluster says so.
  std::vector<std::string> others, outvoted;
  for (const auto& [worker, payload] : check.votes) {
    (payload == *majority ? others : outvoted).push_back(worker);
  }
  for (const std::string& worker : outvoted) {
    const Digest payload = check.votes.at(worker);
    v1::WorkerQuarantined event;
    event.set_worker(worker);
    event.set_task(task.bytes());
    event.set_payload(payload.bytes());
    event.set_majority(majority->bytes());
    for (const std::string& other : others) event.add_others(other);
    event.set_why(absl::StrCat("it gave payload ", payload.short_hex(), " for ",
                               Describe(check.spec), " (task ", task.short_hex(), ") where ",
                               absl::StrJoin(others, " and "), " gave ", majority->short_hex()));
    fleet_.Expel(worker, studies_.Quarantine(std::move(event)));
  }
}

absl::StatusOr<v1::QuarantineResponse> Core::DoQuarantine(const std::string& worker,
                                                          const std::string& user) {
  if (!studies_.state().IsQuarantined(worker)) {
    if (!fleet_.workers().contains(worker) && studies_.state().ResultsThrough(worker).empty()) {
      return absl::NotFoundError(
          absl::StrCat("no worker ", worker,
                       " is here or has given a result; `dermis cluster status` lists them"));
    }
    v1::WorkerQuarantined event;
    event.set_worker(worker);
    event.set_why(absl::StrCat("by ", user));
    fleet_.Expel(worker, studies_.Quarantine(std::move(event)));
    std::vector<Digest> tasks;  // Two of three may be left, and agree.
    for (const auto& [task, check] : studies_.state().checks()) {
      if (check.disputed()) tasks.push_back(task);
    }
    for (const Digest& task : tasks) Judge(task);
  }
  v1::QuarantineResponse response;
  *response.mutable_worker() = ViewQuarantined(worker, studies_.state().quarantined().at(worker));
  return response;
}

void Core::Quarantine(const std::string& worker, const std::string& user,
                      std::function<void(const absl::StatusOr<v1::QuarantineResponse>&)> reply) {
  batch_.AfterFlush(
      [response = DoQuarantine(worker, user), reply = std::move(reply)] { reply(response); });
}

void Core::Release(const std::string& worker, const std::string& user,
                   std::function<void(const absl::StatusOr<v1::ReleaseResponse>&)> reply) {
  absl::StatusOr<v1::ReleaseResponse> response = v1::ReleaseResponse();
  if (studies_.state().IsQuarantined(worker)) {
    v1::Event event;
    event.mutable_worker_released()->set_worker(worker);
    event.mutable_worker_released()->set_user(user);
    studies_.Record(std::move(event));
    DERMIS_LOG(kWarning, "worker ", worker, " is released by ", user, ": it gets work again");
  } else {
    response = absl::NotFoundError(
        absl::StrCat("worker ", worker,
                     " is not quarantined for wrong results; `dermis cluster status` says who is"));
  }
  batch_.AfterFlush(
      [response = std::move(response), reply = std::move(reply)] { reply(response); });
}

void Core::Conflict(const CheckedCompletion& done, const Digest& stored,
                    v1::CompletionReply& verdict) {
  verdict.set_verdict(v1::CompletionReply::CONFLICT);
  verdict.set_cause(absl::StrCat(
      Describe(done.completion.spec()), " (task ", done.task.short_hex(), ") gave payload ",
      absl::BytesToHexString(done.completion.result().payload_digest()).substr(0, 12),
      " on worker ", done.completion.attempt().worker(), ", but ", stored.short_hex(),
      " is stored: one of two workers computes wrong"));
  ++studies_.counters().conflicts;
  DERMIS_LOG(kError, "ALARM: ", verdict.cause());
  // Of a unit that two workers computed: ViewCluster says so until it is decided.
  const StoredTask* first = studies_.state().FindEver(done.task);
  if (!done.completion.spec().has_train() &&
      studies_.state().MakersOf(*first).front() != done.completion.attempt().worker()) {
    return;
  }
  alarms_.push_back(verdict.cause());
  if (alarms_.size() > kMaxAlarms) alarms_.erase(alarms_.begin());
}

void Core::BlobLost(const Digest& blob, const std::string& cause) {
  studies_.BlobLost(blob, cause);
}

void Core::Submit(Submission submission,
                  std::function<void(const absl::StatusOr<v1::SubmitResponse>&)> reply) {
  absl::StatusOr<v1::SubmitResponse> response = DoSubmit(std::move(submission));
  batch_.AfterFlush(
      [response = std::move(response), reply = std::move(reply)] { reply(response); });
}

absl::StatusOr<v1::SubmitResponse> Core::DoSubmit(Submission submission) {
  if (blobs_.LowDisk()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the coordinator's disk is almost full (", blobs_.FreeBytes() >> 20,
        " MiB free): new studies are refused until there is space; running ones go on"));
  }
  RETURN_IF_ERROR(CheckAdjustment(submission.adjust));
  if (!studies_.IsStored(submission.image_set, *submission.manifest)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the image set ", submission.image_set.short_hex(), " is not stored any more: submit again"));
  }
  ASSIGN_OR_RETURN(const Digest digest, MessageDigest(submission.spec));
  studies_.Keep(submission.image_set, submission.manifest);
  v1::SubmitResponse response;
  std::string numerics_class = fleet_.CommonClass();
  std::string id = submission.spec.name(), owner;
  for (int n = 2;; ++n) {
    auto it = studies_.state().studies().find(id);
    if (it == studies_.state().studies().end()) break;
    ASSIGN_OR_RETURN(const Digest other, MessageDigest(it->second.spec));
    if (other == digest && it->second.image_set == submission.image_set) {
      response.set_attached(true);
      owner = it->second.user;
      if (!it->second.numerics_class.empty()) numerics_class = it->second.numerics_class;
      break;
    }
    id = absl::StrCat(submission.spec.name(), "@", n);
  }
  ASSIGN_OR_RETURN(
      std::unique_ptr<StudyRun> run,
      StudyRun::Make(submission.spec, submission.image_set, submission.manifest, numerics_class));
  response.set_id(id);
  for (const std::string& warning : submission.warnings) response.add_warnings(warning);
  uint32_t least = std::numeric_limits<uint32_t>::max();  // Images of a shard.
  for (uint32_t k = 0; k < run->sweep().trainings() && !submission.spec.has_model(); ++k) {
    const v1::Recipe& recipe = run->sweep().training(k).recipe;
    least = std::min(least, recipe.batch_size() / recipe.logical_shards());
  }
  if (least < 16) {
    response.add_warnings(absl::StrCat(
        "a shard holds ", least,
        " images; batch norm is per shard and noisy below 16: fewer logical_shards or a larger "
        "batch_size"));
  }
  if (!response.attached() ||
      studies_.PhaseOf(*studies_.FindStudy(id)) != v1::StudyStatus::RUNNING) {
    const Usage has = studies_.state().UsageOf(submission.user, id);
    const Usage with = studies_.state().UsageOf(submission.user, id, &submission.brings);
    RETURN_IF_ERROR(CheckQuota(submission.user, has.studies, 1, quota_.studies, "studies", "--user-studies"));
    RETURN_IF_ERROR(CheckQuota(submission.user, has.blobs, with.blobs - has.blobs, quota_.blobs,
                               "blobs of images and models", "--user-blobs"));
    RETURN_IF_ERROR(CheckQuota(submission.user, has.bytes, with.bytes - has.bytes, quota_.bytes,
                               "bytes of images and models", "--user-gib"));
    v1::Event event;
    v1::StudySubmitted& submitted = *event.mutable_study_submitted();
    submitted.set_image_blobs(submission.brings.image_blobs);
    submitted.set_image_bytes(submission.brings.image_bytes);
    submitted.set_model_bytes(submission.brings.model_bytes);
    submitted.set_id(id);
    *submitted.mutable_spec() = std::move(submission.spec);
    submitted.set_image_set(submission.image_set.bytes());
    submitted.set_numerics_class(numerics_class);
    submitted.set_user(submission.user);
    studies_.Offer(std::move(run));
    studies_.Record(std::move(event));
  }
  v1::Adjustment adjust = submission.adjust;
  if (adjust.paused()) adjust.clear_paused();  // It was submitted to run.
  RETURN_IF_ERROR(DoAdjust(id, adjust, submission.user));
  SayBrought(submission.user, submission.named);
  if (!owner.empty() && owner != submission.user) SayBrought(owner, {});  // It may have become the other's.
  const Study& study = *studies_.FindStudy(id);
  for (uint64_t reused : study.reused) response.set_reused(response.reused() + reused);
  DERMIS_LOG(kInfo, "study ", id, response.attached() ? " attached" : " submitted", ", ",
             response.reused(), " results found");
  return response;
}

void Core::Cancel(const std::string& id, StatusReply reply) {
  auto it = studies_.state().studies().find(id);
  if (it != studies_.state().studies().end() && !it->second.cancelled &&
      studies_.PhaseOf(*studies_.FindStudy(id)) == v1::StudyStatus::RUNNING) {
    v1::Event event;
    event.mutable_study_cancelled()->set_id(id);
    studies_.Record(std::move(event));
    fleet_.StopUnwanted();
  }
  batch_.AfterFlush([status = Status(id), reply = std::move(reply)] { reply(status); });
}

void Core::Retry(const std::string& id, StatusReply reply) {
  const auto it = studies_.state().failures().lower_bound({id, Digest()});
  const bool failures = it != studies_.state().failures().end() && it->first.first == id;
  if (const Study* study = studies_.FindStudy(id);
      study != nullptr && (failures || !study->problem.ok())) {
    v1::Event event;
    event.mutable_failures_cleared()->set_study(id);
    studies_.Record(std::move(event));
  }
  batch_.AfterFlush([status = Status(id), reply = std::move(reply)] { reply(status); });
}

void Core::Adjust(const std::string& id, const v1::Adjustment& adjust, const std::string& user,
                  StatusReply reply) {
  absl::StatusOr<v1::StudyStatus> status = Status(id);
  if (status.ok()) {
    const absl::Status done = DoAdjust(id, adjust, user);
    if (done.ok()) {
      status = Status(id);
    } else {
      status = done;
    }
  }
  batch_.AfterFlush([status = std::move(status), reply = std::move(reply)] { reply(status); });
}

absl::Status Core::DoAdjust(const std::string& id, const v1::Adjustment& adjust,
                            const std::string& user) {
  RETURN_IF_ERROR(CheckAdjustment(adjust));
  const StudyRecord& record = studies_.state().studies().at(id);
  const Study& study = *studies_.FindStudy(id);
  v1::Event event;
  v1::StudyAdjusted& adjusted = *event.mutable_study_adjusted();
  if (adjust.has_priority() && adjust.priority() != record.priority) {
    adjusted.mutable_adjust()->set_priority(adjust.priority());
  }
  if (adjust.has_max_hours() && adjust.max_hours() != record.max_hours) {
    adjusted.mutable_adjust()->set_max_hours(adjust.max_hours());
  }
  if (adjust.has_paused() && adjust.paused() != record.paused) {
    if (studies_.PhaseOf(study) != v1::StudyStatus::RUNNING) {
      return absl::FailedPreconditionError(
          absl::StrCat("study ", id, " is over: there is nothing to ",
                       adjust.paused() ? "pause" : "resume (dermis retry, or submit it again)"));
    }
    const double hours = adjust.has_max_hours() ? adjust.max_hours() : record.max_hours;
    if (!adjust.paused() && hours > 0 && study.spent >= hours * 3600) {
      return absl::FailedPreconditionError(
          absl::StrCat("study ", id, " has used ", study.spent / 3600, " of ", hours,
                       " worker-hours: give it more (dermis resume ", id, " --max-hours H)"));
    }
    adjusted.mutable_adjust()->set_paused(adjust.paused());
    if (adjust.paused()) adjusted.set_why(absl::StrCat("by ", user));
  }
  if (!adjusted.has_adjust()) return absl::OkStatus();
  adjusted.set_id(id);
  adjusted.set_user(user);
  studies_.Record(std::move(event));
  fleet_.StopUnwanted();
  return absl::OkStatus();
}

void Core::Delete(const v1::DeleteRequest& request, const std::string& user,
                  std::function<void(const absl::StatusOr<v1::DeleteResponse>&)> reply) {
  batch_.AfterFlush([response = DoDelete(request, user), reply = std::move(reply)] {
    reply(response);
  });
}

absl::StatusOr<v1::DeleteResponse> Core::DoDelete(const v1::DeleteRequest& request,
                                                  const std::string& user) {
  const std::string& id = request.id();
  ASSIGN_OR_RETURN(const v1::StudyStatus status, Status(id));
  if (status.phase() == v1::StudyStatus::RUNNING) {
    return absl::FailedPreconditionError(absl::StrCat(
        "study ", id, " is not over: end it first (dermis cancel ", id, "), then delete it"));
  }
  Studies::Leavings leavings = studies_.LeavingsOf(id);
  v1::DeleteResponse response;
  response.set_results(static_cast<uint64_t>(leavings.event.tasks_size()));
  response.set_blobs(leavings.blobs.size());
  response.set_bytes(leavings.bytes);
  response.set_images(leavings.images);
  if (request.dry_run()) return response;
  const std::string owner = studies_.state().studies().at(id).user;
  leavings.event.set_user(user);
  DERMIS_LOG(kInfo, "study ", id, " deleted by ", user, ": ", response.results(), " results, ",
             response.bytes() >> 20, " MiB");
  const std::vector<Digest> blobs = leavings.blobs;
  studies_.Delete(std::move(leavings));
  SayBrought(owner, {});
  fleet_.TellDeleted(blobs);
  fleet_.StopUnwanted();
  return response;
}

void Core::ChangeTrust(const TrustDecision& decide, std::function<void(const absl::Status&)> reply) {
  absl::StatusOr<v1::Event> event = decide(studies_.state().trust());
  if (event.ok() && event->kind_case() != v1::Event::KIND_NOT_SET) {
    const bool revoked = event->join_revoked().serials_size() > 0;
    studies_.Record(*std::move(event));
    if (revoked) fleet_.TellRevocations();
  }
  batch_.AfterFlush([status = event.status(), reply = std::move(reply)] { reply(status); });
}

absl::StatusOr<uint64_t> Core::Ask(const std::string& id,
                                   std::shared_ptr<const std::string> pixels,
                                   Questions::Tell tell) {
  const auto record = studies_.state().studies().find(id);
  if (record == studies_.state().studies().end()) return Status(id).status();  // Names those there are.
  const std::string& wanted = record->second.numerics_class;
  const auto& workers = fleet_.workers();
  if (!wanted.empty() && std::none_of(workers.begin(), workers.end(), [&](const auto& entry) {
        return entry.second.hello.numerics_class() == wanted;
      })) {
    return absl::UnavailableError(absl::StrCat(
        "no worker is here that computes as study ", id, " does (numerics class ", wanted,
        "): start one (dermis cluster start, dermis-worker), then ask again"));
  }
  return questions_.Ask(id, std::move(pixels), clock_.Now(), std::move(tell));
}

absl::StatusOr<v1::StudyStatus> Core::Status(const std::string& id) const {
  return ViewStudy(studies_, fleet_, id);
}

uint64_t Core::StudyVersion(const std::string& id) const {
  auto it = studies_.all().find(id);
  return it == studies_.all().end() ? 0 : it->second->version;
}

v1::ListResponse Core::List() const { return ViewStudies(studies_, fleet_); }

absl::StatusOr<v1::StudyResults> Core::Results(const std::string& id) const {
  return ViewResults(studies_, fleet_, batch_, id);
}

absl::StatusOr<v1::TrialsResponse> Core::Trials(const v1::TrialsRequest& request) const {
  return ViewTrialHistories(studies_, request);
}

absl::StatusOr<v1::HistoryResponse> Core::History(const std::string& id,
                                                  const std::vector<Journal::Row>& rows) const {
  return ViewHistory(studies_, id, rows);
}

v1::ClusterStatusResponse Core::ClusterStatus() const {
  v1::ClusterStatusResponse response = ViewCluster(studies_, fleet_, blobs_);
  response.set_unix_ms(clock_.UnixMillis());
  // What still holds comes last.
  std::vector<std::string> alarms = alarms_;
  alarms.insert(alarms.end(), response.alarms().begin(), response.alarms().end());
  response.mutable_alarms()->Assign(alarms.begin(), alarms.end());
  return response;
}

Counters Core::counters() const {
  Counters counters = studies_.counters();
  counters.events = batch_.events();
  return counters;
}

void Core::AfterFlush(std::function<void()> callback) { batch_.AfterFlush(std::move(callback)); }

void Core::Tick() {
  const absl::Duration now = clock_.Now();
  fleet_.Look(now);
  questions_.Look(now);
  if (now >= next_disk_look_) {
    next_disk_look_ = now + kDiskLook;
    if (blobs_.LowDisk()) studies_.RetireIdleStates(kRetiredAtOnce);
  }
  if (studies_.Settle(now)) fleet_.StopUnwanted();
  fleet_.StopTrained(studies_.TakeTrained());
  fleet_.GiveOut(now);
}

absl::Status Core::Flush() { return batch_.Commit(); }

std::string Core::Dump() const { return DumpStudies(studies_); }

std::string Core::DescribeWork() const { return dermis::DescribeWork(studies_, fleet_); }

}  // namespace dermis
