#include "coordinator/services/blob_service.h"

#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/blob_sender.h"
#include "common/log.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

constexpr size_t kPiece = 1 << 20;
constexpr uint64_t kMaxBlob = 4ull << 30;
constexpr uint64_t kMostRead = 256 << 20;   // Manifests and payloads are far smaller; images and weights are not read here.
constexpr int kMaxHas = 100'000;
constexpr size_t kMaxPeer = 1024;
constexpr int kMaxAvoid = 64;
constexpr size_t kMostUnused = 16;  // That go at once: for each the core looks at all studies.

// Writes to a temporary file while it reads; durable (Commit) before it answers.
class Putting : public grpc::ServerReadReactor<v1::PutRequest> {
 public:
  // `uploads`: where it is counted, for this caller; null: it is not. `index`: knows which are
  // going; null: none are.
  Putting(const grpc::Status& access, Access::StillGood good, BlobStore& store, StoredBlobs* index,
          UserUploads* uploads, std::function<void(const absl::Status&)> refused, std::string user)
      : store_(store),
        index_(index),
        good_(std::move(good)),
        uploads_(uploads),
        refused_(std::move(refused)),
        user_(std::move(user)) {
    if (access.ok()) {
      StartRead(&piece_);
    } else {
      Finish(access);
    }
  }

  void OnReadDone(bool ok) override {
    grpc::Status status = good_();
    if (status.ok()) {
      const absl::Status taken = ok ? Take() : Complete();
      if (!taken.ok()) refused_(taken);
      status = ToGrpc(taken);
    }
    if (!ok || !status.ok()) {
      writer_.reset();  // What was not committed is removed.
      if (counted_) uploads_->End(user_, digest_, size_, store_.Has(digest_));
      Finish(status);
      return;
    }
    StartRead(&piece_);
  }

  void OnDone() override { delete this; }

 private:
  // Without digests, which the caller knows: the audit log counts what it is told in the same words.
  absl::Status Take() {
    if (writer_ == nullptr) {
      absl::StatusOr<Digest> digest = Digest::FromBytes(piece_.digest());
      if (!digest.ok()) return digest.status();
      if (digest->none()) return absl::InvalidArgumentError("the first message names no digest");
      digest_ = *digest;
      size_ = piece_.size();
      if (size_ > kMaxBlob) {
        return absl::InvalidArgumentError(
            absl::StrCat("blob of ", size_, " bytes: at most ", kMaxBlob, " are taken"));
      }
      if (uploads_ != nullptr &&
          (!store_.Has(digest_) || (index_ != nullptr && index_->IsGoing(digest_)))) {
        RETURN_IF_ERROR(uploads_->Begin(user_, size_));
        counted_ = true;
      }
      absl::StatusOr<std::unique_ptr<BlobStore::Writer>> writer = store_.NewWriter();
      if (!writer.ok()) return writer.status();
      writer_ = *std::move(writer);
    }
    taken_ += piece_.data().size();
    if (piece_.data().size() > kPiece || taken_ > size_) {
      return absl::InvalidArgumentError(
          absl::StrCat("more than the ", size_, " bytes announced, or a piece of more than 1 MiB"));
    }
    return writer_->Append(piece_.data());
  }

  absl::Status Complete() {
    if (writer_ == nullptr) return absl::InvalidArgumentError("an empty upload");
    if (taken_ != size_) {
      return absl::InvalidArgumentError(absl::StrCat(taken_, " bytes came of ", size_));
    }
    if (counted_) RETURN_IF_ERROR(uploads_->Storing(user_, digest_, size_));
    if (index_ != nullptr)
      index_->Keep(digest_);  // Before: what is there already is not written again.
    return writer_->Commit(digest_);
  }

  BlobStore& store_;
  StoredBlobs* const index_;
  const Access::StillGood good_;
  UserUploads* const uploads_;
  const std::function<void(const absl::Status&)> refused_;
  const std::string user_;
  bool counted_ = false;
  v1::PutRequest piece_;
  std::unique_ptr<BlobStore::Writer> writer_;
  Digest digest_;
  uint64_t size_ = 0, taken_ = 0;
};

