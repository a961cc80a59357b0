#include "coordinator/services/open_streams.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpc/grpc.h"

namespace dermis {

class OpenStreams::Stream : public grpc::experimental::Interceptor {
 public:
  Stream(OpenStreams& owner, grpc_call* call) : owner_(owner), call_(call) {}
  ~Stream() override { Over(); }

  void Intercept(grpc::experimental::InterceptorBatchMethods* step) override {
    using Hook = grpc::experimental::InterceptionHookPoints;
    if (step->QueryInterceptionHookPoint(Hook::POST_RECV_MESSAGE)) Moved();
    if (step->QueryInterceptionHookPoint(Hook::POST_RECV_CLOSE)) Over();
    step->Proceed();
  }
  grpc_call* call() const { return call_; }  // There as long as this is in open_.

 private:
  void Moved() {
    absl::MutexLock lock(&owner_.mutex_);
    const auto open = owner_.open_.find(this);
    if (open == owner_.open_.end()) return;
    open->second.moved = owner_.clock_.Now();
    open->second.awaited = open->second.upload;
  }
  void Over() {
    absl::MutexLock lock(&owner_.mutex_);
    owner_.open_.erase(this);
  }

  OpenStreams& owner_;
  grpc_call* const call_;
};

class OpenStreams::Factory : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(OpenStreams& owner) : owner_(owner) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    using Type = grpc::experimental::ServerRpcInfo::Type;
    if (info->type() == Type::UNARY) return nullptr;
    auto* stream = new Stream(owner_, info->server_context()->c_call());
    Access::StillGood good = owner_.access_.WhileOpen(*info->server_context());
    const bool upload = info->type() == Type::CLIENT_STREAMING,
               awaited = upload || info->type() == Type::BIDI_STREAMING;
    absl::MutexLock lock(&owner_.mutex_);
    owner_.open_[stream] = {std::move(good), upload, awaited, owner_.clock_.Now()};
    return stream;
  }

 private:
  OpenStreams& owner_;
};

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> OpenStreams::Notes() {
  return std::make_unique<Factory>(*this);
}

void OpenStreams::EndRefused() {
  End([](const Open& open) { return open.good(); });
}

void OpenStreams::EndStalled() {
  End([late = clock_.Now() - patience_, this](const Open& open) {
    if (!open.awaited || open.moved > late) return grpc::Status::OK;
    return grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED,
                        absl::StrCat(open.upload ? "the upload" : "the call",
                                     " brought nothing for ", absl::FormatDuration(patience_),
                                     ": begin it again where the connection is better"));
  });
}

void OpenStreams::End(const std::function<grpc::Status(const Open&)>& verdict) {
  std::vector<std::pair<grpc_call*, grpc::Status>> ended;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [stream, open] : open_) {
      grpc::Status status = verdict(open);
      if (status.ok()) continue;
      grpc_call_ref(stream->call());
      ended.emplace_back(stream->call(), std::move(status));
    }
  }
  // What ends may be told on this very thread: without the lock.
  for (const auto& [call, status] : ended) {
    grpc_call_cancel_with_status(call, static_cast<grpc_status_code>(status.error_code()), status.error_message().c_str(), nullptr);
    grpc_call_unref(call);
  }
}

}  // namespace dermis
