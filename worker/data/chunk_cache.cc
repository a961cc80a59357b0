#include "worker/data/chunk_cache.h"

#include <algorithm>
#include <exception>

#include "absl/strings/str_cat.h"

#include "worker/unavailability.h"

namespace dermis {

ChunkCache::ChunkCache(std::vector<uint64_t> sizes, uint64_t limit, Load load)
    : sizes_(std::move(sizes)),
      limit_(limit),
      load_(std::move(load)),
      entries_(sizes_.size()),
      thread_([this] { Loop(); }) {}

ChunkCache::~ChunkCache() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
    work_.Signal();
  }
  thread_.join();
}

absl::StatusOr<ChunkCache::Pin> ChunkCache::Get(uint32_t chunk) {
  absl::MutexLock lock(&mutex_);
  Entry& entry = entries_[chunk];
  entry.used = ++calls_;
  ++entry.users;  // From now on: what has come for a caller must not go before it has woken up.
  if (entry.bytes.empty()) {
    ++counts_.waits;
    if (std::find(asked_.begin(), asked_.end(), chunk) == asked_.end()) asked_.push_back(chunk);
    work_.Signal();
    const uint64_t before = entry.attempts;
    while (entry.bytes.empty() && entry.attempts == before) loaded_.Wait(&mutex_);
    if (entry.bytes.empty()) {
      --entry.users;
      return entry.failure;
    }
  }
  return Pin(this, chunk, entry.bytes.data());
}

void ChunkCache::Unpin(uint32_t chunk) {
  absl::MutexLock lock(&mutex_);
  if (--entries_[chunk].users == 0 && !asked_.empty()) work_.Signal();
}

void ChunkCache::Expect(absl::Span<const uint32_t> chunks) {
  absl::MutexLock lock(&mutex_);
  for (uint32_t chunk : expected_) entries_[chunk].expected = SIZE_MAX;
  expected_.assign(chunks.begin(), chunks.end());
  ahead_ = 0;
  for (size_t p = 0; p < expected_.size(); ++p) entries_[expected_[p]].expected = p;
  work_.Signal();
}

ChunkCache::Counts ChunkCache::counts() const {
  absl::MutexLock lock(&mutex_);
  return counts_;
}

bool ChunkCache::MakeRoom(uint64_t bytes, std::optional<size_t> before) {
  while (counts_.held + bytes > limit_) {
    Entry* last = nullptr;
    for (Entry& entry : entries_) {
      if (entry.bytes.empty() || entry.users > 0) continue;
      if (before.has_value() && entry.expected <= *before) continue;
      if (last == nullptr || entry.expected > last->expected ||
          (entry.expected == last->expected && entry.used < last->used)) {
        last = &entry;
      }
    }
    if (last == nullptr) return false;
    counts_.held -= last->bytes.size();
    std::vector<uint8_t>().swap(last->bytes);
  }
  return true;
}

std::optional<uint32_t> ChunkCache::Next() {
  if (!asked_.empty()) {
    const uint32_t chunk = asked_.front();
    // Without room: somebody will let go of a chunk, and nothing ahead may take its place.
    if (!MakeRoom(sizes_[chunk], std::nullopt)) return std::nullopt;
    asked_.pop_front();
    return chunk;
  }
  for (; ahead_ < expected_.size(); ++ahead_) {
    const uint32_t chunk = expected_[ahead_];
    if (!entries_[chunk].bytes.empty()) continue;
    if (!MakeRoom(sizes_[chunk], ahead_)) return std::nullopt;
    ++ahead_;
    return chunk;
  }
  return std::nullopt;
}

void ChunkCache::Loop() {
  absl::MutexLock lock(&mutex_);
  while (!stop_) {
    const std::optional<uint32_t> next = Next();
    if (!next.has_value()) {
      work_.Wait(&mutex_);
      continue;
    }
    const uint32_t chunk = *next;
    counts_.held += sizes_[chunk];
    counts_.peak = std::max(counts_.peak, counts_.held);
    mutex_.Unlock();
    absl::StatusOr<std::vector<uint8_t>> bytes = absl::InternalError("not loaded");
    try {
      bytes = load_(chunk);
    } catch (const std::exception& error) {
      bytes = StatusOfException(error);
    }
    mutex_.Lock();
    Entry& entry = entries_[chunk];
    if (bytes.ok() && bytes->size() != sizes_[chunk]) {
      bytes = absl::InternalError(absl::StrCat("chunk ", chunk, " has ", bytes->size(),
                                               " bytes in memory, not ", sizes_[chunk]));
    }
    if (bytes.ok()) {
      entry.bytes = *std::move(bytes);
      ++counts_.loads;
    } else {
      counts_.held -= sizes_[chunk];
      entry.failure = bytes.status();  // Who asks for it tries again, and hears of it.
    }
    ++entry.attempts;
    // It may have been asked for while it was loaded ahead.
    std::erase(asked_, chunk);
    loaded_.SignalAll();
  }
}

}  // namespace dermis
