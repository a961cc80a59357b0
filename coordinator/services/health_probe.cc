#include "coordinator/services/health_probe.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"

#include "common/tls.h"

namespace dermis {

absl::Status ProbeHealth(const std::string& address,
                         std::shared_ptr<grpc::ChannelCredentials> credentials,
                         absl::Duration patience) {
  grpc::GenericStub stub(MakeChannel(address, std::move(credentials), kCoordinatorName));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(patience));
  context.set_wait_for_ready(true);  // It may be about to listen.
  grpc::CompletionQueue queue;
  const grpc::Slice nothing;  // HealthCheckRequest{}: every service.
  const grpc::ByteBuffer request(&nothing, 1);
  const auto call =
      stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) {
    return absl::UnavailableError(
        absl::StrCat("the coordinator ", address, " does not answer: ", status.error_message()));
  }
  grpc::Slice bytes;
  // HealthCheckResponse{status: SERVING}.
  if (!response.DumpToSingleSlice(&bytes).ok() ||
      std::string(reinterpret_cast<const char*>(bytes.begin()), bytes.size()) != "\x08\x01") {
    return absl::UnavailableError(
        absl::StrCat("the coordinator ", address, " does not serve yet, or any more"));
  }
  return absl::OkStatus();
}

}  // namespace dermis
