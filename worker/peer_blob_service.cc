#include "worker/peer_blob_service.h"

#include <memory>
#include <string>
#include <utility>

#include "common/blob_sender.h"
#include "common/log.h"
#include "worker/collective/peer_access.h"

namespace dermis {
namespace {

grpc::Status ToGrpc(const absl::Status& status) {
  return {static_cast<grpc::StatusCode>(status.raw_code()), std::string(status.message())};
}

}  // namespace

grpc::ServerWriteReactor<v1::GetResponse>* PeerBlobService::Get(
    grpc::CallbackServerContext* context, const v1::GetRequest* request) {
  if (const grpc::Status access = CheckPeer(*context); !access.ok()) return RefuseGet(access);
  return Answer(*request);
}

grpc::ServerWriteReactor<v1::GetResponse>* PeerBlobService::Answer(const v1::GetRequest& request) {
  const absl::StatusOr<Digest> digest = Digest::FromBytes(request.digest());
  if (!digest.ok()) return RefuseGet(ToGrpc(digest.status()));
  absl::StatusOr<std::unique_ptr<BlobStore::Reader>> reader = store_.NewReader(*digest);
  if (!reader.ok()) return RefuseGet(ToGrpc(reader.status()));
  return SendBlob(*std::move(reader), [](const absl::Status& status, uint64_t) {
    if (absl::IsDataLoss(status)) DERMIS_LOG(kWarning, status.message());
  });
}

}  // namespace dermis
