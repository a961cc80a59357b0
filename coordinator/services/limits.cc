#include "coordinator/services/limits.h"

#include <cstddef>

#include "grpcpp/resource_quota.h"

namespace dermis {
namespace {

constexpr size_t kCallMemory = size_t{2} << 30;  // Of all messages that are being received.
constexpr int kStreamsOfAConnection = 256;
constexpr int kIdleConnectionMs = 600'000;  // Without any call; clients connect anew by themselves.

}  // namespace

void SetLimits(grpc::ServerBuilder& builder, absl::Duration handshake) {
  builder.SetMaxReceiveMessageSize(kMostMessageBytes);
  builder.SetMaxSendMessageSize(-1);  // Results go out in one message however many there are.
  // Anyone may begin a call of Join: what is under way is bounded before it is read.
  grpc::ResourceQuota memory("calls");
  memory.Resize(kCallMemory);
  builder.SetResourceQuota(memory);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsOfAConnection);
  // Clients ping (common/tls.h): that is no abuse. Our own pings find dead ones.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleConnectionMs);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, static_cast<int>(absl::ToInt64Milliseconds(handshake)));
}

}  // namespace dermis
