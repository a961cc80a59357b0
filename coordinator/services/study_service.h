// Service Studies: people <-> core.
#ifndef DERMIS_COORDINATOR_SERVICES_STUDY_SERVICE_H_
#define DERMIS_COORDINATOR_SERVICES_STUDY_SERVICE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "coordinator/blob_index.h"
#include "coordinator/core_thread.h"
#include "coordinator/services/access.h"
#include "coordinator/services/awaited_calls.h"
#include "dermis/v1/studies.grpc.pb.h"

namespace dermis {

// The streams of Watch: at most 5 states a second each, the newest one where a client is slow. Thread-safe.
class Watches {
 public:
  explicit Watches(CoreThread& core, absl::Duration period = absl::Milliseconds(200));
  ~Watches();
  // `good`: whether the caller may still go on; asked every period.
  grpc::ServerWriteReactor<v1::StudyStatus>* NewWatch(std::string id, Access::StillGood good);
  void CloseAll(const std::string& why);  // And every later one at once.

 private:
  class Watch;
  void Loop();
  void Look(Core& core);  // On the core thread.
  void Deliver(uint64_t watch, const absl::StatusOr<v1::StudyStatus>& status);
  void Remove(uint64_t watch);

  CoreThread& core_;
  const absl::Duration period_;
  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool looking_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t last_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Watch*> watches_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

// What Submit checks before the core sees it: the spec resolved, the image set parsed and all there.
// INVALID_ARGUMENT; FAILED_PRECONDITION where blobs are absent; RESOURCE_EXHAUSTED on a full disk.
// PERMISSION_DENIED: a model that carries code, where the operator does not allow it.
struct Submission;
absl::StatusOr<Submission> PrepareSubmission(const v1::SubmitRequest& request, const BlobIndex& blobs,
                                             bool allow_torchscript);

// Arguments outlive the server.
class StudyService : public AwaitedCalls<v1::Studies> {
 public:
  // allow_torchscript: studies may bring models that carry code.
  StudyService(const Access& access, CoreThread& core, const BlobIndex& blobs, Watches& watches,
               const Journal& journal, bool allow_torchscript = false)
      : AwaitedCalls(access),
        access_(access),
        core_(core),
        blobs_(blobs),
        watches_(watches),
        journal_(journal),
        allow_torchscript_(allow_torchscript) {
    Await("Submit", &StudyService::Submit);
    Await("Watch", &StudyService::Watch);
    Await("List", &StudyService::List);
    Await("Cancel", &StudyService::Cancel);
    Await("Retry", &StudyService::Retry);
    Await("Results", &StudyService::Results);
    Await("ClusterStatus", &StudyService::ClusterStatus);
    Await("Adjust", &StudyService::Adjust);
    Await("Delete", &StudyService::Delete);
    Await("Quarantine", &StudyService::Quarantine);
    Await("Release", &StudyService::Release);
    Await("History", &StudyService::History);
    Await("Trials", &StudyService::Trials);
  }

  grpc::ServerUnaryReactor* Submit(grpc::CallbackServerContext* context,
                                   const v1::SubmitRequest* request,
                                   v1::SubmitResponse* response) override;
  grpc::ServerWriteReactor<v1::StudyStatus>* Watch(grpc::CallbackServerContext* context,
                                                   const v1::WatchRequest* request) override;
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context, const v1::ListRequest* request,
                                 v1::ListResponse* response) override;
  grpc::ServerUnaryReactor* Cancel(grpc::CallbackServerContext* context,
                                   const v1::StudyRequest* request, v1::StudyStatus* response) override;
  grpc::ServerUnaryReactor* Retry(grpc::CallbackServerContext* context, const v1::StudyRequest* request,
                                  v1::StudyStatus* response) override;
  grpc::ServerUnaryReactor* Results(grpc::CallbackServerContext* context,
                                    const v1::StudyRequest* request,
                                    v1::StudyResults* response) override;
  grpc::ServerUnaryReactor* ClusterStatus(grpc::CallbackServerContext* context,
                                          const v1::ClusterStatusRequest* request,
                                          v1::ClusterStatusResponse* response) override;
  grpc::ServerUnaryReactor* Adjust(grpc::CallbackServerContext* context,
                                   const v1::AdjustRequest* request,
                                   v1::StudyStatus* response) override;
  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context,
                                   const v1::DeleteRequest* request,
                                   v1::DeleteResponse* response) override;
  grpc::ServerUnaryReactor* Quarantine(grpc::CallbackServerContext* context,
                                       const v1::QuarantineRequest* request,
                                       v1::QuarantineResponse* response) override;
  grpc::ServerUnaryReactor* Release(grpc::CallbackServerContext* context,
                                    const v1::ReleaseRequest* request,
                                    v1::ReleaseResponse* response) override;
  grpc::ServerUnaryReactor* History(grpc::CallbackServerContext* context,
                                    const v1::HistoryRequest* request,
                                    v1::HistoryResponse* response) override;
  grpc::ServerUnaryReactor* Trials(grpc::CallbackServerContext* context,
                                   const v1::TrialsRequest* request,
                                   v1::TrialsResponse* response) override;

 private:
  const Access& access_;
  CoreThread& core_;
  const BlobIndex& blobs_;
  Watches& watches_;
  const Journal& journal_;
  const bool allow_torchscript_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_STUDY_SERVICE_H_
