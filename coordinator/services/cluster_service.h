// Service Cluster: workers <-> core.
#ifndef DERMIS_COORDINATOR_SERVICES_CLUSTER_SERVICE_H_
#define DERMIS_COORDINATOR_SERVICES_CLUSTER_SERVICE_H_

#include "coordinator/blob_index.h"
#include "coordinator/core_thread.h"
#include "coordinator/journal.h"
#include "coordinator/services/access.h"
#include "coordinator/services/awaited_calls.h"
#include "coordinator/services/streams.h"
#include "dermis/v1/cluster.grpc.pb.h"

namespace dermis {

// All arguments outlive the server.
class ClusterService : public AwaitedCalls<v1::Cluster> {
 public:
  ClusterService(const Access& access, CoreThread& core, Streams& streams, const BlobIndex& blobs,
                 const Journal& journal)
      : AwaitedCalls(access),
        access_(access),
        core_(core),
        streams_(streams),
        blobs_(blobs),
        journal_(journal) {
    Await("CompleteTasks", &ClusterService::CompleteTasks);
    Await("FetchResults", &ClusterService::FetchResults);
  }

  grpc::ServerBidiReactor<v1::WorkerMessage, v1::Directive>* Attend(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* CompleteTasks(grpc::CallbackServerContext* context,
                                          const v1::CompleteTasksRequest* request,
                                          v1::CompleteTasksResponse* response) override;
  grpc::ServerUnaryReactor* FetchResults(grpc::CallbackServerContext* context,
                                         const v1::FetchResultsRequest* request,
                                         v1::FetchResultsResponse* response) override;

 private:
  const Access& access_;
  CoreThread& core_;
  Streams& streams_;
  const BlobIndex& blobs_;
  const Journal& journal_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_CLUSTER_SERVICE_H_
