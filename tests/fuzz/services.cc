// The bytes of the calls that services answer themselves (blobs, joining, results, the audit log),
// streams among them, by the services' own functions without a server: each is answered, whatever comes, and a replay
// of the journal gives the state that there was.
#include <cstdlib>
#include <filesystem>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "grpcpp/test/default_reactor_test_peer.h"

#include "common/blob_store.h"
#include "common/certificates.h"
#include "common/log.h"
#include "coordinator/core.h"
#include "coordinator/core_thread.h"
#include "coordinator/services/audit_service.h"
#include "coordinator/services/blob_service.h"
#include "coordinator/services/cluster_service.h"
#include "coordinator/services/join_service.h"
#include "coordinator/services/study_service.h"
#include "tests/fuzz/calls.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/streams.h"
#include "tests/simulation/fakes.h"

namespace dermis {
namespace {

// What no call changes: made once, its folder is gone at the end.
struct Place {
  Place() {
    Require(MakeClusterCertificates(folder, {}).ok(), "there are certificates");
    authority = *CertificateAuthority::Load(folder);
    identity = *LoadIdentity(folder, "coordinator");
    store = *BlobStore::Open(folder + "/blobs", {});
    audit = *AuditLog::Open(folder + "/audit.jsonl", Clock::Real());
    audit->Record({"ann", "user", "Studies/Submit", "study", "OK"});
  }
  ~Place() { std::filesystem::remove_all(folder); }

  static std::string MakeFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "dermis-fuzz-XXXXXX").string();
    return mkdtemp(name.data());
  }
  const std::string folder = MakeFolder();
  std::unique_ptr<CertificateAuthority> authority;
  Identity identity;
  std::unique_ptr<BlobStore> store;
  std::unique_ptr<AuditLog> audit;
};

class Services {
 public:
  explicit Services(Place& place)
      : place_(place),
        joins_(access_, *thread_,
               {.authority = place.authority.get(), .listen = "", .revoked = nullptr}),
        blobs_(access_, *place.store, holders_, [](const Digest&, const absl::Status&) {}, {}),
        audits_(access_, *place.audit, place.identity) {
    streams_.SetCore(thread_.get());
  }

  void Take(ServiceCall call, const std::string& bytes);

  void End() {
    upload_.reset();
    worker_.reset();
    thread_->Stop();  // As the coordinator ends: a look at what is watched may wait there still.
    watches_.reset();
    for (const Digest& blob : stored_) Require(place_.store->Remove(blob).ok(), "what was stored is there");
    const std::string before = core_->Dump();
    MemoryJournal journal(disk_);
    Core again(clock_, journal, outbox_, fake_blobs_, Core::Options());
    Require(again.Open().ok(), "a journal that the core wrote can be replayed");
    Require(again.Dump() == before, "a replay gives the same state");
  }

 private:
  std::unique_ptr<Core> OpenCore() {
    auto core = std::make_unique<Core>(clock_, journal_, streams_, fake_blobs_, Core::Options());
    Require(core->Open().ok(), "an empty journal can be opened");
    return core;
  }

  // What outlives the call until the thread has ended: whoever answers still holds the context
  // then.
  template <typename Request, typename Response>
  struct Held {
    Request request;
    Response response;
    grpc::CallbackServerContext context;
    grpc::Status status;
    absl::Notification answered;
  };
  template <typename Response, typename Service, typename Request>
  std::shared_ptr<Held<Request, Response>> Ask(
      Service& service,
      grpc::ServerUnaryReactor* (Service::*method)(grpc::CallbackServerContext*, const Request*,
                                                   Response*),
      Request request) {
    auto held = std::make_shared<Held<Request, Response>>();
    held_.push_back(held);
    held->request = std::move(request);
    grpc::testing::DefaultReactorTestPeer peer(&held->context,
                                               [call = held.get()](const grpc::Status& status) {
                                                 call->status = status;
                                                 call->answered.Notify();
                                               });
    (service.*method)(&held->context, &held->request, &held->response);
    Require(held->answered.WaitForNotificationWithTimeout(absl::Seconds(60)),
            "each call is answered");
    return held;
  }

  void Put(std::optional<v1::PutRequest> piece);
  void Get(v1::GetRequest request);
  void Watch(const v1::WatchRequest& request);
  void Attend(std::optional<v1::WorkerMessage> message);
  void Submit();

