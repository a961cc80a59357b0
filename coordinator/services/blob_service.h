// Service Blobs, and the core's view of the blobs.
#ifndef DERMIS_COORDINATOR_SERVICES_BLOB_SERVICE_H_
#define DERMIS_COORDINATOR_SERVICES_BLOB_SERVICE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "common/blob_store.h"
#include "coordinator/blob_index.h"
#include "coordinator/services/access.h"
#include "coordinator/services/awaited_calls.h"
#include "coordinator/services/blob_holders.h"
#include "coordinator/services/user_uploads.h"
#include "dermis/v1/blobs.grpc.pb.h"

namespace dermis {

class StoredBlobs : public BlobIndex {
 public:
  // `reserve_bytes`: below so much free space the disk counts as low. `uploads`: hears of what is looked for, where not null. All
  // outlive this.
  StoredBlobs(BlobStore& store, uint64_t reserve_bytes, UserUploads* uploads = nullptr)
      : store_(store), reserve_(reserve_bytes), uploads_(uploads) {}
  bool Has(const Digest& digest) const override {
    if (uploads_ != nullptr) uploads_->Wanted(digest);
    return store_.Has(digest);
  }
  absl::StatusOr<std::string> Read(const Digest& digest) const override;
  uint64_t Size(const Digest& digest) const override { return store_.Size(digest).value_or(0); }
  void Going(const Digest& digest) override;
  void Keep(const Digest& digest) override;
  void RemoveGoing(const Digest& digest) override;
  bool IsGoing(const Digest& digest) const;
  uint64_t FreeBytes() const override { return store_.FreeBytes(); }
  bool LowDisk() const override { return store_.FreeBytes() < reserve_; }

 private:
  BlobStore& store_;
  const uint64_t reserve_;
  UserUploads* const uploads_;
  // Held while a blob is removed: once Keep has returned it either is there no more, or stays.
  mutable absl::Mutex mutex_;
  std::set<Digest> going_ ABSL_GUARDED_BY(mutex_);
};

// Arguments outlive the server.
class BlobService : public AwaitedCalls<v1::Blobs> {
 public:
  // `lost`: told of each blob that was asked for and is not there or damaged; thread-safe.
  using Lost = std::function<void(const Digest&, const absl::Status&)>;
  // What people upload is bounded by `uploads` (null: it is not); workers' results are not. `unused` is told of blobs whose time is
  // over there (DropUnused), `refused` of each upload that was not taken or not complete. Both thread-safe.
  struct Quotas {
    UserUploads* uploads = nullptr;
    StoredBlobs* index = nullptr;  // Knows which are going; null: none are.
    std::function<void(std::vector<Digest>)> unused;
    std::function<void(const AuditCaller& caller, const absl::Status& why)> refused;
  };
  BlobService(const Access& access, BlobStore& store, BlobHolders& holders, Lost lost,
              Quotas quotas)
      : AwaitedCalls(access),
        access_(access),
        store_(store),
        holders_(holders),
        lost_(std::move(lost)),
        quotas_(std::move(quotas)) {
    Await("Has", &BlobService::Has);
    Await("Get", &BlobService::Get);
    Await("Holding", &BlobService::Holding);
  }
  grpc::ServerUnaryReactor* Has(grpc::CallbackServerContext* context, const v1::HasRequest* request,
                                v1::HasResponse* response) override;
  grpc::ServerReadReactor<v1::PutRequest>* Put(grpc::CallbackServerContext* context,
                                               v1::PutResponse* response) override;
  grpc::ServerWriteReactor<v1::GetResponse>* Get(grpc::CallbackServerContext* context,
                                                 const v1::GetRequest* request) override;
  grpc::ServerUnaryReactor* Holding(grpc::CallbackServerContext* context,
                                    const v1::HoldingRequest* request,
                                    v1::HoldingResponse* response) override;

  void DropUnused();  // To be called now and then: uploads whose time is over go also where nobody uploads any more.

  uint64_t bytes_sent() const { return sent_; }  // Of blobs, by calls that have ended.

 private:
  const Access& access_;
  BlobStore& store_;
  BlobHolders& holders_;
  const Lost lost_;
  const Quotas quotas_;
  std::atomic<uint64_t> sent_{0};
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_BLOB_SERVICE_H_