// What a worker says of itself and of others, bounded: it is kept.
absl::Status CheckPeer(const v1::BlobPeer& peer) {
  if (peer.worker().empty()) return absl::InvalidArgumentError("`me` names no worker");
  if (peer.ByteSizeLong() > kMaxPeer) {
    return absl::InvalidArgumentError(
        absl::StrCat("`me` takes ", peer.ByteSizeLong(), " bytes: at most ", kMaxPeer));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> StoredBlobs::Read(const Digest& digest) const {
  ASSIGN_OR_RETURN(const uint64_t size, store_.Size(digest));
  if (size > kMostRead) {
    return absl::InvalidArgumentError(absl::StrCat(
        "blob ", digest.short_hex(), " has ", size, " bytes: what is read here has at most ", kMostRead));
  }
  return store_.Get(digest);
}

void StoredBlobs::Going(const Digest& digest) {
  absl::MutexLock lock(&mutex_);
  going_.insert(digest);
}

void StoredBlobs::Keep(const Digest& digest) {
  absl::MutexLock lock(&mutex_);
  going_.erase(digest);
}

bool StoredBlobs::IsGoing(const Digest& digest) const {
  absl::MutexLock lock(&mutex_);
  return going_.contains(digest);
}

void StoredBlobs::RemoveGoing(const Digest& digest) {
  absl::MutexLock lock(&mutex_);
  if (going_.erase(digest) == 0) return;
  const absl::Status status = store_.Remove(digest);
  if (!status.ok() && !absl::IsNotFound(status)) {
    DERMIS_LOG(kWarning, "blob ", digest.short_hex(), " stays: ", status.message());
  }
}

grpc::ServerUnaryReactor* BlobService::Has(grpc::CallbackServerContext* context,
                                           const v1::HasRequest* request, v1::HasResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  grpc::Status status = access_.Check(*context, "Blobs/Has");
  if (status.ok() && request->digests_size() > kMaxHas) {
    status = grpc::Status(grpc::StatusCode::INVALID_ARGUMENT,
                          absl::StrCat("more than ", kMaxHas, " digests at once"));
  }
  for (int i = 0; status.ok() && i < request->digests_size(); ++i) {
    const absl::StatusOr<Digest> digest = Digest::FromBytes(request->digests(i));
    if (!digest.ok()) status = ToGrpc(digest.status());
    if (digest.ok() && quotas_.uploads != nullptr) quotas_.uploads->Wanted(*digest);
    const bool going = digest.ok() && quotas_.index != nullptr && quotas_.index->IsGoing(*digest);
    response->add_present(digest.ok() && !going && store_.Has(*digest));
  }
  reactor->Finish(status);
  return reactor;
}

grpc::ServerReadReactor<v1::PutRequest>* BlobService::Put(grpc::CallbackServerContext* context,
                                                          v1::PutResponse*) {
  UserUploads* uploads = quotas_.uploads;
  const AuditCaller caller = access_.Caller(*context);
  if (caller.role != "user" && caller.role != "admin") uploads = nullptr;  // A worker's results; or on loopback, without certificates.
  return new Putting(
      access_.Check(*context, "Blobs/Put"), access_.WhileOpen(*context), store_, quotas_.index,
      uploads,
      [this, caller](const absl::Status& why) {
        if (quotas_.refused != nullptr) quotas_.refused(caller, why);
      },
      caller.name);
}

grpc::ServerWriteReactor<v1::GetResponse>* BlobService::Get(grpc::CallbackServerContext* context,
                                                            const v1::GetRequest* request) {
  if (const grpc::Status access = access_.Check(*context, "Blobs/Get"); !access.ok()) {
    return RefuseGet(access);
  }
  const absl::StatusOr<Digest> digest = Digest::FromBytes(request->digest());
  if (!digest.ok()) return RefuseGet(ToGrpc(digest.status()));
  absl::StatusOr<std::unique_ptr<BlobStore::Reader>> reader = store_.NewReader(*digest);
  if (!reader.ok()) {
    if (absl::IsNotFound(reader.status())) lost_(*digest, reader.status());
    return RefuseGet(ToGrpc(reader.status()));
  }
  if (request->has_me()) {
    // Whoever is named here is recommended to others.
    if (const grpc::Status access = access_.Check(*context, "Blobs/Holding"); !access.ok()) {
      return RefuseGet(access);
    }
    absl::Status status = CheckPeer(request->me());
    if (request->avoid_size() > kMaxAvoid) {
      status = absl::InvalidArgumentError(
          absl::StrCat(request->avoid_size(), " workers to avoid: at most ", kMaxAvoid));
    }
    if (!status.ok()) return RefuseGet(ToGrpc(status));
    const BlobHolders::Answer answer =
        holders_.Want(*digest, (*reader)->size(), request->me(),
                      {request->avoid().begin(), request->avoid().end()});
    v1::GetResponse instead;
    if (answer.what == BlobHolders::Answer::kAsk) *instead.mutable_ask() = answer.peer;
    if (answer.what == BlobHolders::Answer::kWait) instead.set_wait(true);
    if (answer.what != BlobHolders::Answer::kSend) return AnswerGet(std::move(instead));
  }
  return SendBlob(*std::move(reader), [this, digest = *digest, me = request->me()](
                                          const absl::Status& status, uint64_t bytes) {
    sent_ += bytes;
    if (absl::IsDataLoss(status)) lost_(digest, status);
    if (!status.ok() && !me.worker().empty()) holders_.Told(digest, me, false);
  }, access_.WhileOpen(*context));
}

void BlobService::DropUnused() {
  if (quotas_.uploads == nullptr) return;
  if (std::vector<Digest> due = quotas_.uploads->Due(kMostUnused); !due.empty()) quotas_.unused(std::move(due));
}

grpc::ServerUnaryReactor* BlobService::Holding(grpc::CallbackServerContext* context,
                                               const v1::HoldingRequest* request,
                                               v1::HoldingResponse*) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  grpc::Status status = access_.Check(*context, "Blobs/Holding");
  const absl::StatusOr<Digest> digest = Digest::FromBytes(request->digest());
  if (status.ok()) status = ToGrpc(digest.status());
  if (status.ok()) status = ToGrpc(CheckPeer(request->me()));
  if (status.ok()) holders_.Told(*digest, request->me(), request->held());
  reactor->Finish(status);
  return reactor;
}

}  // namespace dermis
