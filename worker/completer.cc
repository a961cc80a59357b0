#include "worker/completer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/tasks.h"

namespace dermis {
namespace {

constexpr size_t kBatch = 512;
constexpr uint64_t kBatchBytes = 4 << 20;
constexpr int kUploadAttempts = 3;  // Each is patient already (BlobClient).

// Makes an inline payload a blob where the coordinator misses it as one.
bool AsBlob(v1::TaskResult& result, const v1::CompletionReply& reply,
            std::vector<std::pair<Digest, std::string>>& blobs) {
  const absl::StatusOr<Digest> digest = Digest::FromBytes(result.payload_digest());
  if (result.payload().empty() || !digest.ok() ||
      std::find(reply.missing().begin(), reply.missing().end(), result.payload_digest()) ==
          reply.missing().end()) {
    return false;
  }
  blobs.emplace_back(*digest, result.payload());
  result.clear_payload();
  result.set_payload_blob(digest->bytes());
  return true;
}

}  // namespace

absl::StatusOr<v1::TaskResult> PackResult(const v1::TaskSpec& spec, const v1::Payload& payload,
                                          std::string* payload_blob) {
  v1::TaskResult result;
  ASSIGN_OR_RETURN(const Digest task, TaskDigest(spec));
  result.set_task(task.bytes());
  std::string bytes;
  if (!payload.SerializeToString(&bytes)) {
    return absl::InternalError(absl::StrCat(Describe(spec), ": its payload is too large"));
  }
  const Digest digest = Sha256Of(bytes);
  result.set_payload_digest(digest.bytes());
  for (const Digest& blob : BlobsOf(payload)) result.add_blobs(blob.bytes());
  if (bytes.size() <= kInlinePayload) {
    result.set_payload(std::move(bytes));
  } else {
    result.set_payload_blob(digest.bytes());
    *payload_blob = std::move(bytes);
  }
  return result;
}

Completer::Completer(Call call, BlobCache* blobs, absl::Duration retry)
    : call_(std::move(call)), blobs_(blobs), retry_(retry) {
  threads_.emplace_back([this] { Loop(&small_, false); });
  threads_.emplace_back([this] { Loop(&large_, true); });
}

Completer::~Completer() {
  Stop();
  for (std::thread& thread : threads_) thread.join();
  for (std::deque<Item>* queue : {&small_, &large_}) {
    for (Item& item : *queue) item.done(absl::CancelledError("the worker stops"));
  }
}

void Completer::Stop() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
}

bool Completer::Pause(int attempt) {
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&stopped_), retry_ * (1 << std::min(attempt, 4)));
  return !stopped_;
}

void Completer::Add(Finished finished) {
  Item item;
  std::string payload_blob;
  absl::StatusOr<v1::TaskResult> result = PackResult(finished.spec, finished.payload, &payload_blob);
  if (!result.ok()) {
    finished.done(absl::FailedPreconditionError(result.status().ToString()));
    return;
  }
  item.bytes = finished.spec.ByteSizeLong() + result->ByteSizeLong() + 256;
  *item.completion.mutable_spec() = std::move(finished.spec);
  *item.completion.mutable_result() = *std::move(result);
  *item.completion.mutable_attempt() = std::move(finished.attempt);
  for (v1::UsedResult& used : finished.inputs) *item.completion.add_inputs() = std::move(used);
  item.done = std::move(finished.done);
  item.wanted = std::move(finished.wanted);
  for (std::string& bytes : finished.blobs) {
    const Digest digest = Sha256Of(bytes);
    item.blobs.emplace_back(digest, std::move(bytes));
  }
  if (!payload_blob.empty()) {
    const Digest digest = Sha256Of(payload_blob);
    item.blobs.emplace_back(digest, std::move(payload_blob));
  }
  absl::MutexLock lock(&mutex_);
  (item.blobs.empty() ? small_ : large_).push_back(std::move(item));
}

