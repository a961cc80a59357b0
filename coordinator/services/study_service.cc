#include "coordinator/services/study_service.h"

#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/image_set.h"
#include "common/spec_yaml.h"
#include "common/status_macros.h"
#include "common/sweep.h"

namespace dermis {
namespace {

// Rows of the journal that one call looks at: milliseconds, and a message of bounded size.
constexpr size_t kHistoryPage = 500;

bool Over(const v1::StudyStatus& status) {
  return status.phase() == v1::StudyStatus::DONE || status.phase() == v1::StudyStatus::FAILED ||
         status.phase() == v1::StudyStatus::CANCELLED;
}

// Answers on the core thread, once what was seen is durable.
template <typename Response, typename Look>
grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const grpc::Status& access,
                                 CoreThread& core, Response* response, Look look) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (!access.ok()) {
    reactor->Finish(access);
    return reactor;
  }
  core.Post([response, reactor, look = std::move(look)](Core& c) {
    absl::StatusOr<Response> found = look(c);
    grpc::Status status = ToGrpc(found.status());
    if (found.ok()) *response = *std::move(found);
    c.AfterFlush([reactor, status] { reactor->Finish(status); });
  });
  return reactor;
}

// Hands the core a command that answers by itself, once what it did is durable.
template <typename Response, typename Command>
grpc::ServerUnaryReactor* Do(grpc::CallbackServerContext* context, const grpc::Status& access,
                             CoreThread& core, Response* response, Command command) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (!access.ok()) {
    reactor->Finish(access);
    return reactor;
  }
  core.Post([response, reactor, command = std::move(command)](Core& c) {
    command(c, [response, reactor](const absl::StatusOr<Response>& answer) {
      if (answer.ok()) *response = *answer;
      reactor->Finish(ToGrpc(answer.status()));
    });
  });
  return reactor;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------
// Watches

class Watches::Watch : public grpc::ServerWriteReactor<v1::StudyStatus> {
 public:
  Watch(Watches* owner, uint64_t number, std::string id, Access::StillGood may_go_on)
      : study(std::move(id)), good(std::move(may_go_on)), owner_(owner), number_(number) {}

  const std::string study;
  const Access::StillGood good;
  uint64_t seen = 0;  // StudyVersion that was sent last. Core thread only.

  void Push(const absl::StatusOr<v1::StudyStatus>& status) {
    absl::MutexLock lock(&mutex_);
    if (closing_) return;
    if (status.ok()) {
      next_ = *status;
      if (Over(*status)) closing_ = true;
    } else {
      closing_ = true;
      why_ = ToGrpc(status.status());
    }
    Pump();
  }

  void Check() {
    const grpc::Status status = good();
    absl::MutexLock lock(&mutex_);
    if (status.ok() || closing_) return;
    closing_ = true;
    next_.reset();
    why_ = status;
    Pump();
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) {
      closing_ = true;
      next_.reset();
    }
    Pump();
  }

  void OnCancel() override {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
    next_.reset();
    Pump();
  }

  void OnDone() override {
    owner_->Remove(number_);
    delete this;
  }

 private:
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_ || writing_) return;
    if (next_.has_value()) {
      current_ = *std::move(next_);
      next_.reset();
      writing_ = true;
      StartWrite(&current_);
    } else if (closing_) {
      finished_ = true;
      Finish(why_);
    }
  }

  Watches* const owner_;
  const uint64_t number_;
  absl::Mutex mutex_;
  v1::StudyStatus current_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::StudyStatus> next_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status why_ ABSL_GUARDED_BY(mutex_);
};

Watches::Watches(CoreThread& core, absl::Duration period)
    : core_(core), period_(period), thread_([this] { Loop(); }) {}

Watches::~Watches() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  thread_.join();
}

grpc::ServerWriteReactor<v1::StudyStatus>* Watches::NewWatch(std::string id, Access::StillGood good) {
  absl::MutexLock lock(&mutex_);
  auto* watch = new Watch(this, ++last_, std::move(id), std::move(good));
  watches_[last_] = watch;
  if (closed_) watch->Push(absl::UnavailableError("the coordinator stops"));
  return watch;
}

