#include "coordinator/services/limits.h"

#include <cstddef>

#include "grpcpp/resource_quota.h"

namespace dermis {
namespace {

constexpr size_t kCallMemory = size_t{2} << 30;  // Of all messages that are being received.
constexpr int kStreamsOfAConnection = 256;

}  // namespace

void SetLimits(grpc::ServerBuilder& builder) {
  // Nothing that is sent here is larger; results go out in one message however many there are.
  builder.SetMaxReceiveMessageSize(16 << 20);
  builder.SetMaxSendMessageSize(-1);
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
  // Who connects and says nothing: enough for all workers of a large cluster that come back at once.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 30'000);
}

}  // namespace dermis
