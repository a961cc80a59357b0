#include "common/blob_client.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/status_macros.h"
#include "dermis/v1/blobs.grpc.pb.h"
#include "grpcpp/client_context.h"

namespace dermis {
namespace {

constexpr size_t kPiece = 1 << 20;

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

BlobClient::BlobClient(std::shared_ptr<grpc::Channel> channel, absl::Duration patience)
    : channel_(std::move(channel)), patience_(patience) {}

absl::StatusOr<std::vector<bool>> BlobClient::Has(const std::vector<Digest>& digests) {
  v1::HasRequest request;
  for (const Digest& digest : digests) request.add_digests(digest.bytes());
  v1::HasResponse response;
  RETURN_IF_ERROR(WithPatience(patience_, [&] {
    grpc::ClientContext context;
    context.set_deadline(DeadlineFor(0));
    return ToAbsl(v1::Blobs::NewStub(channel_)->Has(&context, request, &response), "looking for blobs");
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
      if (!writer->Write(piece)) break;   // The status of Finish says why.
      piece.Clear();
    } while (at < bytes.size());
    writer->WritesDone();
    return ToAbsl(writer->Finish(), absl::StrCat("storing blob ", digest.short_hex()));
  });
}

absl::StatusOr<std::string> BlobClient::Get(const Digest& digest) {
  std::string bytes;
  RETURN_IF_ERROR(WithPatience(patience_, [&] {
    bytes.clear();
    grpc::ClientContext context;
    context.set_deadline(DeadlineFor(1 << 30));
    v1::GetRequest request;
    request.set_digest(digest.bytes());
    auto reader = v1::Blobs::NewStub(channel_)->Get(&context, request);
    v1::GetResponse piece;
    while (reader->Read(&piece)) {
      if (bytes.empty()) bytes.reserve(std::min<uint64_t>(piece.size(), 1 << 30));
      bytes += piece.data();
    }
    return ToAbsl(reader->Finish(), absl::StrCat("fetching blob ", digest.short_hex()));
  }));
  if (Sha256Of(bytes) != digest) {
    return absl::DataLossError(
        absl::StrCat("blob ", digest.short_hex(), " came with other bytes than its digest says"));
  }
  return bytes;
}

}  // namespace dermis
