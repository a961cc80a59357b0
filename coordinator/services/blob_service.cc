#include "coordinator/services/blob_service.h"

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dermis {
namespace {

constexpr size_t kPiece = 1 << 20;
constexpr uint64_t kMaxBlob = 4ull << 30;
constexpr int kMaxHas = 100'000;

// Writes to a temporary file while it reads; durable (Commit) before it answers.
class Putting : public grpc::ServerReadReactor<v1::PutRequest> {
 public:
  Putting(const grpc::Status& access, BlobStore& store) : store_(store) {
    if (access.ok()) {
      StartRead(&piece_);
    } else {
      Finish(access);
    }
  }

  void OnReadDone(bool ok) override {
    const absl::Status status = ok ? Take() : Complete();
    if (!ok || !status.ok()) {
      writer_.reset();  // What was not committed is removed.
      Finish(ToGrpc(status));
      return;
    }
    StartRead(&piece_);
  }

  void OnDone() override { delete this; }

 private:
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
      absl::StatusOr<std::unique_ptr<BlobStore::Writer>> writer = store_.NewWriter();
      if (!writer.ok()) return writer.status();
      writer_ = *std::move(writer);
    }
    taken_ += piece_.data().size();
    if (piece_.data().size() > kPiece || taken_ > size_) {
      return absl::InvalidArgumentError(
          absl::StrCat("blob ", digest_.short_hex(), ": more than the ", size_, " bytes announced, or "
                       "a piece of more than 1 MiB"));
    }
    return writer_->Append(piece_.data());
  }

  absl::Status Complete() {
    if (writer_ == nullptr) return absl::InvalidArgumentError("an empty upload");
    if (taken_ != size_) {
      return absl::InvalidArgumentError(absl::StrCat("blob ", digest_.short_hex(), ": ", taken_,
                                                     " bytes came of ", size_));
    }
    return writer_->Commit(digest_);
  }

  BlobStore& store_;
  v1::PutRequest piece_;
  std::unique_ptr<BlobStore::Writer> writer_;
  Digest digest_;
  uint64_t size_ = 0, taken_ = 0;
};

class Getting : public grpc::ServerWriteReactor<v1::GetResponse> {
 public:
  Getting(const grpc::Status& access, BlobStore& store, const BlobService::Lost& lost,
          const v1::GetRequest& request) {
    if (!access.ok()) {
      Finish(access);
      return;
    }
    const absl::StatusOr<Digest> digest = Digest::FromBytes(request.digest());
    if (!digest.ok()) {
      Finish(ToGrpc(digest.status()));
      return;
    }
    // Whole and verified: a blob that the disk changed is dropped here, not passed on.
    absl::StatusOr<std::string> bytes = store.Get(*digest);
    if (!bytes.ok()) {
      if (absl::IsNotFound(bytes.status()) || absl::IsDataLoss(bytes.status())) lost(*digest, bytes.status());
      Finish(ToGrpc(bytes.status()));
      return;
    }
    bytes_ = *std::move(bytes);
    piece_.set_size(bytes_.size());
    Next();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      Finish(grpc::Status::CANCELLED);
      return;
    }
    piece_.clear_size();
    Next();
  }

  void OnDone() override { delete this; }

 private:
  void Next() {
    if (started_ && sent_ == bytes_.size()) {
      Finish(grpc::Status::OK);
      return;
    }
    started_ = true;
    const size_t n = std::min(kPiece, bytes_.size() - sent_);
    piece_.set_data(bytes_.data() + sent_, n);
    sent_ += n;
    StartWrite(&piece_);
  }

  std::string bytes_;
  v1::GetResponse piece_;
  size_t sent_ = 0;
  bool started_ = false;
};

}  // namespace

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
    response->add_present(digest.ok() && store_.Has(*digest));
  }
  reactor->Finish(status);
  return reactor;
}

grpc::ServerReadReactor<v1::PutRequest>* BlobService::Put(grpc::CallbackServerContext* context,
                                                          v1::PutResponse*) {
  return new Putting(access_.Check(*context, "Blobs/Put"), store_);
}

grpc::ServerWriteReactor<v1::GetResponse>* BlobService::Get(grpc::CallbackServerContext* context,
                                                            const v1::GetRequest* request) {
  return new Getting(access_.Check(*context, "Blobs/Get"), store_, lost_, *request);
}

}  // namespace dermis
