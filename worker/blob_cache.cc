#include "worker/blob_cache.h"

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

}  // namespace

BlobCache::BlobCache(std::unique_ptr<BlobStore> store, Download download, Upload upload)
    : store_(std::move(store)), download_(std::move(download)), upload_(std::move(upload)) {}

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
  if (Sha256Of(*bytes) != digest) {
    return Unavailable(digest, absl::DataLossError("what came has another hash"));
  }
  if (const auto kept = store_->Put(*bytes); !kept.ok()) {
    DERMIS_LOG(kWarning, "blob ", digest.short_hex(), " is not cached: ", kept.status().ToString());
  }
  return bytes;
}

absl::Status BlobCache::Put(const Digest& digest, std::string_view bytes) {
  if (const auto kept = store_->Put(bytes); !kept.ok()) {
    DERMIS_LOG(kWarning, "blob ", digest.short_hex(), " is not cached: ", kept.status().ToString());
  }
  return upload_(digest, bytes);
}

absl::Status BlobCache::PutAgain(const Digest& digest) {
  absl::StatusOr<std::string> bytes = store_->Get(digest);
  if (!bytes.ok()) return Unavailable(digest, bytes.status());
  return upload_(digest, *bytes);
}

}  // namespace dermis
