#include "common/blob_client.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"

#include "common/clock.h"
#include "common/status_macros.h"
#include "dermis/v1/blobs.grpc.pb.h"

namespace dermis {
namespace {

constexpr size_t kPiece = 1 << 20;
constexpr uint64_t kMostBlob = 4ull << 30;
constexpr uint64_t kMostReserved = 1 << 30;  // On the word of the other side.

// Enough for the transfer at 4 MiB/s, beside what any call may take.
std::chrono::system_clock::time_point DeadlineFor(uint64_t bytes) {
  return std::chrono::system_clock::now() + std::chrono::seconds(30 + bytes / (4 << 20));
}

bool IsRetryable(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

// Repeats `call` while the coordinator is away.
template <typename Call>
absl::Status WithPatience(absl::Duration patience, Call call) {
  const absl::Duration until = Clock::Real().Now() + patience;
  absl::Duration pause = absl::Milliseconds(100);
  while (true) {
    const absl::Status status = call();
    if (!IsRetryable(status) || Clock::Real().Now() + pause > until) return status;
    std::this_thread::sleep_for(absl::ToChronoMilliseconds(pause));
    pause = std::min(pause * 2, absl::Seconds(2));
  }
}

}  // namespace

absl::Status ToAbsl(const grpc::Status& status, std::string_view what) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat(std::string(what), ": ", status.error_message()));
}

BlobClient::BlobClient(std::shared_ptr<grpc::Channel> channel, absl::Duration patience,
                       absl::Duration stall)
    : channel_(std::move(channel)), patience_(patience), stall_(stall) {}

absl::StatusOr<std::vector<bool>> BlobClient::Has(const std::vector<Digest>& digests) {
  v1::HasRequest request;
  for (const Digest& digest : digests) request.add_digests(digest.bytes());
  v1::HasResponse response;
  RETURN_IF_ERROR(WithPatience(patience_, [&] {
    grpc::ClientContext context;
    context.set_deadline(DeadlineFor(0));
    return ToAbsl(v1::Blobs::NewStub(channel_)->Has(&context, request, &response),
                  "looking for blobs");
  }));
  if (response.present_size() != static_cast<int>(digests.size())) {
    return absl::InternalError("the coordinator answered for another number of blobs");
  }
  return std::vector<bool>(response.present().begin(), response.present().end());
}

absl::Status BlobClient::Put(const Digest& digest, std::string_view bytes) {
  ASSIGN_OR_RETURN(const std::vector<bool> present, Has({digest}));
  if (present[0]) return absl::OkStatus();
  return WithPatience(patience_, [&] {
    grpc::ClientContext context;
    context.set_deadline(DeadlineFor(bytes.size()));
    v1::PutResponse response;
    auto writer = v1::Blobs::NewStub(channel_)->Put(&context, &response);
    v1::PutRequest piece;
    piece.set_digest(digest.bytes());
    piece.set_size(bytes.size());
    size_t at = 0;
    do {
      piece.set_data(std::string(bytes.substr(at, kPiece)));
      at += piece.data().size();
      if (!writer->Write(piece)) break;  // The status of Finish says why.
      piece.Clear();
    } while (at < bytes.size());
    writer->WritesDone();
    return ToAbsl(writer->Finish(), absl::StrCat("storing blob ", digest.short_hex()));
  });
}

absl::StatusOr<std::string> BlobClient::Get(const Digest& digest) {
  v1::GetRequest request;
  request.set_digest(digest.bytes());
  ASSIGN_OR_RETURN(Answer answer, Ask(request));
  if (answer.ask.has_value() || answer.wait) {
    return absl::DataLossError(
        absl::StrCat("blob ", digest.short_hex(), ": bytes were asked for, and advice came"));
  }
  return std::move(answer.bytes);
}

absl::StatusOr<BlobClient::Answer> BlobClient::Ask(const v1::GetRequest& request) {
  ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(request.digest()));
  Answer answer;
  RETURN_IF_ERROR(WithPatience(patience_, [&] { return TryGet(request, &answer); }));
  if (!answer.ask.has_value() && !answer.wait && Sha256Of(answer.bytes) != digest) {
    return absl::DataLossError(
        absl::StrCat("blob ", digest.short_hex(), " came with other bytes than its digest says"));
  }
  return answer;
}

absl::Status BlobClient::TryGet(const v1::GetRequest& request, Answer* answer) {
  *answer = {};
  grpc::ClientContext context;
  grpc::CompletionQueue queue;  // One operation at a time: tags say nothing.
  void* tag = nullptr;
  bool stalled = false;
  // Did the operation under way succeed? One that takes too long is cancelled.
  const auto done = [&] {
    bool ok = false;
    const auto until = std::chrono::system_clock::now() + absl::ToChronoMilliseconds(stall_);
    if (queue.AsyncNext(&tag, &ok, until) == grpc::CompletionQueue::TIMEOUT) {
      stalled = true;
      context.TryCancel();
      queue.Next(&tag, &ok);
    }
    return ok && !stalled;
  };
  const auto stub = v1::Blobs::NewStub(channel_);
  const auto reader = stub->AsyncGet(&context, request, &queue, nullptr);
  uint64_t size = 0;
  bool too_many = false;
  v1::GetResponse piece;
  if (done()) {
    while (reader->Read(&piece, nullptr), done()) {
      if (piece.has_ask()) answer->ask = piece.ask();
      answer->wait |= piece.wait();
      if (size == 0 && piece.size() > 0) {
        size = std::min(piece.size(), kMostBlob);
        answer->bytes.reserve(std::min(size, kMostReserved));
      }
      if (answer->bytes.size() + piece.data().size() > size) {
        too_many = true;  // A peer may say anything: nothing is taken beyond what it announced.
        context.TryCancel();
        break;
      }
      answer->bytes += piece.data();
    }
  }
  grpc::Status status;
  reader->Finish(&status, nullptr);
  done();
  queue.Shutdown();
  for (bool ok = false; queue.Next(&tag, &ok);) {
  }
  const std::string what =
      absl::StrCat("fetching blob ", absl::BytesToHexString(request.digest()).substr(0, 12));
  if (stalled) {
    return absl::DeadlineExceededError(
        absl::StrCat(what, ": no byte has come for ", absl::FormatDuration(stall_)));
  }
  if (too_many) {
    return absl::DataLossError(absl::StrCat(what, ": more than the ", size, " bytes announced"));
  }
  return ToAbsl(status, what);
}

absl::Status BlobClient::Holding(const v1::HoldingRequest& request) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
  v1::HoldingResponse response;
  return ToAbsl(v1::Blobs::NewStub(channel_)->Holding(&context, request, &response),
                "telling of a blob");
}

}  // namespace dermis