  Place& place_;
  FakeClock clock_;
  FakeDisk disk_;
  MemoryJournal journal_{disk_};
  FakeBlobs fake_blobs_;
  RecordingOutbox outbox_;
  Streams streams_;
  Access access_{/*insecure=*/true};
  BlobHolders holders_{clock_};
  std::list<std::shared_ptr<void>> held_;
  std::string newest_;  // Token's number.
  std::unique_ptr<Core> core_ = OpenCore();
  std::unique_ptr<CoreThread> thread_ = std::make_unique<CoreThread>(
      *core_, [](const absl::Status&) { Require(false, "what happened is stored"); });
  JoinService joins_;
  BlobService blobs_;
  AuditService audits_;
  ClusterService cluster_{access_, *thread_, streams_, fake_blobs_, journal_};
  std::unique_ptr<Watches> watches_ = std::make_unique<Watches>(*thread_, absl::Milliseconds(1));
  StudyService studies_{access_, *thread_, fake_blobs_, *watches_, journal_};
  grpc::CallbackServerContext put_context_;
  v1::PutResponse put_response_;
  std::unique_ptr<FakeReading<v1::PutRequest>> upload_;  // That is open.
  std::optional<Digest> announced_;                      // By its first piece.
  std::unique_ptr<FakeExchange<v1::WorkerMessage, v1::Directive>> worker_;  // Whose stream is open.
  bool submitted_ = false;
  std::set<Digest> stored_;                              // By this input: Place's store is one for all.
  Digest last_;
};

void Services::Put(std::optional<v1::PutRequest> piece) {
  if (upload_ == nullptr) {
    upload_ = std::make_unique<FakeReading<v1::PutRequest>>(blobs_.Put(&put_context_, &put_response_));
    announced_.reset();
    if (piece) {
      if (const absl::StatusOr<Digest> digest = Digest::FromBytes(piece->digest()); digest.ok()) announced_ = *digest;
    }
  }
  upload_->Say(piece);
  if (!upload_->status()) return;
  if (upload_->status()->ok()) {
    Require(announced_ && place_.store->Get(*announced_).ok(), "what was taken is there, with the bytes of its digest");
    stored_.insert(*announced_);
    last_ = *announced_;
  }
  upload_.reset();
}

void Services::Get(v1::GetRequest request) {
  if (request.digest().empty()) request.set_digest(last_.bytes());
  grpc::CallbackServerContext context;
  FakeWriting<v1::GetResponse> answer(blobs_.Get(&context, &request));
  std::string bytes;
  bool instead = false;  // Of the bytes: whom to ask, or to wait.
  while (const std::optional<v1::GetResponse> piece = answer.Hear()) {
    bytes += piece->data();
    instead = instead || piece->has_ask() || piece->wait();
  }
  Require(instead || !answer.status()->ok() || Sha256Of(bytes).bytes() == request.digest(), "what is sent has its digest");
}

void Services::Submit() {
  Submission submission;
  submission.spec = *FakeSpec("s", 2, 0, "");
  submission.manifest = FakeManifest(60);
  submission.image_set = *Digest::FromBytes(PutSet(fake_blobs_, *submission.manifest));
  thread_->Post([submission](Core& core) {
    core.Submit(submission, [](const absl::StatusOr<v1::SubmitResponse>& answer) {
      Require(answer.ok(), "the study is taken");
    });
  });
}

void Services::Attend(std::optional<v1::WorkerMessage> message) {
  if (worker_ == nullptr) {
    worker_ = std::make_unique<FakeExchange<v1::WorkerMessage, v1::Directive>>(streams_.NewStream(
        "", [] { return grpc::Status::OK; }, [](const grpc::Status&) {}));
  }
  worker_->Say(message);
  worker_->Hear();
  if (!message || worker_->finished()) worker_.reset();
}

void Services::Watch(const v1::WatchRequest& request) {
  if (!std::exchange(submitted_, true)) Submit();
  grpc::CallbackServerContext context;
  FakeWriting<v1::StudyStatus> watch(studies_.Watch(&context, &request));
  const std::optional<v1::StudyStatus> state = watch.Hear();
  Require(state ? state->id() == request.id() : watch.status()->error_code() == grpc::StatusCode::NOT_FOUND,
          "who watches hears of that study, or that there is none");
}

