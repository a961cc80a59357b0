#include "worker/classical/gram_cache.h"

#include <new>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/baselines.h"
#include "common/progress.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

constexpr size_t kKept = 2;

}  // namespace

absl::StatusOr<std::shared_ptr<const Gram>> GramCache::Get(const v1::ImageSource& images,
                                                           const ImageData& data) {
  const size_t n = data.labels.size();
  if (data.chunks != nullptr) {
    return absl::UnavailableError(absl::StrCat(
        "all images must be in memory, ", (n * data.image_bytes()) >> 20, " MiB at ", data.size,
        " px; start the worker with a larger --image-memory"));
  }
  if (n > kMostProducts) {
    return absl::InvalidArgumentError(
        absl::StrCat("the set has ", n, " images; the products of at most ", kMostProducts,
                     " are held in memory"));
  }
  // All images are in it, whatever the split; but what hides a part of them may be of its training
  // images.
  v1::ImageSource key_of = images;
  if (!images.has_hide()) {
    key_of.clear_split();
    key_of.clear_split_seed();
  }
  std::string key = key_of.SerializeAsString();
  absl::MutexLock lock(&mutex_);
  while (computing_) {
    computed_.WaitWithTimeout(&mutex_, absl::Seconds(1));
    NoteProgress();
  }
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (it->key != key) continue;
    entries_.splice(entries_.end(), entries_, it);
    return it->gram;
  }
  computing_ = true;
  mutex_.Unlock();
  std::vector<const uint8_t*> rows;
  for (size_t i = 0; i < n; ++i) rows.push_back(data.image(static_cast<uint32_t>(i)));
  absl::StatusOr<Gram> gram = [&]() -> absl::StatusOr<Gram> {
    try {
      return Gram::FromValues(n, GramRows(rows, data.image_bytes(), 0, n));
    } catch (const std::bad_alloc&) {  // Who waits must hear of it.
      return absl::ResourceExhaustedError(
          absl::StrCat("no memory for the products of ", n, " images"));
    }
  }();
  mutex_.Lock();
  computing_ = false;
  computed_.SignalAll();
  RETURN_IF_ERROR(gram.status());
  if (entries_.size() >= kKept) entries_.pop_front();
  entries_.push_back({std::move(key), std::make_shared<const Gram>(*std::move(gram))});
  return entries_.back().gram;
}

}  // namespace dermis
