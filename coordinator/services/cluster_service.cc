#include "coordinator/services/cluster_service.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace dermis {
namespace {

constexpr int kMaxCompletions = 10'000;
constexpr int kMaxResults = 65'536;
constexpr size_t kMaxResponse = 48 << 20;  // Below the channels' message limit.

// A stream that is refused.
class Refusal : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::Directive> {
 public:
  explicit Refusal(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

}  // namespace

grpc::ServerBidiReactor<v1::WorkerMessage, v1::Directive>* ClusterService::Attend(
    grpc::CallbackServerContext* context) {
  const grpc::Status status = access_.Check(*context, "Cluster/Attend");
  if (!status.ok()) return new Refusal(status);
  const Bearer who = access_.Who(*context);
  return streams_.NewStream(who.ready_made() ? "" : who.name, access_.WhileOpen(*context),
                            [this, caller = access_.Caller(*context)](const grpc::Status& why) {
                              access_.Tell(caller, "Cluster/Attend", why);
                            });
}

grpc::ServerUnaryReactor* ClusterService::CompleteTasks(grpc::CallbackServerContext* context,
                                                        const v1::CompleteTasksRequest* request,
                                                        v1::CompleteTasksResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  grpc::Status status = access_.Check(*context, "Cluster/CompleteTasks");
  if (status.ok() && request->completions_size() > kMaxCompletions) {
    status = grpc::Status(grpc::StatusCode::INVALID_ARGUMENT,
                          absl::StrCat("more than ", kMaxCompletions, " completions at once"));
  }
  // Who computed what decides whom spot checks believe.
  if (const Bearer who = access_.Who(*context); status.ok() && !who.ready_made()) {
    for (const v1::Completion& completion : request->completions()) {
      if (completion.attempt().worker() == who.name) continue;
      status = grpc::Status(grpc::StatusCode::PERMISSION_DENIED,
                            absl::StrCat("the certificate of ", who.name, " speaks for that worker alone, not for '",
                                         completion.attempt().worker().substr(0, 64), "'"));
      access_.Tell(access_.Caller(*context), "Cluster/CompleteTasks", status);
      break;
    }
  }
  if (!status.ok()) {
    reactor->Finish(status);
    return reactor;
  }
  std::vector<CheckedCompletion> checked;
  checked.reserve(request->completions_size());
  for (const v1::Completion& completion : request->completions()) {
    checked.push_back(CheckCompletion(completion, blobs_));
  }
  core_.Post([checked = std::move(checked), response, reactor](Core& core) mutable {
    core.CompleteTasks(std::move(checked), [response, reactor](const v1::CompleteTasksResponse& r) {
      *response = r;
      reactor->Finish(grpc::Status::OK);
    });
  });
  return reactor;
}

grpc::ServerUnaryReactor* ClusterService::FetchResults(grpc::CallbackServerContext* context,
                                                       const v1::FetchResultsRequest* request,
                                                       v1::FetchResultsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  grpc::Status status = access_.Check(*context, "Cluster/FetchResults");
  if (status.ok() && request->tasks_size() > kMaxResults) {
    status = grpc::Status(grpc::StatusCode::INVALID_ARGUMENT,
                          absl::StrCat("more than ", kMaxResults, " results at once"));
  }
  size_t bytes = 0;
  for (int i = 0; status.ok() && i < request->tasks_size(); ++i) {
    v1::TaskResult& out = *response->add_results();
    const absl::StatusOr<Digest> task = Digest::FromBytes(request->tasks(i));
    if (!task.ok()) {
      status = ToGrpc(task.status());
      break;
    }
    // Straight from the journal: what is there is durable, and the core thread is not held up.
    absl::StatusOr<v1::TaskResult> result = journal_.ReadResult(*task);
    if (result.ok()) {
      out = *std::move(result);
      bytes += out.ByteSizeLong();
      if (bytes > kMaxResponse) {
        status = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                              "the results are too large for one answer: ask for fewer");
      }
    } else if (!absl::IsNotFound(result.status())) {
      status = ToGrpc(result.status());
    }
  }
  reactor->Finish(status);
  return reactor;
}

}  // namespace dermis
