#include "coordinator/services/blob_holders.h"

#include <algorithm>

#include "common/blob_client.h"

namespace dermis {
namespace {

// A transfer is given up for lost when it is slower than this. It only lets others begin: whoever
// still receives goes on.
absl::Duration TimeFor(uint64_t size) {
  return absl::Seconds(10) + absl::Seconds(1) * (static_cast<double>(size) / (4 << 20));
}

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

BlobHolders::Answer BlobHolders::Want(const Digest& digest, uint64_t size, const v1::BlobPeer& me,
                                      const std::vector<std::string>& avoid) {
  if (size < kLargeBlob) return {};
  absl::MutexLock lock(&mutex_);
  const absl::Duration now = clock_.Now();
  if (now >= next_expiry_) Expire(now);
  Blob& blob = Of(digest, now);
  peers_[me.worker()] = me;
  End(blob, me.worker());
  std::erase(blob.holders, me.worker());  // It would not ask.

  size_t copies = 0;  // That exist or are on their way, for this worker.
  for (const auto& [receiver, transfer] : blob.transfers) copies += transfer.from.empty();
  const std::string* best = nullptr;
  int least = kUploads;
  // The latest first: of equals it has had the least time to be asked.
  for (auto holder = blob.holders.rbegin(); holder != blob.holders.rend(); ++holder) {
    if (Contains(avoid, *holder)) continue;
    ++copies;
    const auto uploads = uploads_.find(*holder);
    const int busy = uploads == uploads_.end() ? 0 : uploads->second;
    if (busy < least) {
      least = busy;
      best = &*holder;
    }
  }
  if (best != nullptr) {
    if (blob.transfers.empty()) blob.moved = now;  // After a quiet time.
    blob.transfers[me.worker()] = {*best, now + TimeFor(size)};
    ++uploads_[*best];
    return {Answer::kAsk, peers_[*best]};
  }
  if (copies < kCopies || now - blob.moved >= kPatience) {
    blob.transfers[me.worker()] = {"", now + TimeFor(size)};
    blob.moved = now;
    return {};
  }
  return {Answer::kWait, {}};
}

void BlobHolders::Told(const Digest& digest, const v1::BlobPeer& me, bool held) {
  absl::MutexLock lock(&mutex_);
  const absl::Duration now = clock_.Now();
  if (!held && blobs_.count(digest) == 0) return;
  Blob& blob = Of(digest, now);
  peers_[me.worker()] = me;
  End(blob, me.worker());
  std::erase(blob.holders, me.worker());
  if (!held) return;
  blob.holders.push_back(me.worker());
  blob.moved = now;
}

void BlobHolders::End(Blob& blob, const std::string& receiver) {
  const auto it = blob.transfers.find(receiver);
  if (it == blob.transfers.end()) return;
  if (const auto from = uploads_.find(it->second.from);
      from != uploads_.end() && --from->second <= 0) {
    uploads_.erase(from);
  }
  blob.transfers.erase(it);
}

void BlobHolders::Expire(absl::Duration now) {
  next_expiry_ = now + absl::Seconds(1);
  for (auto& [digest, blob] : blobs_) {
    std::vector<std::string> lost;
    for (const auto& [receiver, transfer] : blob.transfers) {
      if (now >= transfer.until) lost.push_back(receiver);
    }
    for (const std::string& receiver : lost) End(blob, receiver);
  }
}

BlobHolders::Blob& BlobHolders::Of(const Digest& digest, absl::Duration now) {
  auto it = blobs_.find(digest);
  if (it == blobs_.end()) {
    if (blobs_.size() >= kBlobs) {
      const auto oldest = std::min_element(blobs_.begin(), blobs_.end(), [](auto& a, auto& b) {
        return a.second.wanted < b.second.wanted;
      });
      while (!oldest->second.transfers.empty()) {
        End(oldest->second, std::string(oldest->second.transfers.begin()->first));
      }
      blobs_.erase(oldest);
    }
    it = blobs_.try_emplace(digest).first;
    it->second.moved = now;
  }
  it->second.wanted = now;
  return it->second;
}

}  // namespace dermis
