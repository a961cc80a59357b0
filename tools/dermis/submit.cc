#include "tools/dermis/submit.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <signal.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/status_macros.h"
#include "tools/dermis/output.h"
#include "tools/dermis/progress.h"

namespace dermis {
namespace {

volatile sig_atomic_t interrupted = 0;
void OnInterrupt(int) { interrupted = 1; }

// How long a watcher waits for a coordinator that went away (it may be restarting).
constexpr absl::Duration kPatience = absl::Minutes(2);

bool OutOfBudget(const v1::StudyStatus& status) {
  return status.phase() == v1::StudyStatus::RUNNING && status.paused() && status.max_hours() > 0 &&
         status.used_hours() >= status.max_hours();
}

absl::Status UploadImages(Client& client, const ImageSet& set) {
  std::vector<Digest> digests;
  for (const v1::ImageChunk& chunk : set.manifest().chunks()) {
    for (const std::string& bytes : BlobsOf(chunk)) {
      ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(bytes));
      digests.push_back(digest);
    }
  }
  ASSIGN_OR_RETURN(const std::vector<bool> present, client.blobs().Has(digests));
  uint64_t sent = 0;
  for (size_t i = 0; i < digests.size(); ++i) {
    if (present[i]) continue;
    if (sent == 0) std::fprintf(stderr, "Sending the images to the cluster\n");
    ASSIGN_OR_RETURN(const std::string_view bytes, set.ChunkBytes(digests[i]));
    RETURN_IF_ERROR(client.blobs().Put(digests[i], bytes));
    sent += bytes.size();
  }
  if (sent > 0) std::fprintf(stderr, "%.1f MB sent\n", static_cast<double>(sent) / 1e6);
  // The manifest last: where it is, its chunks are.
  return client.blobs().Put(set.digest(), set.manifest_blob());
}

}  // namespace

void CatchInterrupts() {
  signal(SIGINT, OnInterrupt);
  signal(SIGTERM, OnInterrupt);
  signal(SIGHUP, OnInterrupt);
}

bool Interrupted() { return interrupted != 0; }

Canceller::Canceller(grpc::ClientContext& context, std::function<bool()> until)
    : thread_([this, &context, until = std::move(until)] {
        while (!done_ && !Interrupted() && !(until && until())) {
          std::this_thread::sleep_for(std::chrono::milliseconds(50));
        }
        if (!done_) context.TryCancel();
      }) {}

Canceller::~Canceller() {
  done_ = true;
  thread_.join();
}

absl::StatusOr<v1::SubmitResponse> Submit(Client& client, const StudyFile& study,
                                          const ImageSet& images,
                                          const v1::Adjustment& adjust) {
  RETURN_IF_ERROR(UploadImages(client, images));
  for (const std::string* file : {&study.init, &study.model}) {
    if (!file->empty()) RETURN_IF_ERROR(client.blobs().Put(Sha256Of(*file), *file));
  }
  grpc::ClientContext context;
  SetDeadline(context, 60);
  v1::SubmitRequest request;
  *request.mutable_spec() = study.spec;
  request.set_image_set(images.digest().bytes());
  if (adjust.ByteSizeLong() > 0) *request.mutable_adjust() = adjust;
  v1::SubmitResponse response;
  const grpc::Status status = client.studies().Submit(&context, request, &response);
  if (!status.ok())
    return ToAbsl(status, absl::StrCat("study ", study.spec.name(), " was not taken"));
  return response;
}

absl::StatusOr<v1::StudyStatus> Watch(Client& client, const std::string& id) {
  ProgressPrinter progress;
  return Watch(client, id, [&](const v1::StudyStatus& status) { progress.Update(status); });
}

absl::StatusOr<v1::StudyStatus> Watch(Client& client, const std::string& id, const SeeStudy& see,
                                      absl::Duration most) {
  const absl::Duration deadline = Clock::Real().Now() + most;
  absl::Duration last_heard = Clock::Real().Now();
  while (true) {
    grpc::ClientContext context;
    v1::WatchRequest request;
    request.set_id(id);
    // A channel gets on with its handshake only while a call waits for it: so wait in the call.
    context.set_wait_for_ready(true);
    auto reader = client.studies().Watch(&context, request);
    // Ctrl-C must end a Read that waits, and so must a coordinator that stays away. (The first
    // state comes at once; later silence only says that nothing changes.)
    std::atomic<bool> heard = false;
    std::optional<Canceller> canceller;
    canceller.emplace(context, [&heard, deadline, until = last_heard + kPatience] {
      return Clock::Real().Now() >= (heard ? deadline : std::min(until, deadline));
    });
    v1::StudyStatus status, last;
    while (reader->Read(&status)) {
      heard = true;
      see(status);
      last = status;
      last_heard = Clock::Real().Now();
      if (OutOfBudget(status)) context.TryCancel();
    }
    const grpc::Status end = reader->Finish();
    canceller.reset();
    if (heard) last_heard = Clock::Real().Now();  // Until just now it was there, if silent.
    if (interrupted) return absl::CancelledError("interrupted");
    if (OutOfBudget(last)) return last;
    if (end.ok() && last.phase() != v1::StudyStatus::RUNNING &&
        last.phase() != v1::StudyStatus::PHASE_UNSPECIFIED) {
      return last;
    }
    if (Clock::Real().Now() >= deadline) {
      return WithExitCode(absl::DeadlineExceededError(absl::StrCat("study ", id, " is not over yet")), kNotYet);
    }
    if (!heard && Clock::Real().Now() - last_heard >= kPatience) {
      return absl::UnavailableError(absl::StrCat(
          "the coordinator has been away for 2 minutes; study ", id,
          " is stored and goes on when it is back: `dermis cluster start`, then `dermis watch ", id,
          "`"));
    }
    if (!end.ok() && end.error_code() != grpc::StatusCode::UNAVAILABLE) {
      return StudyError(client, id, end);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  }
}

absl::Status StatusOf(const v1::StudyStatus& study) {
  if (study.phase() == v1::StudyStatus::DONE) return absl::OkStatus();
  std::string why = study.phase() == v1::StudyStatus::CANCELLED ? " was cancelled"
                    : study.phase() == v1::StudyStatus::RUNNING ? " is not done"
                                                                : " failed";
  for (const std::string& problem : study.problems()) absl::StrAppend(&why, "\n  ", problem);
  return WithExitCode(absl::AbortedError(absl::StrCat("study ", study.id(), why)), kUnsuccessful);
}

}  // namespace dermis
