#include "worker/session.h"

#include <algorithm>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/blob_client.h"
#include "common/clock.h"
#include "common/log.h"

namespace dermis {

struct Session::Talk {
  explicit Talk(Session* of) : owner(of) {
    absl::MutexLock lock(&owner->mutex_);
    stub = owner->stub_;
    owner->contexts_.insert(&context);
    if (owner->stop_) context.TryCancel();
  }
  ~Talk() {
    Silence();
    if (stream != nullptr && !finished) {
      context.TryCancel();
      stream->Finish();
    }
    absl::MutexLock lock(&owner->mutex_);
    owner->contexts_.erase(&context);
  }
  absl::Status Finish(std::string_view what) {
    finished = true;
    return ToAbsl(stream->Finish(), what);
  }
  // No beat, and nothing else, is said any more.
  void Silence() {
    over = true;
    owner->attempts_->Wake();
    absl::MutexLock lock(&joining);
    if (beats.joinable()) beats.join();
  }
  void Beat();

  Session* const owner;
  std::shared_ptr<v1::Cluster::StubInterface> stub;  // Outlives the stream.
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriterInterface<v1::WorkerMessage, v1::Directive>> stream;
  bool finished = false;
  std::atomic<bool> over{false};
  absl::Mutex joining;
  std::thread beats;  // The only writer after the registration.
};

Session::Session(std::shared_ptr<v1::Cluster::StubInterface> stub, Attempts* attempts, Options options)
    : attempts_(attempts), options_(std::move(options)), stub_(std::move(stub)) {}

Session::~Session() = default;

void Session::Stop() {
  stop_ = true;
  attempts_->Wake();
  absl::MutexLock lock(&mutex_);
  for (grpc::ClientContext* context : contexts_) context->TryCancel();
}

absl::StatusOr<std::unique_ptr<Session::Talk>> Session::Open() {
  auto talk = std::make_unique<Talk>(this);
  talk->stream = talk->stub->Attend(&talk->context);
  v1::WorkerMessage first;
  *first.mutable_register_() = options_.hello;
  for (v1::RunningAttempt& running : attempts_->Running()) {
    *first.mutable_register_()->add_running() = std::move(running);
  }
  v1::Directive directive;
  // Not cancelled: that would hide the coordinator's own words.
  if (!talk->stream->Write(first) || !talk->stream->Read(&directive)) {
    return talk->Finish("the coordinator did not welcome this worker");
  }
  if (!directive.has_welcome() || !directive.welcome().refusal().empty()) {
    return absl::FailedPreconditionError(
        directive.has_welcome() ? directive.welcome().refusal()
                                : "the coordinator speaks another protocol: use the same version");
  }
  attempts_->Reconcile({directive.welcome().adopted().begin(), directive.welcome().adopted().end()});
  DERMIS_LOG(kInfo, "welcomed by the coordinator (incarnation ", directive.welcome().incarnation(),
             "), ", directive.welcome().adopted_size(), " attempts go on");
  return talk;
}

// Beats on time, whatever the directives do.
void Session::Talk::Beat() {
  const Options& options = owner->options_;
  Attempts* const attempts = owner->attempts_;
  absl::Duration next = Clock::Real().Now();
  bool told_draining = false;
  while (!over) {
    attempts->WaitForEnds(std::max(absl::ZeroDuration(), next - Clock::Real().Now()), over);
    if (over) return;
    for (v1::AttemptEnded& ended : attempts->Ends()) {
      const uint64_t assignment = ended.assignment();
      v1::WorkerMessage message;
      *message.mutable_ended() = std::move(ended);
      if (!stream->Write(message)) return;
      attempts->Told(assignment);
    }
    if (attempts->Ignored() > options.ignored_cancel && options.give_up != nullptr) {
      options.give_up("work that was cancelled goes on all the same");
    }
    if (Clock::Real().Now() >= next || attempts->draining() != told_draining) {
      told_draining = attempts->draining();
      next = Clock::Real().Now() + options.beat;
      v1::WorkerMessage message;
      v1::Beat& beat = *message.mutable_beat();
      beat.set_draining(attempts->draining());
      for (v1::RunningAttempt& running : attempts->Running()) {
        *beat.add_running() = std::move(running);
      }
      if (!stream->Write(message)) return;
    }
  }
}

bool Session::Begin(Talk& talk) {
  absl::MutexLock lock(&mutex_);
  if (talk.stub != stub_) return false;
  now_ = &talk;
  talk.beats = std::thread([&talk] { talk.Beat(); });
  return true;
}

absl::Status Session::Converse(Talk& talk) {
  v1::Directive directive;
  while (talk.stream->Read(&directive)) {
    switch (directive.kind_case()) {
      case v1::Directive::kAssign:
        attempts_->Assign(directive.assign());
        break;
      case v1::Directive::kCancel:
        DERMIS_LOG(kInfo, "attempt ", directive.cancel().assignment(), " is cancelled: ",
                   directive.cancel().why());
        attempts_->Cancel(directive.cancel().assignment());
        break;
      case v1::Directive::kYield:
        if (attempts_->Yield(directive.yield().assignment())) {   // It is told again until it does.
          DERMIS_LOG(kInfo, "attempt ", directive.yield().assignment(), " yields: ",
                     directive.yield().why());
        }
        break;
      case v1::Directive::kRevocations:
        if (options_.revoked != nullptr) {
          options_.revoked({directive.revocations().serials().begin(), directive.revocations().serials().end()});
        }
        break;
      case v1::Directive::kForget:
        if (options_.forget != nullptr) {
          std::set<Digest> blobs;
          for (const std::string& bytes : directive.forget().blobs()) {
            if (const auto blob = Digest::FromBytes(bytes); blob.ok()) blobs.insert(*blob);
          }
          options_.forget(blobs);
        }
        break;
      case v1::Directive::kWelcome:
      case v1::Directive::KIND_NOT_SET:
        break;
    }
  }
  {
    // Whoever moves the session away from this stream is done with it first.
    absl::MutexLock lock(&mutex_);
    now_ = nullptr;
    mutex_.Await(absl::Condition(
        +[](Session* self) ABSL_EXCLUSIVE_LOCKS_REQUIRED(self->mutex_) { return !self->moving_; }, this));
  }
  talk.Silence();  // The stream is over: a write that waits ends now.
  return talk.Finish("the stream to the coordinator broke");
}

void Session::MoveTo(std::shared_ptr<v1::Cluster::StubInterface> stub, bool now) {
  Talk* old = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    stub_ = std::move(stub);
    if (now_ == nullptr || !now) return;  // The next stream takes it.
    old = now_;
    moving_ = true;
  }
  // What the old stream says after the new one has registered would be lost.
  old->Silence();
  absl::StatusOr<std::unique_ptr<Talk>> next = Open();
  if (!next.ok()) {
    DERMIS_LOG(kWarning, "the new connection is not used yet: ", next.status().message());
  }
  absl::MutexLock lock(&mutex_);
  if (next.ok()) next_ = *std::move(next);
  old->context.TryCancel();
  moving_ = false;
}