void Services::Take(ServiceCall call, const std::string& bytes) {
  const auto parsed = [&](auto message) {
    message.Clear();
    if (!message.ParseFromString(bytes)) message.Clear();
    return message;
  };
  switch (call) {
    case ServiceCall::kSign: {
      v1::SignRequest request = parsed(v1::SignRequest());
      if (request.token().empty()) request.set_token(newest_);
      const auto held = Ask<v1::SignResponse>(joins_, &JoinService::Sign, request);
      if (!held->status.ok()) break;
      const absl::StatusOr<Bearer> bearer = BearerOf(held->response.certificate());
      Require(bearer.ok() && bearer->role == "worker" && bearer->name == request.name() &&
                  !bearer->ready_made(),
              "who joins is a worker, under the name that was asked for");
      break;
    }
    case ServiceCall::kRenew: {
      const auto held =
          Ask<v1::SignResponse>(joins_, &JoinService::Renew, parsed(v1::RenewRequest()));
      Require(!held->status.ok(), "who shows no certificate renews none");
      break;
    }
    case ServiceCall::kCreateToken: {
      const auto held = Ask<v1::CreateTokenResponse>(joins_, &JoinService::CreateToken,
                                                     parsed(v1::CreateTokenRequest()));
      if (held->status.ok()) newest_ = held->response.token().id();
      break;
    }
    case ServiceCall::kListJoins:
      Require(Ask<v1::ListJoinsResponse>(joins_, &JoinService::List, parsed(v1::ListJoinsRequest()))
                  ->status.ok(),
              "what there is can be listed");
      break;
    case ServiceCall::kRevokeToken: {
      v1::RevokeTokenRequest request = parsed(v1::RevokeTokenRequest());
      if (request.token().empty()) request.set_token(newest_);
      Ask<v1::RevokeResponse>(joins_, &JoinService::RevokeToken, request);
      break;
    }
    case ServiceCall::kRevoke:
      Ask<v1::RevokeResponse>(joins_, &JoinService::Revoke, parsed(v1::RevokeRequest()));
      break;
    case ServiceCall::kHas: {
      const auto held = Ask<v1::HasResponse>(blobs_, &BlobService::Has, parsed(v1::HasRequest()));
      Require(!held->status.ok() || held->response.present_size() == held->request.digests_size(),
              "one answer each");
      break;
    }
    case ServiceCall::kHolding:
      Ask<v1::HoldingResponse>(blobs_, &BlobService::Holding, parsed(v1::HoldingRequest()));
      break;
    case ServiceCall::kFetch: {
      const auto held = Ask<v1::FetchResultsResponse>(cluster_, &ClusterService::FetchResults,
                                                      parsed(v1::FetchResultsRequest()));
      Require(!held->status.ok() || held->response.results_size() == held->request.tasks_size(),
              "one answer each");
      break;
    }
    case ServiceCall::kAuditHead:
      Require(Ask<v1::SignedAuditHead>(audits_, &AuditService::Head, parsed(v1::AuditHeadRequest()))
                      ->response.entries() == 1,
              "the head is the log's");
      break;
    case ServiceCall::kAuditRead:
      Ask<v1::AuditReadResponse>(audits_, &AuditService::Read, parsed(v1::AuditReadRequest()));
      break;
    case ServiceCall::kPut:
      Put(parsed(v1::PutRequest()));
      break;
    case ServiceCall::kPutEnd:
      Put(std::nullopt);
      break;
    case ServiceCall::kGet:
      Get(parsed(v1::GetRequest()));
      break;
    case ServiceCall::kWatch:
      Watch(parsed(v1::WatchRequest()));
      break;
    case ServiceCall::kAttend:
      Attend(parsed(v1::WorkerMessage()));
      break;
    case ServiceCall::kAttendEnd:
      Attend(std::nullopt);
      break;
    case ServiceCall::kCount:
      break;
  }
}

}  // namespace
}  // namespace dermis

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using dermis::ServiceCall;
  dermis::Hush();
  dermis::SetLogLevel(static_cast<dermis::LogLevel>(4));  // Not a word.
  static dermis::Place place;
  dermis::Services services(place);
  dermis::ForEachCall<ServiceCall>(
      data, size, [&](ServiceCall call, const std::string& bytes) { services.Take(call, bytes); });
  services.End();
  return 0;
}
