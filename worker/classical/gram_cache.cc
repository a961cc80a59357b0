#include "worker/classical/gram_cache.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

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
  if (n > kMostImages) {
    return absl::InvalidArgumentError(
        absl::StrCat("the set has ", n, " images; the products of at most ", kMostImages,
                     " are held in memory"));
  }
  // Not the split: all images are in it.
  v1::ImageSource key_of = images;
  key_of.clear_split();
  key_of.clear_split_seed();
  std::string key = key_of.SerializeAsString();
  absl::MutexLock lock(&mutex_);
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (it->key != key) continue;
    entries_.splice(entries_.end(), entries_, it);
    return it->gram;
  }
  std::vector<const uint8_t*> rows;
  for (size_t i = 0; i < n; ++i) rows.push_back(data.image(static_cast<uint32_t>(i)));
  ASSIGN_OR_RETURN(Gram gram, Gram::FromValues(n, GramRows(rows, data.image_bytes(), 0, n)));
  if (entries_.size() >= kKept) entries_.pop_front();
  entries_.push_back({std::move(key), std::make_shared<const Gram>(std::move(gram))});
  return entries_.back().gram;
}

}  // namespace dermis