std::unique_ptr<Session::Talk> Session::TakeNext() {
  absl::MutexLock lock(&mutex_);
  return std::move(next_);
}

absl::Status Session::Run() {
  absl::Duration backoff = options_.first_backoff;
  bool said = false;
  while (!stop_) {
    std::unique_ptr<Talk> talk = TakeNext();
    absl::Status status;
    if (talk == nullptr) {
      if (options_.connect != nullptr) options_.connect();  // The stream says what is wrong where it fails.
      absl::StatusOr<std::unique_ptr<Talk>> opened = Open();
      status = opened.status();
      if (opened.ok()) talk = *std::move(opened);
    }
    // The one before is left when there is the next.
    while (talk != nullptr && !Begin(*talk)) {
      absl::StatusOr<std::unique_ptr<Talk>> opened = Open();
      status = opened.status();
      talk = opened.ok() ? *std::move(opened) : nullptr;
    }
    const bool welcomed = talk != nullptr;
    if (welcomed) status = Converse(*talk);
    talk = nullptr;
    if (stop_) break;
    {
      absl::MutexLock lock(&mutex_);
      if (next_ != nullptr) continue;  // It has moved.
    }
    if (absl::IsFailedPrecondition(status) || absl::IsPermissionDenied(status) ||
        absl::IsUnauthenticated(status)) {
      return status;
    }
    if (welcomed) {
      backoff = options_.first_backoff;
      said = false;
    }
    if (!said) {
      DERMIS_LOG(kWarning, "no coordinator; tried again until it is there: ", status.ToString());
      said = true;
    }
    const absl::Duration until = Clock::Real().Now() + backoff;
    while (!stop_ && Clock::Real().Now() < until) absl::SleepFor(absl::Milliseconds(20));
    backoff = std::min(backoff * 2, options_.last_backoff);
  }
  return absl::OkStatus();
}

}  // namespace dermis