void Completer::Loop(std::deque<Item>* queue, bool uploads) {
  while (true) {
    std::vector<Item> batch;
    {
      absl::MutexLock lock(&mutex_);
      auto ready = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopped_ || !queue->empty(); };
      mutex_.Await(absl::Condition(&ready));
      if (stopped_) return;
      uint64_t bytes = 0;
      while (!queue->empty() && batch.size() < (uploads ? 1 : kBatch) && bytes < kBatchBytes) {
        bytes += queue->front().bytes;
        batch.push_back(std::move(queue->front()));
        queue->pop_front();
      }
    }
    if (uploads) {
      absl::Status status;
      if (batch[0].wanted != nullptr && !batch[0].wanted()) {
        batch[0].done(absl::CancelledError("what it follows from could not be stored"));
        continue;
      }
      for (const auto& [digest, bytes] : batch[0].blobs) {
        for (int attempt = 0;; ++attempt) {
          status = blobs_->Put(digest, bytes);
          if (status.ok() || attempt + 1 >= kUploadAttempts || !Pause(attempt)) break;
          DERMIS_LOG(kWarning, "upload of blob ", digest.short_hex(), " is tried again: ",
                     status.ToString());
        }
        if (!status.ok()) break;
      }
      if (!status.ok()) {
        batch[0].done(absl::UnavailableError(absl::StrCat(
            "the result of ", Describe(batch[0].completion.spec()), " cannot be stored: ",
            status.ToString())));
        continue;
      }
    }
    Send(std::move(batch));
  }
}

void Completer::Send(std::vector<Item> batch) {
  for (int attempt = 0; !batch.empty(); ++attempt) {
    v1::CompleteTasksRequest request;
    for (const Item& item : batch) *request.add_completions() = item.completion;
    absl::StatusOr<v1::CompleteTasksResponse> response = call_(request);
    if (response.ok() && response->replies_size() != static_cast<int>(batch.size())) {
      response = absl::InternalError("the coordinator answered another number of completions");
    }
    if (!response.ok()) {
      if (attempt % 16 == 0) {
        DERMIS_LOG(kWarning, batch.size(), " results wait for the coordinator: ",
                   response.status().ToString());
      }
      if (!Pause(attempt)) {
        for (Item& item : batch) item.done(absl::CancelledError("the worker stops"));
        return;
      }
      continue;
    }
    std::vector<Item> again;
    bool pause = false;
    for (size_t i = 0; i < batch.size(); ++i) {
      Item& item = batch[i];
      const v1::CompletionReply& reply = response->replies(static_cast<int>(i));
      switch (reply.verdict()) {
        case v1::CompletionReply::STORED:
          item.done(absl::OkStatus());
          break;
        case v1::CompletionReply::MISSING: {
          absl::Status status;
          // It wants a small payload as a blob, too: one that can be deleted.
          const bool small = AsBlob(*item.completion.mutable_result(), reply, item.blobs);
          for (const std::string& missing : reply.missing()) {
            const absl::StatusOr<Digest> digest = Digest::FromBytes(missing);
            status = digest.status();
            if (!status.ok()) break;
            const auto own = std::find_if(item.blobs.begin(), item.blobs.end(),
                                          [&](const auto& b) { return b.first == *digest; });
            status = own != item.blobs.end() ? blobs_->Put(own->first, own->second)
                                             : blobs_->PutAgain(*digest);
            if (!status.ok()) break;
          }
          // Bounded: a coordinator that keeps losing a blob must not hold this worker for ever.
          if (status.ok() && ++item.missed < 8) {
            pause |= !small;
            again.push_back(std::move(item));
          } else {
            item.done(absl::UnavailableError(absl::StrCat(
                "blobs of ", Describe(item.completion.spec()), " cannot be stored: ",
                status.ok() ? "the coordinator misses them again and again" : status.ToString())));
          }
          break;
        }
        case v1::CompletionReply::STALE:
          item.done(absl::UnavailableError(absl::StrCat("the result of ",
                                                        Describe(item.completion.spec()),
                                                        " is not taken: ", reply.cause())));
          break;
        case v1::CompletionReply::CONFLICT:
          DERMIS_LOG(kError, "ALARM: another result is stored for ", Describe(item.completion.spec()),
                     ": ", reply.cause());
          item.done(absl::DataLossError(reply.cause()));
          break;
        default:
          DERMIS_LOG(kError, "the coordinator refused the result of ",
                     Describe(item.completion.spec()), ": ", reply.cause());
          item.done(absl::FailedPreconditionError(absl::StrCat("result refused: ", reply.cause())));
      }
    }
    batch = std::move(again);
    if (pause) Pause(batch[0].missed);
  }
}

}  // namespace dermis
