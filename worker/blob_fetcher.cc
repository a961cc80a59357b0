#include "worker/blob_fetcher.h"

#include <algorithm>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

constexpr int kPeersTried = 3;       // For one blob; then the coordinator must send it.
constexpr size_t kMostAvoided = 64;  // What a request may name.
constexpr absl::Duration kAvoidFor = absl::Minutes(1);
constexpr absl::Duration kFirstPause = absl::Milliseconds(20);
constexpr absl::Duration kLastPause = absl::Milliseconds(200);
// The coordinator itself sends when nothing moves; this bounds the wait whatever it says.
constexpr absl::Duration kLongestWait = absl::Minutes(5);

}  // namespace

BlobFetcher::BlobFetcher(BlobClient* coordinator, Dial dial, Options options)
    : coordinator_(coordinator), dial_(std::move(dial)), options_(std::move(options)) {}

absl::StatusOr<std::string> BlobFetcher::Get(const Digest& digest) {
  if (!options_.shared_folder.empty()) {
    absl::StatusOr<std::string> bytes = FromFolder(digest);
    if (bytes.ok()) return bytes;
    if (!absl::IsNotFound(bytes.status())) {
      DERMIS_LOG(kWarning, bytes.status().message(), "; it is fetched from elsewhere");
    }
  }
  const absl::Duration start = Clock::Real().Now();
  absl::Duration pause = kFirstPause;
  for (int failures = 0;;) {
    v1::GetRequest request;
    request.set_digest(digest.bytes());
    if (failures < kPeersTried && Clock::Real().Now() - start < kLongestWait) {
      *request.mutable_me() = options_.me;
      AddAvoided(&request);
    }
    ASSIGN_OR_RETURN(BlobClient::Answer answer, coordinator_.load()->Ask(request));
    if (answer.ask.has_value()) {
      absl::StatusOr<std::string> bytes = FromPeer(digest, *answer.ask);
      if (bytes.ok()) return bytes;
      DERMIS_LOG(kWarning, "worker ", answer.ask->worker(), " is passed over for ",
                 absl::FormatDuration(kAvoidFor), ": ", bytes.status().ToString());
      Avoid(answer.ask->worker());
      ++failures;
    } else if (answer.wait) {
      absl::SleepFor(pause);
      pause = std::min(pause * 2, kLastPause);
    } else {
      return std::move(answer.bytes);
    }
  }
}

void BlobFetcher::Tell(const Digest& digest, uint64_t size, bool kept) {
  if (size < kLargeBlob) return;
  v1::HoldingRequest request;
  request.set_digest(digest.bytes());
  *request.mutable_me() = options_.me;
  request.set_held(kept);
  // Untold, others wait for this worker a while, then get the blob elsewhere.
  if (const absl::Status told = coordinator_.load()->Holding(request); !told.ok()) {
    DERMIS_LOG(kDebug, told.ToString());
  }
}

absl::StatusOr<std::string> BlobFetcher::FromFolder(const Digest& digest) const {
  const std::string hex = digest.hex();
  const std::string path =
      absl::StrCat(options_.shared_folder, "/", hex.substr(0, 2), "/", hex.substr(2));
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return absl::NotFoundError(absl::StrCat(path, " cannot be opened"));
  std::string bytes(static_cast<size_t>(std::max<std::streamoff>(0, in.tellg())), '\0');
  in.seekg(0).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (in && Sha256Of(bytes) == digest) return bytes;
  return absl::DataLossError(
      absl::StrCat(path, " has other bytes than its name says: replace it, or look at that disk"));
}

absl::StatusOr<std::string> BlobFetcher::FromPeer(const Digest& digest,
                                                  const v1::BlobPeer& peer) const {
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel, dial_(peer));
  BlobClient client(std::move(channel), absl::ZeroDuration(), options_.stall);
  return client.Get(digest);
}

void BlobFetcher::Avoid(const std::string& worker) {
  absl::MutexLock lock(&mutex_);
  avoid_[worker] = Clock::Real().Now() + kAvoidFor;
}

void BlobFetcher::AddAvoided(v1::GetRequest* request) {
  absl::MutexLock lock(&mutex_);
  const absl::Duration now = Clock::Real().Now();
  std::erase_if(avoid_, [now](const auto& entry) { return entry.second <= now; });
  for (const auto& [worker, until] : avoid_) {
    if (request->avoid_size() < static_cast<int>(kMostAvoided)) request->add_avoid(worker);
  }
}

}  // namespace dermis
