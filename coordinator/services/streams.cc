#include "coordinator/services/streams.h"

#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/log.h"

namespace dermis {

// Lock order: Streams::mutex_ before Stream::mutex_. gRPC never calls a reaction from within StartWrite or
// Finish on the same stack, so both may be called under the locks.
class Streams::Stream : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::Directive> {
 public:
  Stream(Streams* owner, ConnectionId id, std::string worker, Access::StillGood good, Refused refused)
      : owner_(owner), id_(id), worker_(std::move(worker)), good_(std::move(good)), refused_(std::move(refused)) {}

  void Start() { StartRead(&incoming_); }

  void Queue(const v1::Directive& directive) {
    absl::MutexLock lock(&mutex_);
    if (finished_ || closing_) return;
    if (queue_.size() >= kQueue) {
      closing_ = true;
      why_ = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                          "the worker does not read its directives");
      queue_.resize(1);  // The front may be under way.
    } else {
      queue_.push_back(directive);
    }
    Pump();
  }

  void End(const std::string& why) { End(grpc::Status(grpc::StatusCode::ABORTED, why)); }
  void End(const grpc::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (finished_ || closing_) return;
    closing_ = true;
    why_ = status;
    Pump();
  }

  // False: it ends.
  bool Check() {
    const grpc::Status status = good_();
    if (!status.ok()) End(status);
    return status.ok();
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      if (!heard_)
        refused_({grpc::StatusCode::INVALID_ARGUMENT, "the worker did not say who it is"});
      Post([id = id_](Core& core) { core.WorkerDisconnected(id, "its stream was closed"); });
      absl::MutexLock lock(&mutex_);
      if (!closing_) {
        closing_ = true;
        why_ = grpc::Status::OK;
      }
      // Nobody listens any more; a write that is under way ends before the stream does.
      queue_.resize(writing_ ? 1 : 0);
      Pump();
      return;
    }
    heard_ = true;
    if (!Check()) incoming_.Clear();  // Nothing of it counts.
    switch (incoming_.kind_case()) {
      case v1::WorkerMessage::kRegister:
        if (!worker_.empty() && incoming_.register_().worker() != worker_) {
          const grpc::Status why(grpc::StatusCode::PERMISSION_DENIED,
                                 absl::StrCat("the certificate is worker ", worker_, "'s, the worker calls itself ",
                                              incoming_.register_().worker().substr(0, 64),
                                              ": give each worker its own --certs"));
          refused_(why);
          End(why);
          break;
        }
        Post([id = id_, hello = std::move(*incoming_.mutable_register_())](Core& core) {
          core.WorkerConnected(id, hello);
        });
        break;
      case v1::WorkerMessage::kBeat:
        Post([id = id_, beat = std::move(*incoming_.mutable_beat())](Core& core) {
          core.WorkerBeat(id, beat);
        });
        break;
      case v1::WorkerMessage::kEnded:
        Post([id = id_, ended = std::move(*incoming_.mutable_ended())](Core& core) mutable {
          core.AttemptEnded(id, std::move(ended));
        });
        break;
      case v1::WorkerMessage::KIND_NOT_SET:
        break;  // A newer worker's message; Register settles versions.
    }
    incoming_.Clear();
    StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!queue_.empty()) queue_.pop_front();
    if (ok) {
      Pump();
    } else if (!finished_) {
      finished_ = true;
      Finish(grpc::Status::CANCELLED);
    }
  }

  void OnDone() override {
    owner_->Remove(id_);
    Post([id = id_](Core& core) { core.WorkerDisconnected(id, "its stream ended"); });
    delete this;
  }

 private:
  void Post(CoreThread::Command command) { owner_->core_->Post(std::move(command)); }

  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_ || writing_) return;
    if (!queue_.empty()) {
      writing_ = true;
      StartWrite(&queue_.front());
    } else if (closing_) {
      finished_ = true;
      Finish(why_);
    }
  }

  Streams* const owner_;
  const ConnectionId id_;
  const std::string worker_;
  const Access::StillGood good_;
  const Refused refused_;
  v1::WorkerMessage incoming_;
  bool heard_ = false;
  absl::Mutex mutex_;
  std::deque<v1::Directive> queue_ ABSL_GUARDED_BY(mutex_);  // Front: under way while writing_.
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status why_ ABSL_GUARDED_BY(mutex_);
};

void Streams::SetCore(CoreThread* core) { core_ = core; }

void Streams::Send(ConnectionId connection, const v1::Directive& directive) {
  absl::MutexLock lock(&mutex_);
  const auto it = streams_.find(connection);
  if (it != streams_.end()) it->second->Queue(directive);
}

void Streams::Close(ConnectionId connection, const std::string& why) {
  absl::MutexLock lock(&mutex_);
  const auto it = streams_.find(connection);
  if (it != streams_.end()) it->second->End(why);
}

void Streams::CloseAll(const std::string& why) {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  for (const auto& [id, stream] : streams_) stream->End(why);
}

void Streams::CheckAll() {
  absl::MutexLock lock(&mutex_);
  for (const auto& [id, stream] : streams_) stream->Check();
}

grpc::ServerBidiReactor<v1::WorkerMessage, v1::Directive>* Streams::NewStream(std::string worker,
                                                                              Access::StillGood good,
                                                                              Refused refused) {
  absl::MutexLock lock(&mutex_);
  auto* stream = new Stream(this, ++last_, std::move(worker), std::move(good), std::move(refused));
  streams_[last_] = stream;
  stream->Start();
  if (closed_) stream->End("the coordinator stops");
  return stream;
}

void Streams::Remove(ConnectionId connection) {
  absl::MutexLock lock(&mutex_);
  streams_.erase(connection);
}

}  // namespace dermis
