#include "worker/blob_cache.h"

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

#include "common/log.h"

namespace dermis {
namespace {

absl::Status Unavailable(const Digest& digest, const absl::Status& status) {
  return absl::UnavailableError(
      absl::StrCat("blob ", digest.short_hex(), " cannot be had: ", status.ToString()));
}

constexpr uint64_t kMostByDefault = 20'000'000'000;

}  // namespace

BlobCache::BlobCache(std::unique_ptr<BlobStore> store, Download download, Upload upload,
                     Options options)
    : store_(std::move(store)),
      download_(std::move(download)),
      upload_(std::move(upload)),
      options_(std::move(options)),
      bytes_(store_->Trim(options_.limit)) {}

absl::StatusOr<std::string> BlobCache::Get(const Digest& digest) {
  if (digest.none()) return absl::UnavailableError("no blob is named where one is needed");
  {
    absl::MutexLock lock(&mutex_);
    while (fetching_.count(digest) > 0) fetched_.Wait(&mutex_);
    fetching_[digest] = 1;
  }
  absl::Cleanup done = [&] {
    absl::MutexLock lock(&mutex_);
    fetching_.erase(digest);
    fetched_.SignalAll();
  };
  if (store_->Has(digest)) {
    absl::StatusOr<std::string> here = store_->Get(digest);
    if (here.ok()) return here;
    DERMIS_LOG(kWarning, "cached blob ", digest.short_hex(), " is fetched again: ",
               here.status().ToString());
  }
  absl::StatusOr<std::string> bytes = download_(digest);
  if (!bytes.ok()) return Unavailable(digest, bytes.status());
  bool kept = false;
  if (!Keep(digest, *bytes, &kept)) {
    return Unavailable(digest, absl::DataLossError("what came has another hash"));
  }
  if (options_.came != nullptr) options_.came(digest, bytes->size(), kept);
  return bytes;
}

absl::Status BlobCache::Put(const Digest& digest, std::string_view bytes) {
  bool kept = false;
  Keep(digest, bytes, &kept);
  const absl::Status status = upload_(digest, bytes);
  if (status.ok() && options_.came != nullptr) options_.came(digest, bytes.size(), kept);
  return status;
}

bool BlobCache::Keep(const Digest& digest, std::string_view bytes, bool* kept) {
  const absl::StatusOr<Digest> stored = store_->Put(bytes);
  *kept = stored.ok() && *stored == digest;
  if (!stored.ok()) {
    DERMIS_LOG(kWarning, "blob ", digest.short_hex(),
               " is not cached: ", stored.status().ToString());
    return Sha256Of(bytes) == digest;
  }
  absl::MutexLock lock(&mutex_);
  bytes_ += bytes.size();
  // Somewhat below the limit: to look through the whole folder must be worth it.
  if (bytes_ > options_.limit) bytes_ = store_->Trim(options_.limit - options_.limit / 10);
  return *kept;
}

absl::Status BlobCache::PutAgain(const Digest& digest) {
  absl::StatusOr<std::string> bytes = store_->Get(digest);
  if (!bytes.ok()) return Unavailable(digest, bytes.status());
  return upload_(digest, *bytes);
}

void BlobCache::Forget(const Digest& digest) {
  if (!store_->Has(digest)) return;
  // What it took is counted until the next Trim counts anew.
  const absl::Status status = store_->Remove(digest);
  if (!status.ok()) DERMIS_LOG(kWarning, "blob ", digest.short_hex(), ": ", status.ToString());
}

uint64_t DefaultCacheLimit(BlobStore& store) {
  const uint64_t taken = store.Trim(std::numeric_limits<uint64_t>::max());
  return std::min(kMostByDefault, (store.FreeBytes() + taken) / 2);
}

}  // namespace dermis
