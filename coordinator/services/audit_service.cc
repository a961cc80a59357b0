#include "coordinator/services/audit_service.h"

#include <string>
#include <string_view>
#include <utility>

#include "common/join_token.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

constexpr uint64_t kPage = 1 << 20;
constexpr size_t kMostText = 200;  // Of what comes from outside.

// A whole token may stand in the place of its number: its secret is for no log.
std::string Bounded(const std::string& text) { return WithoutJoinToken(text).substr(0, kMostText); }

// What a request is about: the study that is submitted, or the first of these that is named.
std::string WhatOf(const google::protobuf::Message& request) {
  const google::protobuf::Descriptor& type = *request.GetDescriptor();
  const google::protobuf::Reflection& reflection = *request.GetReflection();
  if (const auto* spec = type.FindFieldByName("spec");
      spec != nullptr && spec->message_type() != nullptr) {
    return WhatOf(reflection.GetMessage(request, spec));
  }
  for (const char* name : {"id", "name", "worker", "token", "certificate", "group"}) {
    const auto* field = type.FindFieldByName(name);
    if (field == nullptr || field->is_repeated() ||
        field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_STRING) {
      continue;
    }
    const std::string value = reflection.GetString(request, field);
    if (!value.empty()) return Bounded(value);
  }
  return "";
}

std::string OutcomeOf(const grpc::Status& status) {
  return status.ok() ? "OK" : Bounded(status.error_message());
}

class AuditedCall : public grpc::experimental::Interceptor {
 public:
  AuditedCall(const Access& access, AuditLog& log, grpc::experimental::ServerRpcInfo& call,
              std::string_view method)
      : access_(access), log_(log), call_(call) {
    entry_.call = std::string(method);
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* step) override {
    using Hook = grpc::experimental::InterceptionHookPoints;
    if (step->QueryInterceptionHookPoint(Hook::POST_RECV_MESSAGE)) {
      // Audited calls have one request, and it is protobuf's.
      if (const void* request = step->GetRecvMessage(); request != nullptr) {
        const auto& message = *static_cast<const google::protobuf::Message*>(request);
        entry_.what = WhatOf(message);
        const auto* dry = message.GetDescriptor()->FindFieldByName("dry_run");
        if (dry != nullptr && message.GetReflection()->GetBool(message, dry)) entry_.what += " (dry run)";
      }
    }
    if (step->QueryInterceptionHookPoint(Hook::PRE_SEND_STATUS)) {
      const AuditCaller caller = access_.Caller(*call_.server_context());
      entry_.who = caller.name;
      entry_.role = caller.role;
      entry_.outcome = OutcomeOf(step->GetSendStatus());
      log_.Record(entry_);
    }
    step->Proceed();
  }

 private:
  const Access& access_;
  AuditLog& log_;
  grpc::experimental::ServerRpcInfo& call_;
  AuditEntry entry_;
};

class Factory : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  Factory(const Access& access, AuditLog& log) : access_(access), log_(log) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* call) override {
    const std::string_view method = MethodOf(call->method());
    return Changes(method) ? new AuditedCall(access_, log_, *call, method) : nullptr;
  }

 private:
  const Access& access_;
  AuditLog& log_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> AuditCalls(
    const Access& access, AuditLog& log) {
  return std::make_unique<Factory>(access, log);
}

grpc::ServerUnaryReactor* AuditService::Head(grpc::CallbackServerContext* context,
                                             const v1::AuditHeadRequest*,
                                             v1::SignedAuditHead* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  grpc::Status status = access_.Check(*context, "Audit/Head");
  if (status.ok()) {
    const AuditHead head = log_.Head();
    response->set_entries(head.entries);
    response->set_last(head.last.bytes());
    if (!identity_.key.empty()) {
      const absl::StatusOr<std::string> signature = SignatureOf(head);
      status = ToGrpc(signature.status());
      if (signature.ok()) {
        response->set_signature(*signature);
        response->set_certificate(identity_.certificate);
      }
    }
  }
  reactor->Finish(status);
  return reactor;
}

absl::StatusOr<std::string> AuditService::SignatureOf(const AuditHead& head) {
  absl::MutexLock lock(&mutex_);
  if (signature_.empty() || signed_.entries != head.entries || signed_.last != head.last) {
    ASSIGN_OR_RETURN(signature_, SignText(identity_.key, AuditStatement(head)));
    signed_ = head;
  }
  return signature_;
}

grpc::ServerUnaryReactor* AuditService::Read(grpc::CallbackServerContext* context,
                                             const v1::AuditReadRequest* request,
                                             v1::AuditReadResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  grpc::Status status = access_.Check(*context, "Audit/Read");
  if (status.ok()) {
    absl::StatusOr<std::string> lines = log_.Read(request->offset(), kPage);
    status = ToGrpc(lines.status());
    if (lines.ok()) response->set_lines(*std::move(lines));
  }
  reactor->Finish(status);
  return reactor;
}

}  // namespace dermis