void Watches::CloseAll(const std::string& why) {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  for (const auto& [number, watch] : watches_) watch->Push(absl::UnavailableError(why));
}

void Watches::Loop() {
  absl::MutexLock lock(&mutex_);
  while (!stopped_) {
    mutex_.AwaitWithTimeout(absl::Condition(&stopped_), period_);
    for (const auto& [number, watch] : watches_) watch->Check();
    if (stopped_ || closed_ || looking_ || watches_.empty()) continue;
    looking_ = true;  // One look at a time, however busy the core is.
    core_.Post([this](Core& core) { Look(core); });
  }
}

void Watches::Look(Core& core) {
  absl::MutexLock lock(&mutex_);
  for (const auto& [number, watch] : watches_) {
    const uint64_t version = core.StudyVersion(watch->study);
    if (version != 0 && version == watch->seen) continue;
    watch->seen = version;
    core.AfterFlush(
        [this, number = number, status = core.Status(watch->study)] { Deliver(number, status); });
  }
  looking_ = false;
}

void Watches::Deliver(uint64_t number, const absl::StatusOr<v1::StudyStatus>& status) {
  absl::MutexLock lock(&mutex_);
  const auto it = watches_.find(number);
  if (it != watches_.end()) it->second->Push(status);
}

void Watches::Remove(uint64_t number) {
  absl::MutexLock lock(&mutex_);
  watches_.erase(number);
}

// ---------------------------------------------------------------------------------------------------
// Studies

absl::StatusOr<Submission> PrepareSubmission(const v1::SubmitRequest& request,
                                             const BlobIndex& blobs, bool allow_torchscript) {
  if (blobs.LowDisk()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the coordinator's disk is nearly full (", blobs.FreeBytes() >> 20,
                     " MiB free): no new studies are taken until there is space. Remove files and "
                     "submit again"));
  }
  Submission submission;
  ASSIGN_OR_RETURN(submission.spec, ResolveSpec(request.spec()));
  ASSIGN_OR_RETURN(submission.image_set, Digest::FromBytes(request.image_set()));
  if (submission.image_set.none()) return absl::InvalidArgumentError("no image set was given");
  const absl::StatusOr<std::string> bytes = blobs.Read(submission.image_set);
  if (!bytes.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the image set's manifest ", submission.image_set.short_hex(),
                     " is not stored: upload it first (", bytes.status().message(), ")"));
  }
  auto manifest = std::make_shared<v1::ImageSetManifest>();
  if (!manifest->ParseFromString(*bytes)) {
    return absl::InvalidArgumentError(absl::StrCat("blob ", submission.image_set.short_hex(),
                                                   " is not the manifest of an image set"));
  }
  RETURN_IF_ERROR(ValidateManifest(*manifest));
  RETURN_IF_ERROR(
      ForEachTrial(submission.spec, [&](uint32_t, const v1::StudySpec& own) -> absl::Status {
        const int weights = own.training().class_weights_size(), classes = manifest->classes_size();
        if (weights > 0 && weights != classes) {
          return absl::InvalidArgumentError(absl::StrCat("training.class_weights has ", weights,
                                                         " weights, the image set ", classes,
                                                         " classes"));
        }
        return CheckModelSize(own.images().size(), *manifest);
      }));
  std::set<Digest> named_blobs;
  for (const v1::ImageChunk& chunk : manifest->chunks()) {
    for (const std::string& named : BlobsOf(chunk)) {
      ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(named));
      named_blobs.insert(digest);
      if (!blobs.Has(digest)) {
        return absl::FailedPreconditionError(absl::StrCat("chunk ", digest.short_hex(),
                                                          " of the image set is not stored: upload "
                                                          "it first"));
      }
    }
  }
  const v1::StudySpec& spec = submission.spec;
  if (spec.model().format() == v1::MODEL_FORMAT_TORCHSCRIPT && !allow_torchscript) {
    return absl::PermissionDeniedError(
        "a TorchScript file carries code that workers would run, and this cluster does not allow it: export the model "
        "to ONNX, or, where you trust all who may submit, start coordinator and workers with --allow-torchscript "
        "(dermis cluster start --allow-torchscript)");
  }
  if (manifest->unlabelled() && !spec.has_model()) {
    return absl::InvalidArgumentError(
        "the image set has no labels to train on: ingest it with labels, or give the study a model");
  }
  if (spec.has_model()) {
    ASSIGN_OR_RETURN(const Digest model, Digest::FromHex(spec.model().digest()));
    if (!blobs.Has(model)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the model ", model.short_hex(), " is not stored: upload it first"));
    }
  }
  if (spec.training().has_init()) {
    ASSIGN_OR_RETURN(const Digest init,
                     Digest::FromHex(spec.training().init().digest()));
    if (!blobs.Has(init)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the weights ", init.short_hex(), " of training.init are not stored: upload them first"));
    }
  }
  // For the user's quota.
  Brought& brings = submission.brings;
  brings.images = submission.image_set;
  brings.image_blobs = 1 + named_blobs.size();
  brings.image_bytes = bytes->size();
  for (const Digest& digest : named_blobs) brings.image_bytes += blobs.Size(digest);
  ASSIGN_OR_RETURN(brings.model, GivenTo(spec));
  if (!brings.model.none()) brings.model_bytes = blobs.Size(brings.model);
  submission.named.assign(named_blobs.begin(), named_blobs.end());
  submission.named.push_back(submission.image_set);
  if (!brings.model.none()) submission.named.push_back(brings.model);
  submission.manifest = std::move(manifest);
  return submission;
}

