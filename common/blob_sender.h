// A server's answer to Blobs.Get with bytes: in pieces, in bounded memory. Of the coordinator and
// of workers that serve their caches.
#ifndef DERMIS_COMMON_BLOB_SENDER_H_
#define DERMIS_COMMON_BLOB_SENDER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"

#include "common/blob_store.h"
#include "dermis/v1/blobs.pb.h"

namespace dermis {

// Told once, when all is over: how it ended (CANCELLED: the receiver went away) and what was sent.
using BlobSent = std::function<void(const absl::Status& status, uint64_t bytes)>;

// The store behind `reader` outlives the call. `good`: whether the receiver may still go on; asked before each piece.
grpc::ServerWriteReactor<v1::GetResponse>* SendBlob(std::unique_ptr<BlobStore::Reader> reader, BlobSent sent,
                                                    std::function<grpc::Status()> good = nullptr);

// An answer of one message, or none but a status.
grpc::ServerWriteReactor<v1::GetResponse>* AnswerGet(v1::GetResponse answer);
grpc::ServerWriteReactor<v1::GetResponse>* RefuseGet(const grpc::Status& status);

}  // namespace dermis

#endif  // DERMIS_COMMON_BLOB_SENDER_H_
