// Calls with one message from their client, which is read by us. gRPC would read it before it tells
// us of the call: one whose message does not come could not be ended. As streams of one message
// ("from the server's point of view, streamed unary is a special case of BIDI_STREAMING",
// service_type.h) they are known from their heads on, and open_streams.h ends those that stand
// still. Clients see no difference.
#ifndef DERMIS_COORDINATOR_SERVICES_AWAITED_CALLS_H_
#define DERMIS_COORDINATOR_SERVICES_AWAITED_CALLS_H_

#include <functional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "google/protobuf/descriptor.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/support/server_callback.h"

#include "coordinator/services/access.h"
#include "coordinator/services/limits.h"

namespace dermis {

// Reads the message, then lets `Reactor` (of a service's method) go on as it does where gRPC has
// read it. `Call` is what that reactor speaks to.
template <typename Request, typename Response, typename Reactor, typename Call>
class AwaitedCall : public grpc::ServerBidiReactor<Request, Response>, protected Call {
 public:
  using Begin = std::function<Reactor*(const Request*, Response*)>;
  using NotCome = std::function<void(const grpc::Status&)>;
  AwaitedCall(Begin begin, NotCome not_come)
      : begin_(std::move(begin)), not_come_(std::move(not_come)) {
    this->StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      const grpc::Status why(
          grpc::StatusCode::INVALID_ARGUMENT,
          absl::StrCat("its message did not come: longer than ", kMostMessageBytes >> 20,
                       " MiB (that is refused), broken off, or too slow"));
      not_come_(why);
      End(why);
      return;
    }
    Reactor* const reactor = begin_(&request_, &response_);
    bool cancelled;
    {
      absl::MutexLock lock(&mutex_);
      reactor_ = reactor;
      cancelled = cancelled_;
    }
    this->BindReactor(reactor);
    if (cancelled) reactor->OnCancel();
  }
  void OnCancel() override {
    Reactor* reactor;
    {
      absl::MutexLock lock(&mutex_);
      cancelled_ = true;
      reactor = reactor_;
    }
    if (reactor != nullptr) reactor->OnCancel();
  }
  void OnDone() override {
    if (reactor_ != nullptr) reactor_->OnDone();
    delete this;
  }

 protected:
  using Stream = grpc::ServerBidiReactor<Request, Response>;
  void End(grpc::Status status) { Stream::Finish(std::move(status)); }
  void SendInitialMetadata() override { this->StartSendInitialMetadata(); }

  Request request_;
  Response response_;
  Reactor* reactor_ = nullptr;  // Written under the mutex, before there is anything to react to.

 private:
  grpc::internal::ServerReactor* reactor() override { return reactor_; }
  void CallOnDone() override {}

  const Begin begin_;
  const NotCome not_come_;
  absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

template <typename Request, typename Response>
class AwaitedUnary final
    : public AwaitedCall<Request, Response, grpc::ServerUnaryReactor, grpc::ServerCallbackUnary> {
  using Base = AwaitedCall<Request, Response, grpc::ServerUnaryReactor, grpc::ServerCallbackUnary>;

 public:
  using Base::Base;

 private:
  void Finish(grpc::Status status) override {
    if (status.ok()) {
      this->StartWriteAndFinish(&this->response_, grpc::WriteOptions(), std::move(status));
    } else {
      this->End(std::move(status));
    }
  }
};

template <typename Request, typename Response>
class AwaitedWrites final
    : public AwaitedCall<Request, Response, grpc::ServerWriteReactor<Response>,
                         grpc::ServerCallbackWriter<Response>> {
  using Base = AwaitedCall<Request, Response, grpc::ServerWriteReactor<Response>,
                           grpc::ServerCallbackWriter<Response>>;

 public:
  using Base::Base;
  void OnWriteDone(bool ok) override { this->reactor_->OnWriteDone(ok); }

 private:
  void Finish(grpc::Status status) override { this->End(std::move(status)); }
  void Write(const Response* message, grpc::WriteOptions options) override {
    this->StartWrite(message, options);
  }
  void WriteAndFinish(const Response* message, grpc::WriteOptions options,
                      grpc::Status status) override {
    this->StartWriteAndFinish(message, options, std::move(status));
  }
};

// A service (v1::Studies, say) of which such calls are awaited: those that its constructor names.
template <typename Api>
class AwaitedCalls : public Api::CallbackService {
 protected:
  // `access` is told of each whose message did not come, but of those that the audit log has
  // anyway.
  explicit AwaitedCalls(const Access& access) : told_(access) {}

  template <typename Service, typename Request, typename Response>
  void Await(const char* name,
             grpc::ServerUnaryReactor* (Service::*method)(grpc::CallbackServerContext*,
                                                          const Request*, Response*)) {
    Mark<Request, Response>(
        name, [this, method, named = FullName(name)](grpc::CallbackServerContext* context) {
          return new AwaitedUnary<Request, Response>(
              [this, method, context](const Request* request, Response* response) {
                return (static_cast<Service*>(this)->*method)(context, request, response);
              },
              [this, named, context](const grpc::Status& why) { Tell(*context, named, why); });
        });
  }
  template <typename Service, typename Request, typename Response>
  void Await(const char* name,
             grpc::ServerWriteReactor<Response>* (Service::*method)(grpc::CallbackServerContext*,
                                                                    const Request*)) {
    Mark<Request, Response>(
        name, [this, method, named = FullName(name)](grpc::CallbackServerContext* context) {
          return new AwaitedWrites<Request, Response>(
              [this, method, context](const Request* request, Response*) {
                return (static_cast<Service*>(this)->*method)(context, request);
              },
              [this, named, context](const grpc::Status& why) { Tell(*context, named, why); });
        });
  }

 private:
  static const google::protobuf::ServiceDescriptor* Described() {
    return google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(
        Api::service_full_name());
  }
  static std::string FullName(const char* method) {
    return absl::StrCat(Described()->name(), "/", method);
  }

  template <typename Request, typename Response>
  void Mark(const char* name,
            std::function<grpc::ServerBidiReactor<Request, Response>*(grpc::CallbackServerContext*)>
                begin) {
    using Handler = grpc::internal::CallbackBidiHandler<Request, Response>;
    const int index = Described()->FindMethodByName(name)->index();
    this->MarkMethodStreamed(index,
                             new Handler(nullptr));  // Now it is a stream; but not one of a thread.
    this->MarkMethodCallback(index, new Handler(std::move(begin)));
  }
  void Tell(const grpc::CallbackServerContext& context, const std::string& method,
            const grpc::Status& why) const {
    if (!Changes(method)) told_.Tell(told_.Caller(context), method, why);
  }

  const Access& told_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_AWAITED_CALLS_H_