grpc::ServerUnaryReactor* StudyService::Submit(grpc::CallbackServerContext* context,
                                               const v1::SubmitRequest* request,
                                               v1::SubmitResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const grpc::Status status = access_.Check(*context, "Studies/Submit");
  if (!status.ok()) {
    reactor->Finish(status);
    return reactor;
  }
  absl::StatusOr<Submission> submission = PrepareSubmission(*request, blobs_, allow_torchscript_);
  if (!submission.ok()) {
    reactor->Finish(ToGrpc(submission.status()));
    return reactor;
  }
  submission->user = access_.User(*context);
  submission->adjust = request->adjust();
  core_.Post([submission = *std::move(submission), response, reactor](Core& core) mutable {
    core.Submit(std::move(submission),
                [response, reactor](const absl::StatusOr<v1::SubmitResponse>& answer) {
                  if (answer.ok()) *response = *answer;
                  reactor->Finish(ToGrpc(answer.status()));
                });
  });
  return reactor;
}

grpc::ServerWriteReactor<v1::StudyStatus>* StudyService::Watch(grpc::CallbackServerContext* context,
                                                               const v1::WatchRequest* request) {
  const grpc::Status status = access_.Check(*context, "Studies/Watch");
  if (!status.ok()) {
    class Refusal : public grpc::ServerWriteReactor<v1::StudyStatus> {
     public:
      explicit Refusal(const grpc::Status& why) { Finish(why); }
      void OnDone() override { delete this; }
    };
    return new Refusal(status);
  }
  return watches_.NewWatch(request->id(), access_.WhileOpen(*context));
}

grpc::ServerUnaryReactor* StudyService::List(grpc::CallbackServerContext* context,
                                             const v1::ListRequest*, v1::ListResponse* response) {
  return Answer(context, access_.Check(*context, "Studies/List"), core_, response,
                [](Core& core) -> absl::StatusOr<v1::ListResponse> { return core.List(); });
}

grpc::ServerUnaryReactor* StudyService::Cancel(grpc::CallbackServerContext* context,
                                               const v1::StudyRequest* request,
                                               v1::StudyStatus* response) {
  return Do<v1::StudyStatus>(
      context, access_.Check(*context, "Studies/Cancel"), core_, response,
      [id = request->id()](Core& core, auto reply) { core.Cancel(id, std::move(reply)); });
}

grpc::ServerUnaryReactor* StudyService::Retry(grpc::CallbackServerContext* context,
                                              const v1::StudyRequest* request,
                                              v1::StudyStatus* response) {
  return Do<v1::StudyStatus>(
      context, access_.Check(*context, "Studies/Retry"), core_, response,
      [id = request->id()](Core& core, auto reply) { core.Retry(id, std::move(reply)); });
}

