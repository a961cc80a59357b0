#include "worker/session.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/blob_client.h"
#include "common/clock.h"
#include "common/log.h"

namespace dermis {

Session::Session(std::shared_ptr<v1::Cluster::StubInterface> stub, Attempts* attempts, Options options)
    : stub_(std::move(stub)), attempts_(attempts), options_(std::move(options)) {}

void Session::Stop() {
  stop_ = true;
  attempts_->Wake();
  absl::MutexLock lock(&mutex_);
  if (context_ != nullptr) context_->TryCancel();
}

absl::Status Session::Converse(bool* welcomed) {
  grpc::ClientContext context;
  {
    absl::MutexLock lock(&mutex_);
    if (stop_) return absl::OkStatus();
    context_ = &context;
  }
  absl::Cleanup forget = [this] {
    absl::MutexLock lock(&mutex_);
    context_ = nullptr;
  };
  const std::unique_ptr<grpc::ClientReaderWriterInterface<v1::WorkerMessage, v1::Directive>> stream =
      stub_->Attend(&context);
  v1::WorkerMessage first;
  *first.mutable_register_() = options_.hello;
  for (v1::RunningAttempt& running : attempts_->Running()) {
    *first.mutable_register_()->add_running() = std::move(running);
  }
  v1::Directive directive;
  if (!stream->Write(first) || !stream->Read(&directive)) {
    context.TryCancel();
    return ToAbsl(stream->Finish(), "the coordinator did not welcome this worker");
  }
  if (!directive.has_welcome() || !directive.welcome().refusal().empty()) {
    context.TryCancel();
    stream->Finish();
    return absl::FailedPreconditionError(
        directive.has_welcome() ? directive.welcome().refusal()
                                : "the coordinator speaks another protocol: use the same version");
  }
  *welcomed = true;
  attempts_->Reconcile({directive.welcome().adopted().begin(), directive.welcome().adopted().end()});
  DERMIS_LOG(kInfo, "welcomed by the coordinator (incarnation ", directive.welcome().incarnation(),
             "), ", directive.welcome().adopted_size(), " attempts go on");

  // The only writer. It beats on time whatever the directives do.
  std::atomic<bool> over{false};
  std::thread beats([&] {
    absl::Duration next = Clock::Real().Now();
    bool told_draining = false;
    while (!over) {
      attempts_->WaitForEnds(std::max(absl::ZeroDuration(), next - Clock::Real().Now()), over);
      if (over) return;
      for (v1::AttemptEnded& ended : attempts_->Ends()) {
        const uint64_t assignment = ended.assignment();
        v1::WorkerMessage message;
        *message.mutable_ended() = std::move(ended);
        if (!stream->Write(message)) return;
        attempts_->Told(assignment);
      }
      if (attempts_->Ignored() > options_.ignored_cancel && options_.give_up != nullptr) {
        options_.give_up("work that was cancelled goes on all the same");
      }
      if (Clock::Real().Now() >= next || attempts_->draining() != told_draining) {
        told_draining = attempts_->draining();
        next = Clock::Real().Now() + options_.beat;
        v1::WorkerMessage message;
        v1::Beat& beat = *message.mutable_beat();
        beat.set_draining(attempts_->draining());
        for (v1::RunningAttempt& running : attempts_->Running()) {
          *beat.add_running() = std::move(running);
        }
        if (!stream->Write(message)) return;
      }
    }
  });
  while (stream->Read(&directive)) {
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
        DERMIS_LOG(kInfo, "attempt ", directive.yield().assignment(), " yields: ",
                   directive.yield().why());
        attempts_->Yield(directive.yield().assignment());
        break;
      case v1::Directive::kWelcome:
      case v1::Directive::KIND_NOT_SET:
        break;
    }
  }
  over = true;
  attempts_->Wake();
  context.TryCancel();  // A write that waits ends now.
  beats.join();
  return ToAbsl(stream->Finish(), "the stream to the coordinator broke");
}

absl::Status Session::Run() {
  absl::Duration backoff = options_.first_backoff;
  bool said = false;
  while (!stop_) {
    bool welcomed = false;
    if (options_.connect != nullptr) options_.connect();  // The stream says what is wrong where it fails.
    const absl::Status status = Converse(&welcomed);
    if (stop_) break;
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
