#include "worker/result_cache.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "common/tasks.h"
#include "worker/used_results.h"

namespace dermis {
namespace {

constexpr size_t kAtOnce = 1024;  // Results asked for in one call: each may be 16 KiB.

}  // namespace

ResultCache::ResultCache(Fetch fetch, GetBlob get_blob, uint64_t limit_bytes)
    : fetch_(std::move(fetch)), get_blob_(std::move(get_blob)), limit_bytes_(limit_bytes) {}

std::shared_ptr<const v1::Payload> ResultCache::Find(const Digest& task) {
  absl::MutexLock lock(&mutex_);
  const auto it = entries_.find(task);
  if (it == entries_.end()) return nullptr;
  order_.splice(order_.end(), order_, it->second.used);
  UsedResults::Note(task, it->second.result.digest);
  return it->second.result.payload;
}

void ResultCache::Clear() {
  absl::MutexLock lock(&mutex_);
  entries_.clear();
  order_.clear();
  bytes_ = 0;
}

void ResultCache::Forget(const Digest& task) {
  absl::MutexLock lock(&mutex_);
  const auto it = entries_.find(task);
  if (it == entries_.end()) return;
  bytes_ -= it->second.bytes;
  order_.erase(it->second.used);
  entries_.erase(it);
}

void ResultCache::Keep(const Digest& task, Result result) {
  const uint64_t bytes = result.payload->ByteSizeLong() + 128;
  absl::MutexLock lock(&mutex_);
  if (entries_.count(task) > 0) return;
  entries_[task] = {std::move(result), bytes, order_.insert(order_.end(), task)};
  bytes_ += bytes;
  while (bytes_ > limit_bytes_ && entries_.size() > 1) {
    const auto oldest = entries_.find(order_.front());
    bytes_ -= oldest->second.bytes;
    entries_.erase(oldest);
    order_.pop_front();
  }
}

absl::StatusOr<ResultCache::Result> ResultCache::Unpack(const v1::TaskResult& result) {
  ASSIGN_OR_RETURN(const Digest want, Digest::FromBytes(result.payload_digest()));
  std::string bytes = result.payload();
  if (!result.payload_blob().empty()) {
    ASSIGN_OR_RETURN(const Digest blob, Digest::FromBytes(result.payload_blob()));
    ASSIGN_OR_RETURN(bytes, get_blob_(blob));
  }
  if (Sha256Of(bytes) != want) return absl::DataLossError("a result has another hash than it says");
  auto payload = std::make_shared<v1::Payload>();
  if (!payload->ParseFromString(bytes)) return absl::DataLossError("a result cannot be parsed");
  return Result{std::move(payload), want};
}

absl::StatusOr<std::vector<std::shared_ptr<const v1::Payload>>> ResultCache::Get(
    const std::vector<v1::TaskSpec>& tasks) {
  std::vector<std::shared_ptr<const v1::Payload>> out(tasks.size());
  std::vector<size_t> absent;
  std::vector<Digest> digests;
  for (size_t i = 0; i < tasks.size(); ++i) {
    ASSIGN_OR_RETURN(const Digest digest, TaskDigest(tasks[i]));
    digests.push_back(digest);
    out[i] = Find(digest);
    if (out[i] == nullptr) absent.push_back(i);
  }
  for (size_t first = 0; first < absent.size(); first += kAtOnce) {
    const auto part = absl::MakeConstSpan(absent).subspan(first, kAtOnce);
    RETURN_IF_ERROR(FetchPart(tasks, digests, part, out));
  }
  return out;
}

absl::Status ResultCache::FetchPart(const std::vector<v1::TaskSpec>& tasks, const std::vector<Digest>& digests,
                                    absl::Span<const size_t> absent,
                                    std::vector<std::shared_ptr<const v1::Payload>>& out) {
  v1::FetchResultsRequest request;
  for (const size_t i : absent) request.add_tasks(digests[i].bytes());
  const absl::StatusOr<v1::FetchResultsResponse> response = fetch_(request);
  if (!response.ok()) {
    return absl::UnavailableError(
        absl::StrCat("results that are inputs cannot be had: ", response.status().ToString()));
  }
  for (size_t k = 0; k < absent.size(); ++k) {
    const size_t i = absent[k];
    if (static_cast<int>(k) >= response->results_size() ||
        response->results(static_cast<int>(k)).task().empty()) {
      return absl::UnavailableError(absl::StrCat("the result of ", Describe(tasks[i]),
                                                 " is an input and is not stored (yet)"));
    }
    absl::StatusOr<Result> result = Unpack(response->results(static_cast<int>(k)));
    if (!result.ok()) {
      return absl::UnavailableError(absl::StrCat("the result of ", Describe(tasks[i]),
                                                 " cannot be read: ", result.status().ToString()));
    }
    out[i] = result->payload;
    UsedResults::Note(digests[i], result->digest);
    Keep(digests[i], *std::move(result));
  }
  return absl::OkStatus();
}

}  // namespace dermis
