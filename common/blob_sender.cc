#include "common/blob_sender.h"

#include <string>
#include <utility>

namespace dermis {
namespace {

constexpr size_t kPiece = 1 << 20;

class Sending : public grpc::ServerWriteReactor<v1::GetResponse> {
 public:
  Sending(std::unique_ptr<BlobStore::Reader> reader, BlobSent sent, std::function<grpc::Status()> good)
      : reader_(std::move(reader)), told_(std::move(sent)), good_(std::move(good)) {
    piece_.set_size(reader_->size());
    Next();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      Finish(grpc::Status::CANCELLED);
      return;
    }
    bytes_ += piece_.data().size();
    piece_.clear_size();
    if (bytes_ < reader_->size()) {
      Next();
    } else {
      status_ = absl::OkStatus();
      Finish(grpc::Status::OK);
    }
  }

  void OnDone() override {
    told_(status_, bytes_);
    delete this;
  }

 private:
  void Next() {
    if (const grpc::Status status = good_ == nullptr ? grpc::Status::OK : good_(); !status.ok()) {
      Finish(status);
      return;
    }
    if (absl::Status status = reader_->Read(kPiece, piece_.mutable_data()); !status.ok()) {
      status_ = status;
      Finish({static_cast<grpc::StatusCode>(status.raw_code()), std::string(status.message())});
      return;
    }
    StartWrite(&piece_);
  }

  const std::unique_ptr<BlobStore::Reader> reader_;
  const BlobSent told_;
  const std::function<grpc::Status()> good_;
  v1::GetResponse piece_;
  uint64_t bytes_ = 0;
  absl::Status status_ = absl::CancelledError("the receiver went away");
};

class Answering : public grpc::ServerWriteReactor<v1::GetResponse> {
 public:
  explicit Answering(const grpc::Status& status) { Finish(status); }
  explicit Answering(v1::GetResponse answer) : answer_(std::move(answer)) {
    StartWriteAndFinish(&answer_, {}, grpc::Status::OK);
  }
  void OnDone() override { delete this; }

 private:
  v1::GetResponse answer_;
};

}  // namespace

grpc::ServerWriteReactor<v1::GetResponse>* SendBlob(std::unique_ptr<BlobStore::Reader> reader, BlobSent sent,
                                                    std::function<grpc::Status()> good) {
  return new Sending(std::move(reader), std::move(sent), std::move(good));
}

grpc::ServerWriteReactor<v1::GetResponse>* AnswerGet(v1::GetResponse answer) {
  return new Answering(std::move(answer));
}

grpc::ServerWriteReactor<v1::GetResponse>* RefuseGet(const grpc::Status& status) {
  return new Answering(status);
}

}  // namespace dermis
