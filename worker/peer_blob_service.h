// Service Blobs of a worker: Get, from its cache, for other workers only. The other methods are not
// implemented here.
#ifndef DERMIS_WORKER_PEER_BLOB_SERVICE_H_
#define DERMIS_WORKER_PEER_BLOB_SERVICE_H_

#include "common/blob_store.h"
#include "dermis/v1/blobs.grpc.pb.h"

namespace dermis {

class PeerBlobService : public v1::Blobs::CallbackService {
 public:
  explicit PeerBlobService(BlobStore& store) : store_(store) {}  // Outlives the server.
  grpc::ServerWriteReactor<v1::GetResponse>* Get(grpc::CallbackServerContext* context,
                                                 const v1::GetRequest* request) override;
  // To a caller who may.
  grpc::ServerWriteReactor<v1::GetResponse>* Answer(const v1::GetRequest& request);

 private:
  BlobStore& store_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_PEER_BLOB_SERVICE_H_
