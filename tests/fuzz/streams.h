// Streams of a service without a server: a call that says what comes and hears what goes, and does both as gRPC does, never from
// within the reactor's own act.
#ifndef DERMIS_TESTS_FUZZ_STREAMS_H_
#define DERMIS_TESTS_FUZZ_STREAMS_H_

#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/support/server_callback.h"

#include "tests/fuzz/fuzz.h"

namespace dermis {

// A stream of requests. The reactor is over when its status is there, and gone when this is.
template <typename Request>
class FakeReading : public grpc::ServerCallbackReader<Request> {
 public:
  explicit FakeReading(grpc::ServerReadReactor<Request>* reactor) : reactor_(reactor) { this->BindReactor(reactor); }
  ~FakeReading() override {
    while (!status_) Say(std::nullopt);
    reactor_->OnDone();
  }
  // A message; none: there is no more.
  void Say(const std::optional<Request>& message) {
    if (status_) return;
    Require(wanted_ != nullptr, "who is not over reads on");
    Request* const into = std::exchange(wanted_, nullptr);
    if (message) *into = *message;
    reactor_->OnReadDone(message.has_value());
    Require(message || status_, "who hears that there is no more ends");
  }
  const std::optional<grpc::Status>& status() const { return status_; }

  void Finish(grpc::Status status) override { status_ = std::move(status); }
  void SendInitialMetadata() override {}
  void Read(Request* message) override { wanted_ = message; }

 private:
  grpc::internal::ServerReactor* reactor() override { return reactor_; }
  void CallOnDone() override {}

  grpc::ServerReadReactor<Request>* const reactor_;
  Request* wanted_ = nullptr;
  std::optional<grpc::Status> status_;
};

// A stream of responses, which may come from any thread. As above.
template <typename Response>
class FakeWriting : public grpc::ServerCallbackWriter<Response> {
 public:
  explicit FakeWriting(grpc::ServerWriteReactor<Response>* reactor) : reactor_(reactor) { this->BindReactor(reactor); }
  ~FakeWriting() override {
    if (!status_) reactor_->OnCancel();
    while (!status_) Hear();
    reactor_->OnDone();
  }
  // The next response; none: it is over.
  std::optional<Response> Hear() {
    std::optional<Response> heard;
    {
      absl::MutexLock lock(&mutex_);
      const auto moved = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return written_ != nullptr || finished_; };
      Require(mutex_.AwaitWithTimeout(absl::Condition(&moved), absl::Seconds(60)), "each stream goes on or ends");
      if (written_ == nullptr) {
        status_ = finished_;
        return std::nullopt;
      }
      heard = *std::exchange(written_, nullptr);
      if (finished_) status_ = finished_;  // It came with the last one.
    }
    if (!status_) reactor_->OnWriteDone(true);
    return heard;
  }
  const std::optional<grpc::Status>& status() const { return status_; }

  void Finish(grpc::Status status) override {
    absl::MutexLock lock(&mutex_);
    finished_ = std::move(status);
  }
  void SendInitialMetadata() override {}
  void Write(const Response* message, grpc::WriteOptions) override {
    absl::MutexLock lock(&mutex_);
    Require(written_ == nullptr, "one write at a time");
    written_ = message;
  }
  void WriteAndFinish(const Response* message, grpc::WriteOptions, grpc::Status status) override {
    absl::MutexLock lock(&mutex_);
    written_ = message;
    finished_ = std::move(status);
  }

 private:
  grpc::internal::ServerReactor* reactor() override { return reactor_; }
  void CallOnDone() override {}

  grpc::ServerWriteReactor<Response>* const reactor_;
  absl::Mutex mutex_;
  const Response* written_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::optional<grpc::Status> finished_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Status> status_;  // Of who hears.
};

// A stream both ways. Its end may come at any time.
template <typename Request, typename Response>
class FakeExchange : public grpc::ServerCallbackReaderWriter<Request, Response> {
 public:
  explicit FakeExchange(grpc::ServerBidiReactor<Request, Response>* reactor) : reactor_(reactor) {
    this->BindReactor(reactor);
  }
  // The client goes.
  ~FakeExchange() override {
    if (!finished()) reactor_->OnCancel();
    do {
      Say(std::nullopt);
      Hear();
    } while (!finished());
    Say(std::nullopt);
    reactor_->OnDone();
  }
  // A message; none: there is no more. What is not awaited is lost, as what comes after an end.
  void Say(const std::optional<Request>& message) {
    Request* into;
    {
      absl::MutexLock lock(&mutex_);
      into = std::exchange(wanted_, nullptr);
    }
    if (into == nullptr) return;
    if (message) *into = *message;
    reactor_->OnReadDone(message.has_value());
  }
  // Takes what is said.
  void Hear() {
    for (;;) {
      {
        absl::MutexLock lock(&mutex_);
        if (!writes_) return;
        writes_ = false;
      }
      reactor_->OnWriteDone(true);
    }
  }
  bool finished() const {
    absl::MutexLock lock(&mutex_);
    return finished_;
  }

  void Finish(grpc::Status) override {
    absl::MutexLock lock(&mutex_);
    Require(!finished_, "a stream ends once");
    finished_ = true;
  }
  void SendInitialMetadata() override {}
  void Read(Request* message) override {
    absl::MutexLock lock(&mutex_);
    Require(wanted_ == nullptr, "one read at a time");
    wanted_ = message;
  }
  void Write(const Response*, grpc::WriteOptions) override {
    absl::MutexLock lock(&mutex_);
    Require(!writes_ && !finished_, "one write at a time, and none after the end");
    writes_ = true;
  }
  void WriteAndFinish(const Response*, grpc::WriteOptions, grpc::Status status) override {
    Finish(std::move(status));
  }

 private:
  grpc::internal::ServerReactor* reactor() override { return reactor_; }
  void CallOnDone() override {}

  grpc::ServerBidiReactor<Request, Response>* const reactor_;
  mutable absl::Mutex mutex_;
  Request* wanted_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool writes_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace dermis

#endif  // DERMIS_TESTS_FUZZ_STREAMS_H_
