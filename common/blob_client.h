// Blobs over gRPC: the client side of service Blobs.
#ifndef DERMIS_COMMON_BLOB_CLIENT_H_
#define DERMIS_COMMON_BLOB_CLIENT_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "grpcpp/support/status.h"

#include "common/blob_store.h"
#include "common/digest.h"
#include "dermis/v1/blobs.pb.h"

namespace dermis {

// From this size on workers get blobs from each other.
inline constexpr uint64_t kLargeBlob = 1 << 20;

// Thread-safe. Every call is bounded in time and is retried while the server is away, up to
// `patience`; one that brings bytes is over when none has come for `stall`.
class BlobClient {
 public:
  explicit BlobClient(std::shared_ptr<grpc::Channel> channel,
                      absl::Duration patience = absl::Minutes(2),
                      absl::Duration stall = absl::Seconds(30));
  absl::StatusOr<std::vector<bool>> Has(const std::vector<Digest>& digests);
  absl::Status Put(const Digest& digest, std::string_view bytes);   // Nothing is sent when it is there.
  absl::StatusOr<std::string> Get(const Digest& digest);            // Verified.

  // What the coordinator answers a worker: bytes, verified; or what to do instead.
  struct Answer {
    std::string bytes;
    std::optional<v1::BlobPeer> ask;
    bool wait = false;
  };
  absl::StatusOr<Answer> Ask(const v1::GetRequest& request);
  absl::Status Holding(const v1::HoldingRequest& request);  // Tried once.

 private:
  absl::Status TryGet(const v1::GetRequest& request, Answer* answer);

  std::shared_ptr<grpc::Channel> channel_;
  absl::Duration patience_, stall_;
};

// gRPC status -> absl status, with `what` put before the message.
absl::Status ToAbsl(const grpc::Status& status, std::string_view what);

}  // namespace dermis

#endif  // DERMIS_COMMON_BLOB_CLIENT_H_