grpc::ServerUnaryReactor* StudyService::Adjust(grpc::CallbackServerContext* context,
                                               const v1::AdjustRequest* request,
                                               v1::StudyStatus* response) {
  return Do<v1::StudyStatus>(context, access_.Check(*context, "Studies/Adjust"), core_, response,
                             [request = *request, user = access_.User(*context)](
                                 Core& core, auto reply) {
                               core.Adjust(request.id(), request.adjust(), user, std::move(reply));
                             });
}

grpc::ServerUnaryReactor* StudyService::Delete(grpc::CallbackServerContext* context,
                                               const v1::DeleteRequest* request,
                                               v1::DeleteResponse* response) {
  return Do<v1::DeleteResponse>(
      context, access_.Check(*context, "Studies/Delete"), core_, response,
      [request = *request, user = access_.User(*context)](Core& core, auto reply) {
        core.Delete(request, user, std::move(reply));
      });
}

grpc::ServerUnaryReactor* StudyService::Quarantine(grpc::CallbackServerContext* context,
                                                   const v1::QuarantineRequest* request,
                                                   v1::QuarantineResponse* response) {
  return Do<v1::QuarantineResponse>(
      context, access_.Check(*context, "Studies/Quarantine"), core_, response,
      [worker = request->worker(), user = access_.User(*context)](Core& core, auto reply) {
        core.Quarantine(worker, user, std::move(reply));
      });
}

grpc::ServerUnaryReactor* StudyService::Release(grpc::CallbackServerContext* context,
                                                const v1::ReleaseRequest* request,
                                                v1::ReleaseResponse* response) {
  return Do<v1::ReleaseResponse>(
      context, access_.Check(*context, "Studies/Release"), core_, response,
      [worker = request->worker(), user = access_.User(*context)](Core& core, auto reply) {
        core.Release(worker, user, std::move(reply));
      });
}

grpc::ServerUnaryReactor* StudyService::History(grpc::CallbackServerContext* context,
                                                const v1::HistoryRequest* request,
                                                v1::HistoryResponse* response) {
  const grpc::Status access = access_.Check(*context, "Studies/History");
  // Rows are read here; the core only says which of them are the study's.
  absl::StatusOr<std::vector<Journal::Row>> rows = std::vector<Journal::Row>();
  if (access.ok()) rows = journal_.Read(request->after_row(), kHistoryPage);
  if (!rows.ok()) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpc(rows.status()));
    return reactor;
  }
  return Answer(context, access, core_, response,
                [id = request->id(), rows = *std::move(rows)](Core& core) {
                  absl::StatusOr<v1::HistoryResponse> found = core.History(id, rows);
                  if (found.ok() && rows.size() < kHistoryPage) found->set_next_row(0);
                  return found;
                });
}

grpc::ServerUnaryReactor* StudyService::Trials(grpc::CallbackServerContext* context,
                                               const v1::TrialsRequest* request,
                                               v1::TrialsResponse* response) {
  return Answer(context, access_.Check(*context, "Studies/Trials"), core_, response,
                [request = *request](Core& core) { return core.Trials(request); });
}

grpc::ServerUnaryReactor* StudyService::Results(grpc::CallbackServerContext* context,
                                                const v1::StudyRequest* request,
                                                v1::StudyResults* response) {
  return Answer(context, access_.Check(*context, "Studies/Results"), core_, response,
                [id = request->id()](Core& core) { return core.Results(id); });
}

grpc::ServerUnaryReactor* StudyService::ClusterStatus(grpc::CallbackServerContext* context,
                                                      const v1::ClusterStatusRequest*,
                                                      v1::ClusterStatusResponse* response) {
  return Answer(
      context, access_.Check(*context, "Studies/ClusterStatus"), core_, response,
      [](Core& core) -> absl::StatusOr<v1::ClusterStatusResponse> { return core.ClusterStatus(); });
}

}  // namespace dermis
