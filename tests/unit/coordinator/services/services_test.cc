// The services over a real gRPC server on loopback, with a real core, journal and blob store in a temporary folder.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <list>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "common/blob_client.h"
#include "common/join_token.h"
#include "common/spec_yaml.h"
#include "common/tasks.h"
#include "common/tls.h"
#include "coordinator/core.h"
#include "coordinator/core_thread.h"
#include "coordinator/services/access.h"
#include "coordinator/services/audit_service.h"
#include "coordinator/services/blob_service.h"
#include "coordinator/services/cluster_service.h"
#include "coordinator/services/failed_handshakes.h"
#include "coordinator/services/health_probe.h"
#include "coordinator/services/join_service.h"
#include "coordinator/services/limits.h"
#include "coordinator/services/open_streams.h"
#include "coordinator/services/question_desk.h"
#include "coordinator/services/question_service.h"
#include "coordinator/services/streams.h"
#include "coordinator/services/study_service.h"
#include "dermis/v1/audit.grpc.pb.h"
#include "dermis/v1/blobs.grpc.pb.h"
#include "dermis/v1/join.grpc.pb.h"
#include "dermis/v1/peer.pb.h"
#include "tests/simulation/fakes.h"
#include "tests/unit/coordinator/loopback_socket.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Who may call what, written out once more: letters of "auw" for admin, user, worker, "*" for whoever has no certificate.
constexpr std::pair<const char*, const char*> kWhoMay[] = {
    {"Audit/Head", "au-"},
    {"Audit/Read", "a--"},
    {"Blobs/Get", "auw"},
    {"Blobs/Has", "auw"},
    {"Blobs/Holding", "--w"},
    {"Blobs/Put", "auw"},
    {"Cluster/Attend", "--w"},
    {"Cluster/CompleteTasks", "--w"},
    {"Cluster/FetchResults", "--w"},
    {"Join/CreateToken", "a--"},
    {"Join/List", "a--"},
    {"Join/Renew", "--w"},
    {"Join/Revoke", "a--"},
    {"Join/RevokeToken", "a--"},
    {"Join/Sign", "---*"},
    {"Questions/Explain", "au-"},
    {"Studies/Adjust", "au-"},
    {"Studies/Cancel", "au-"},
    {"Studies/ClusterStatus", "au-"},
    {"Studies/Delete", "au-"},
    {"Studies/History", "au-"},
    {"Studies/List", "au-"},
    {"Studies/Quarantine", "a--"},
    {"Studies/Release", "a--"},
    {"Studies/Results", "au-"},
    {"Studies/Retry", "au-"},
    {"Studies/Submit", "au-"},
    {"Studies/Trials", "au-"},
    {"Studies/Watch", "au-"},
};

// In the form of the table.
std::string WhoMayCall(const std::string& method) {
  return absl::StrCat(Allowed("admin", method) ? "a" : "-", Allowed("user", method) ? "u" : "-",
                      Allowed("worker", method) ? "w" : "-", NeedsNoCertificate(method) ? "*" : "");
}

// All calls of all protocol files: those in the folder, so that none is missed that this program happens not to need.
std::vector<std::string> AllMethods() {
  EXPECT_NE(v1::PeerHello::descriptor(), nullptr);  // Nothing else here needs this file.
  std::vector<std::string> methods;
  for (const auto& entry : std::filesystem::directory_iterator("proto/dermis/v1")) {
    const std::string name = absl::StrCat("dermis/v1/", entry.path().filename().string());
    const auto* file = google::protobuf::DescriptorPool::generated_pool()->FindFileByName(name);
    EXPECT_NE(file, nullptr) << name << " is not linked into this test: include its header and use one of its messages";
    for (int s = 0; file != nullptr && s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        methods.push_back(absl::StrCat(file->service(s)->name(), "/", file->service(s)->method(m)->name()));
      }
    }
  }
  std::sort(methods.begin(), methods.end());
  return methods;
}

TEST(AccessTest, EachRoleMayWhatTheTableSays_OfEveryRpcThereIs_AndStrangersNothing) {
  std::vector<std::string> written;
  for (const auto& [method, who] : kWhoMay) {
    written.push_back(method);
    EXPECT_EQ(WhoMayCall(method), who) << method;
  }
  const std::vector<std::string> methods = AllMethods();
  EXPECT_THAT(written, testing::ElementsAreArray(methods)) << "each RPC has one line in the table above, sorted";
  for (const std::string& method : methods) {
    for (const char* stranger : {"", "coordinator", "ca", "User", "worker ", "admin,user"}) {
      EXPECT_FALSE(Allowed(stranger, method)) << stranger << " may call " << method;
    }
  }
  for (const char* method : {"", "Studies/NoSuchThing", "studies/List", "Studies/List ", "NoSuchService/List", "Studies/"}) {
    EXPECT_EQ(WhoMayCall(method), "---") << method;
  }
}

// The real clock, and what a test adds to it.
class ShiftedClock : public Clock {
 public:
  absl::Duration Now() const override { return Real().Now() + absl::Milliseconds(ahead_ms.load()); }
  uint64_t UnixMillis() const override { return Real().UnixMillis() + ahead_ms; }
  std::atomic<uint64_t> ahead_ms{0};
};

v1::WorkerMessage HelloOf(const std::string& worker, const std::string& version = kVersion) {
  v1::WorkerMessage hello;
  hello.mutable_register_()->set_worker(worker);
  hello.mutable_register_()->set_incarnation("1");
  hello.mutable_register_()->set_numerics_class("test");
  hello.mutable_register_()->set_software_version(version);
  hello.mutable_register_()->set_threads(1);
  return hello;
}

// A whole coordinator in this process.
class ServicesTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(true); }
  void TearDown() override {
    streams->CloseAll("end");
    watches->CloseAll("end");
    desk->CloseAll("end");
    server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
    thread->Stop();
    server.reset();
    OnFailedHandshake(nullptr);
    watches.reset();
    desk.reset();
    std::filesystem::remove_all(folder);
  }

  void Start(bool insecure) {
    std::string name = (std::filesystem::temp_directory_path() / "dermis-services-XXXXXX").string();
    folder = mkdtemp(name.data());
    journal = *OpenSqliteJournal(folder + "/store");
    store = *BlobStore::Open(folder + "/store/blobs", {});
    uploads = *UserUploads::Open(folder + "/store/uploads", *store, clock, {.quota = quota});
    blobs = std::make_unique<StoredBlobs>(*store, 0, uploads.get());
    streams = std::make_unique<Streams>();
    core = std::make_unique<Core>(Clock::Real(), *journal, *streams, *blobs,
                                  Core::Options{.grace = absl::ZeroDuration()});
    core->OnBrought([this](const std::string& user, const Usage& has, const std::vector<Digest>& named) {
      uploads->Named(user, has, named);
    });
    ASSERT_TRUE(core->Open().ok());
    thread = std::make_unique<CoreThread>(*core, [](const absl::Status& s) { FAIL() << s; });
    streams->SetCore(thread.get());
    access = std::make_unique<Access>(insecure, clock);
    audit = *AuditLog::Open(folder + "/store/audit.jsonl", Clock::Real());
    access->OnRefusal(
        [this](const AuditCaller& caller, std::string_view method, const grpc::Status& why) {
          audit->Record({caller.name, caller.role, std::string(method), "", why.error_message()});
        });
    OnFailedHandshake([this](const std::string& why) {
      absl::MutexLock lock(&mutex);
      handshakes.push_back(why);
    });
    open = std::make_unique<OpenStreams>(*access, clock);
    watches = std::make_unique<Watches>(*thread, absl::Milliseconds(5));
    cluster = std::make_unique<ClusterService>(*access, *thread, *streams, *blobs, *journal);
    studies = std::make_unique<StudyService>(*access, *thread, *blobs, *watches, *journal);
    blob_service =
        std::
            make_unique<BlobService>(
                *access, *store, holders,
                [this](const Digest& blob, const absl::Status& why) {
                  lost = {blob, why};
                },
                BlobService::
                    Quotas{
                        .uploads = uploads.get(),
                        .index = blobs.get(),
                        .unused = [this](const std::vector<Digest>& due) { unused = due; },
                        .refused =
                            [this](const AuditCaller& caller, const absl::Status& why) {
                              audit->Record({caller.name, caller.role, "Blobs/Put", "", std::string(why.message())});
                            }});
    std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
    Identity own;
    if (!insecure) {
      ASSERT_TRUE(MakeClusterCertificates(folder + "/certs", {}).ok());
      own = *LoadIdentity(folder + "/certs", "coordinator");
      credentials = GuardedServerCredentials(own, *access);
      authority = *CertificateAuthority::Load(folder + "/certs");
    }
    joins = std::make_unique<JoinService>(
        *access, *thread,
        JoinService::Options{.authority = authority.get(), .listen = "", .revoked = [this] {
                               streams->CheckAll();
                               open->EndRefused();
                             }});
    audits = std::make_unique<AuditService>(*access, *audit, own);
    desk = std::make_unique<QuestionDesk>(*thread);
    questions = std::make_unique<QuestionService>(*access, *desk);
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
    interceptors.push_back(AuditCalls(*access, *audit));
    interceptors.push_back(open->Notes());
    builder.experimental().SetInterceptorCreators(std::move(interceptors));
    builder.RegisterService(audits.get());
    builder.RegisterService(questions.get());
    builder.AddListeningPort("127.0.0.1:0", credentials, &port);
    builder.RegisterService(cluster.get());
    builder.RegisterService(studies.get());
    builder.RegisterService(joins.get());
    builder.RegisterService(blob_service.get());
    SetLimits(builder, handshake);
    server = builder.BuildAndStart();
    ASSERT_NE(server, nullptr);
    if (insecure) channel = MakeChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials());
  }
  std::shared_ptr<grpc::Channel> ChannelOf(const std::string& role) {
    return MakeChannel(absl::StrCat("127.0.0.1:", port),
                       ClientCredentials(*LoadIdentity(folder + "/certs", role)));
  }

  // Of the audit log.
  int LinesWith(std::string_view text) {
    const std::vector<std::string> lines = absl::StrSplit(*audit->Read(0, 1 << 20), '\n');
    return static_cast<int>(std::count_if(lines.begin(), lines.end(), [&](const std::string& line) {
      return line.find(text) != std::string::npos;
    }));
  }

  ShiftedClock clock;
  std::string folder;
  std::unique_ptr<Journal> journal;
  std::unique_ptr<BlobStore> store;
  UserQuota quota = {.studies = 0, .blobs = 10, .bytes = 10'000'000};
  std::unique_ptr<UserUploads> uploads;
  std::vector<Digest> unused;  // The last ones.
  std::unique_ptr<StoredBlobs> blobs;
  std::unique_ptr<Streams> streams;
  std::unique_ptr<Core> core;
  std::unique_ptr<CoreThread> thread;
  std::unique_ptr<Access> access;
  std::unique_ptr<OpenStreams> open;
  absl::Mutex mutex;
  std::vector<std::string> handshakes ABSL_GUARDED_BY(mutex);  // That failed, and why.
  absl::Duration handshake = absl::Seconds(30);
  std::unique_ptr<AuditLog> audit;
  std::unique_ptr<AuditService> audits;
  std::unique_ptr<CertificateAuthority> authority;
  std::unique_ptr<JoinService> joins;
  std::unique_ptr<Watches> watches;
  std::unique_ptr<ClusterService> cluster;
  std::unique_ptr<StudyService> studies;
  std::unique_ptr<QuestionDesk> desk;
  std::unique_ptr<QuestionService> questions;
  std::pair<Digest, absl::Status> lost;  // The last one.
  BlobHolders holders{Clock::Real()};
  std::unique_ptr<BlobService> blob_service;
  std::unique_ptr<grpc::Server> server;
  std::shared_ptr<grpc::Channel> channel;
  int port = 0;
};

TEST_F(ServicesTest, Blobs_ComeBackAsTheyWere_AlsoBeyondOnePiece) {
  BlobClient client(channel, absl::Seconds(5));
  for (const size_t size : {size_t{0}, size_t{1}, size_t{1} << 20, (size_t{3} << 20) + 17}) {
    std::string bytes(size, 'a');
    for (size_t i = 0; i < size; i += 97) bytes[i] = static_cast<char>(i);
    const Digest digest = Sha256Of(bytes);
    ASSERT_TRUE(client.Put(digest, bytes).ok()) << size;
    const absl::StatusOr<std::string> back = client.Get(digest);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, bytes) << size;
  }
}

TEST_F(ServicesTest, Put_OfOtherBytesThanAnnounced_StoresNothing) {
  const auto stub = v1::Blobs::NewStub(channel);
  const Digest digest = Sha256Of("true");
  grpc::ClientContext context;
  v1::PutResponse response;
  const auto writer = stub->Put(&context, &response);
  v1::PutRequest request;
  request.set_digest(digest.bytes());
  request.set_size(4);
  request.set_data("fals");
  writer->Write(request);
  writer->WritesDone();
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_FALSE(store->Has(digest));
}

TEST_F(ServicesTest, Submit_WithoutItsImages_SaysWhatToUpload) {
  const auto stub = v1::Studies::NewStub(channel);
  v1::SubmitRequest request;
  request.mutable_spec()->set_name("s");
  request.set_image_set(Sha256Of("nothing").bytes());
  v1::SubmitResponse response;
  grpc::ClientContext context;
  const grpc::Status status = stub->Submit(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("upload"));
}

// What becomes of a study with this YAML, in which MODEL stands for a stored file's digest, on stored images.
absl::Status PrepareWith(const std::string& yaml, bool unlabelled, bool allow_torchscript) {
  FakeBlobs blobs;
  v1::ImageSetManifest manifest = *FakeManifest(600);
  manifest.set_height(64);
  manifest.set_width(64);
  manifest.set_unlabelled(unlabelled);
  if (unlabelled) {
    for (v1::ImageEntry& entry : *manifest.mutable_images()) entry.set_label(0);
  }
  blobs.Put("pixels");
  v1::SubmitRequest request;
  const std::string digest = Digest::FromBytes(blobs.Put("a model"))->hex();
  *request.mutable_spec() = *ParseStudyYaml(
      absl::StrReplaceAll(absl::StrCat("name: s\n", yaml), {{"MODEL", digest}}), "s.yaml");
  request.set_image_set(blobs.Put(manifest.SerializeAsString()));
  return PrepareSubmission(request, blobs, allow_torchscript).status();
}

TEST(PrepareSubmissionTest, AModelThatIsCode_IsTakenOnlyWhereTheOperatorAllowsIt) {
  const absl::Status refused = PrepareWith("model: {file: m.pt, digest: MODEL}", false, false);
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied) << refused;
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("ONNX"), HasSubstr("dermis cluster start --allow-torchscript")));
  EXPECT_TRUE(PrepareWith("model: {file: m.pt, digest: MODEL}", false, true).ok());
}

TEST(PrepareSubmissionTest, ImagesWithoutLabels_CanBeExplained_NotTrainedOn) {
  EXPECT_TRUE(PrepareWith("images: {split: {test: 1}}\nmodel: {file: m.pt, digest: MODEL}", true, true).ok());
  EXPECT_THAT(std::string(PrepareWith("training: {epochs: 3}", true, true).message()),
              HasSubstr("no labels to train on"));
}

TEST_F(ServicesTest, Watch_OfAnUnknownStudy_EndsWithNotFound) {
  const auto stub = v1::Studies::NewStub(channel);
  grpc::ClientContext context;
  v1::WatchRequest request;
  request.set_id("nobody");
  const auto reader = stub->Watch(&context, request);
  v1::StudyStatus status;
  EXPECT_FALSE(reader->Read(&status));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServicesTest, Attend_RefusesAnotherVersion_AndSaysWhatToDo) {
  const auto stub = v1::Cluster::NewStub(channel);
  grpc::ClientContext context;
  const auto stream = stub->Attend(&context);
  stream->Write(HelloOf("w", "0.0.0-other"));
  v1::Directive directive;
  ASSERT_TRUE(stream->Read(&directive));
  EXPECT_THAT(directive.welcome().refusal(), HasSubstr("0.0.0-other"));
  EXPECT_FALSE(stream->Read(&directive));
  EXPECT_FALSE(stream->Finish().ok());
}

TEST_F(ServicesTest, Attend_Welcomes_AndTheWorkerIsSeenAndMissed) {
  const auto stub = v1::Cluster::NewStub(channel);
  const auto people = v1::Studies::NewStub(channel);
  const auto workers = [&] {
    grpc::ClientContext context;
    v1::ClusterStatusResponse response;
    EXPECT_TRUE(people->ClusterStatus(&context, {}, &response).ok());
    return response.workers_size();
  };
  {
    grpc::ClientContext context;
    const auto stream = stub->Attend(&context);
    stream->Write(HelloOf("w"));
    v1::Directive directive;
    ASSERT_TRUE(stream->Read(&directive));
    EXPECT_EQ(directive.welcome().refusal(), "");
    EXPECT_EQ(workers(), 1);
    context.TryCancel();
    stream->Finish();
  }
  const absl::Time until = absl::Now() + absl::Seconds(10);
  while (workers() != 0 && absl::Now() < until) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_EQ(workers(), 0);
}

TEST_F(ServicesTest, Completions_AreAcknowledged_AndCanBeFetched) {
  const auto stub = v1::Cluster::NewStub(channel);
  v1::TaskSpec spec;
  spec.mutable_noop()->set_index(7);
  spec = MakeTask(spec, "test");
  v1::CompleteTasksRequest request;
  v1::Completion& completion = *request.add_completions();
  *completion.mutable_spec() = spec;
  v1::Payload payload;
  payload.set_noop(7);
  completion.mutable_result()->set_task(TaskDigest(spec)->bytes());
  completion.mutable_result()->set_payload(payload.SerializeAsString());
  completion.mutable_result()->set_payload_digest(Sha256Of(payload.SerializeAsString()).bytes());
  for (int repeat = 0; repeat < 2; ++repeat) {
    grpc::ClientContext context;
    v1::CompleteTasksResponse response;
    ASSERT_TRUE(stub->CompleteTasks(&context, request, &response).ok());
    ASSERT_EQ(response.replies_size(), 1);
    EXPECT_EQ(response.replies(0).verdict(), v1::CompletionReply::STORED) << response.replies(0).cause();
  }
  v1::FetchResultsRequest fetch;
  fetch.add_tasks(TaskDigest(spec)->bytes());
  fetch.add_tasks(Sha256Of("absent").bytes());
  grpc::ClientContext context;
  v1::FetchResultsResponse results;
  ASSERT_TRUE(stub->FetchResults(&context, fetch, &results).ok());
  ASSERT_EQ(results.results_size(), 2);
  EXPECT_EQ(results.results(0).payload(), payload.SerializeAsString());
  EXPECT_TRUE(results.results(1).task().empty());
}

class SecureServicesTest : public ServicesTest {
 protected:
  static inline const std::string kPixels = "pixels";  // Of FakeManifest.

  void SetUp() override { Start(false); }
  // One byte of the two of "ab"; returns when it has come, which the user's quota shows.
  void WriteHalfOfAnUpload(grpc::ClientWriter<v1::PutRequest>& writer, const std::string& user) {
    v1::PutRequest piece;
    piece.set_digest(Sha256Of("ab").bytes());
    piece.set_size(2);
    piece.set_data("a");
    writer.Write(piece);
    while (HasRoom(user)) {
      uploads->End(user, Sha256Of("ab"), quota.bytes - 1, false);
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  // Once that upload has ended.
  void ExpectRoomAgain(const std::string& user) {
    const absl::Time until = absl::Now() + absl::Seconds(10);
    while (!HasRoom(user) && absl::Now() < until) absl::SleepFor(absl::Milliseconds(5));
    EXPECT_LT(absl::Now(), until) << "it still counts for its user";
  }
  // For all but a byte of the quota, which it takes.
  bool HasRoom(const std::string& user) { return uploads->Begin(user, quota.bytes - 1).ok(); }
  static void Upload(BlobClient& client, const v1::ImageSetManifest& manifest) {
    const std::string bytes = manifest.SerializeAsString();
    ASSERT_TRUE(client.Put(Sha256Of(kPixels), kPixels).ok());
    ASSERT_TRUE(client.Put(Sha256Of(bytes), bytes).ok());
  }
  // The study "s" of images that were uploaded.
  grpc::Status Submit(const v1::ImageSetManifest& manifest) {
    v1::SubmitRequest request;
    *request.mutable_spec() = *ParseStudyYaml("name: s", "s.yaml");
    request.set_image_set(Sha256Of(manifest.SerializeAsString()).bytes());
    v1::SubmitResponse response;
    grpc::ClientContext context;
    return v1::Studies::NewStub(ChannelOf("user"))->Submit(&context, request, &response);
  }
};

TEST_F(SecureServicesTest, Roles_AreKeptApart) {
  grpc::ClientContext user_context, worker_context, complete_context;
  v1::ListResponse list;
  EXPECT_TRUE(v1::Studies::NewStub(ChannelOf("user"))->List(&user_context, {}, &list).ok());
  EXPECT_EQ(v1::Studies::NewStub(ChannelOf("worker"))->List(&worker_context, {}, &list).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  v1::CompleteTasksResponse response;
  const grpc::Status status =
      v1::Cluster::NewStub(ChannelOf("user"))->CompleteTasks(&complete_context, {}, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status.error_message(), HasSubstr("Cluster/CompleteTasks"));
}

TEST_F(SecureServicesTest, UploadsThatNoStudyNames_CountForTheirUser_UntilTheyAreNamedOrGo) {
  BlobClient ann(ChannelOf("user"), absl::Seconds(5)), worker(ChannelOf("worker"), absl::Seconds(5));
  const auto put = [](BlobClient& client, const std::string& bytes) { return client.Put(Sha256Of(bytes), bytes); };
  const std::string large(6'000'000, 'a'), other(6'000'000, 'b');
  ASSERT_TRUE(put(ann, large).ok());
  const absl::Status refused = put(ann, other);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("user user has 0 bytes by studies and 6000000 that were uploaded and no study names"),
                    HasSubstr("would add 6000000"), HasSubstr("may have 10000000"), HasSubstr("--user-gib")));
  EXPECT_FALSE(store->Has(Sha256Of(other))) << "it was stored all the same";
  EXPECT_TRUE(put(ann, large).ok()) << "what is there takes no more";
  EXPECT_TRUE(put(worker, other).ok()) << "a worker's results are not a user's uploads";
  // Bytes that are not what they were said to be count no longer than the call.
  EXPECT_FALSE(ann.Put(Sha256Of("else"), std::string(3'000'000, 'c')).ok());
  EXPECT_TRUE(put(ann, std::string(3'000'000, 'd')).ok());

  // A restart forgets nothing.
  EXPECT_FALSE((*UserUploads::Open(folder + "/store/uploads", *store, clock, {.quota = quota}))->Begin("user", 2'000'000).ok());
  // A study names some: they count as what it brought.
  uploads->Named("user", Usage{.studies = 1, .blobs = 1, .bytes = 6'000'000}, {Sha256Of(large)});
  EXPECT_FALSE(put(ann, std::string(2'000'000, 'e')).ok());
  // It was deleted: there is room.
  uploads->Named("user", Usage(), {});
  EXPECT_TRUE(put(ann, std::string(2'000'000, 'e')).ok());

  // A day after they were last asked for the others go, though nobody uploads any more; what was asked for stays.
  clock.ahead_ms = 23 * 3'600'000;
  blob_service->DropUnused();
  EXPECT_TRUE(unused.empty());
  EXPECT_TRUE(blobs->Has(Sha256Of(std::string(2'000'000, 'e'))));
  clock.ahead_ms = 25 * 3'600'000;
  blob_service->DropUnused();
  ASSERT_THAT(unused, testing::ElementsAre(Sha256Of(std::string(3'000'000, 'd'))));
  EXPECT_TRUE(uploads->Take(unused[0]));
  EXPECT_FALSE(uploads->Take(unused[0])) << "it is gone";
  EXPECT_FALSE(uploads->Take(Sha256Of(std::string(2'000'000, 'e')))) << "its time is not over";
}

TEST_F(SecureServicesTest, WhatIsUploadedAgainWhileItIsGoing_Stays_AndCountsForItsUser) {
  BlobClient ann(ChannelOf("user"), absl::Seconds(5));
  const std::string again(6'000'000, 'a'), rest(3'000'000, 'b');
  for (const std::string& bytes : {again, rest}) {
    ASSERT_TRUE(ann.Put(Sha256Of(bytes), bytes).ok());
    uploads->Named("user", Usage(), {Sha256Of(bytes)});  // Its study has been deleted since.
    blobs->Going(Sha256Of(bytes));
  }
  EXPECT_EQ(ann.Has({Sha256Of(again), Sha256Of(rest)}).value(), (std::vector<bool>{false, false}));
  EXPECT_TRUE(blobs->Has(Sha256Of(again))) << "it is read as long as it is there";
  ASSERT_TRUE(ann.Put(Sha256Of(again), again).ok());
  EXPECT_EQ(ann.Has({Sha256Of(again), Sha256Of(rest)}).value(), (std::vector<bool>{true, false}));
  for (const std::string& bytes : {again, rest}) blobs->RemoveGoing(Sha256Of(bytes));
  EXPECT_TRUE(store->Has(Sha256Of(again)));
  EXPECT_FALSE(store->Has(Sha256Of(rest)));
  EXPECT_FALSE(uploads->Begin("user", 5'000'000).ok())
      << "it counts for nobody, and would never go";
  // Found to be in use when its turn came.
  blobs->Going(Sha256Of(again));
  blobs->Keep(Sha256Of(again));
  blobs->RemoveGoing(Sha256Of(again));
  EXPECT_TRUE(store->Has(Sha256Of(again)));
}

TEST_F(SecureServicesTest, ManySmallUploads_AreBoundedByTheirNumber) {
  BlobClient ann(ChannelOf("user"), absl::Seconds(5));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(ann.Put(Sha256Of(absl::StrCat(i)), absl::StrCat(i)).ok()) << i;
  const absl::Status refused = ann.Put(Sha256Of("one more"), "one more");
  EXPECT_THAT(std::string(refused.message()), AllOf(HasSubstr("10 that were uploaded"), HasSubstr("--user-blobs"))) << refused;
}

TEST_F(SecureServicesTest, AStudy_TakesItsUploadsOutOfWhatNoStudyNames) {
  BlobClient ann(ChannelOf("user"), absl::Seconds(5));
  const v1::ImageSetManifest manifest = *FakeManifest(600);
  const std::string bytes = manifest.SerializeAsString();
  Upload(ann, manifest);
  const auto pending = [&] {
    const std::filesystem::directory_iterator files(folder + "/store/uploads");
    return std::distance(begin(files), end(files));
  };
  EXPECT_EQ(pending(), 2);
  const grpc::Status status = Submit(manifest);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(pending(), 0);
  // It counts as the study's from now on, and for nobody when that is deleted.
  const auto refused = [&] { return std::string(uploads->Begin("user", 10'000'001).message()); };
  EXPECT_THAT(refused(), HasSubstr(absl::StrCat("has ", kPixels.size() + bytes.size(), " bytes by studies and 0 that were uploaded")));
  v1::StudyRequest study;
  study.set_id("s");
  v1::StudyStatus end;
  v1::DeleteRequest away;
  away.set_id("s");
  v1::DeleteResponse deleted;
  grpc::ClientContext first, second;
  ASSERT_TRUE(v1::Studies::NewStub(ChannelOf("user"))->Cancel(&first, study, &end).ok());
  ASSERT_TRUE(v1::Studies::NewStub(ChannelOf("user"))->Delete(&second, away, &deleted).ok());
  EXPECT_THAT(refused(), HasSubstr("has 0 bytes by studies"));
}

TEST_F(SecureServicesTest, Audit_SaysWhoChangedWhat_AndWhoWasRefused_AndItsHeadIsSigned) {
  v1::StudyRequest study;
  study.set_id("nowhere");
  v1::StudyStatus status;
  v1::ListResponse list;
  grpc::ClientContext contexts[6];
  (void)v1::Studies::NewStub(ChannelOf("user"))->Cancel(&contexts[0], study, &status);
  (void)v1::Studies::NewStub(ChannelOf("user"))->List(&contexts[1], {}, &list);  // Changes nothing: no line.
  (void)v1::Studies::NewStub(ChannelOf("worker"))->Cancel(&contexts[2], study, &status);
  v1::AuditReadResponse log;
  EXPECT_EQ(v1::Audit::NewStub(ChannelOf("user"))->Read(&contexts[3], {}, &log).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  v1::SignedAuditHead head;
  ASSERT_TRUE(v1::Audit::NewStub(ChannelOf("user"))->Head(&contexts[4], {}, &head).ok());
  ASSERT_TRUE(v1::Audit::NewStub(ChannelOf("admin"))->Read(&contexts[5], {}, &log).ok());

  EXPECT_EQ(head.entries(), 3u);
  const AuditHead is = {head.entries(), *Digest::FromBytes(head.last())};
  EXPECT_TRUE(HoldsAudit(log.lines(), is).ok());
  EXPECT_THAT(log.lines(), AllOf(HasSubstr(R"("who":"user","role":"user","call":"Studies/Cancel","what":"nowhere")"),
                                 HasSubstr(R"("who":"worker","role":"worker","call":"Studies/Cancel")"),
                                 HasSubstr(R"("who":"user","role":"user","call":"Audit/Read")")));
  const std::string& ca = authority->certificate();
  EXPECT_TRUE(CheckSignature(ca, head.certificate(), AuditStatement(is), head.signature()).ok());
  EXPECT_FALSE(CheckSignature(ca, head.certificate(), AuditStatement({2, is.last}), head.signature()).ok());
  // Another cluster's coordinator signed.
  ASSERT_TRUE(MakeClusterCertificates(folder + "/other", {}).ok());
  const Identity other = *LoadIdentity(folder + "/other", "coordinator");
  EXPECT_FALSE(CheckSignature(ca, other.certificate, AuditStatement(is), *SignText(other.key, AuditStatement(is))).ok());
}

// The identity that a worker gets by a token: key made here, certificate signed there.
class JoinTest : public SecureServicesTest {
 protected:
  const std::string secret = std::string(32, 's');

  std::shared_ptr<grpc::Channel> StrangersChannel() {
    return MakeChannel(absl::StrCat("127.0.0.1:", port), StrangerCredentials(authority->certificate()));
  }
  std::string NewToken(uint64_t ttl, uint32_t uses, const std::string& group = "") {
    v1::CreateTokenRequest request;
    request.set_secret_hash(Sha256Of(secret).bytes());
    request.set_ttl_s(ttl);
    request.set_uses(uses);
    request.set_group(group);
    v1::CreateTokenResponse response;
    grpc::ClientContext context;
    const grpc::Status status = v1::Join::NewStub(ChannelOf("admin"))->CreateToken(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.token().id();
  }
  grpc::Status Sign(const std::string& token, const std::string& name, Identity* identity,
                    const std::string& shown_secret = "") {
    identity->ca_certificate = authority->certificate();
    identity->key = *NewKey();
    v1::SignRequest request;
    request.set_token(token);
    request.set_secret(shown_secret.empty() ? secret : shown_secret);
    request.set_name(name);
    request.set_request(*MakeSigningRequest(identity->key));
    v1::SignResponse response;
    grpc::ClientContext context;
    const grpc::Status status = v1::Join::NewStub(StrangersChannel())->Sign(&context, request, &response);
    identity->certificate = response.certificate();
    return status;
  }
  std::shared_ptr<grpc::Channel> ChannelWith(const Identity& identity) {
    return MakeChannel(absl::StrCat("127.0.0.1:", port), ClientCredentials(identity));
  }
  grpc::Status Fetch(const std::shared_ptr<grpc::Channel>& with) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    v1::FetchResultsResponse response;
    return v1::Cluster::NewStub(with)->FetchResults(&context, {}, &response);
  }
  grpc::Status Revoke(const std::string& what) {
    v1::RevokeRequest request;
    request.set_certificate(what);
    v1::RevokeResponse response;
    grpc::ClientContext context;
    return v1::Join::NewStub(ChannelOf("admin"))->Revoke(&context, request, &response);
  }
};

TEST_F(JoinTest, AStranger_GetsACertificateForAToken_AndIsThenAWorker_AndNoUser) {
  Identity worker;
  const grpc::Status joined = Sign(NewToken(60, 1), "gpu1-0", &worker);
  ASSERT_TRUE(joined.ok()) << joined.error_message();
  const Bearer bearer = *BearerOf(worker.certificate);
  EXPECT_EQ(bearer.role, "worker");
  EXPECT_EQ(bearer.name, "gpu1-0");
  EXPECT_TRUE(Fetch(ChannelWith(worker)).ok());
  grpc::ClientContext context, token_context;
  v1::ListResponse list;
  const grpc::Status stolen = v1::Studies::NewStub(ChannelWith(worker))->List(&context, {}, &list);
  EXPECT_EQ(stolen.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(stolen.error_message(), HasSubstr("'worker' may not call Studies/List"));
  v1::CreateTokenResponse token;
  const grpc::Status user = v1::Join::NewStub(ChannelOf("user"))->CreateToken(&token_context, {}, &token);
  EXPECT_EQ(user.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(user.error_message(), HasSubstr("admin.crt"));
}

TEST_F(JoinTest, WithoutACertificate_NothingElseIsAnswered) {
  const std::shared_ptr<grpc::Channel> stranger = StrangersChannel();
  EXPECT_EQ(Fetch(stranger).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  grpc::ClientContext list_context, renew_context, create_context, attend_context;
  v1::ListResponse list;
  EXPECT_EQ(v1::Studies::NewStub(stranger)->List(&list_context, {}, &list).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  v1::SignResponse signed_response;
  EXPECT_EQ(v1::Join::NewStub(stranger)->Renew(&renew_context, {}, &signed_response).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  v1::CreateTokenResponse token;
  EXPECT_EQ(v1::Join::NewStub(stranger)->CreateToken(&create_context, {}, &token).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  const auto cluster_stub = v1::Cluster::NewStub(stranger);
  const auto attend = cluster_stub->Attend(&attend_context);
  v1::Directive directive;
  EXPECT_FALSE(attend->Read(&directive));
  EXPECT_EQ(attend->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  const absl::Status health = ProbeHealth(absl::StrCat("127.0.0.1:", port), StrangerCredentials(authority->certificate()),
                                          absl::Seconds(10));
  EXPECT_THAT(std::string(health.message()), HasSubstr("no valid certificate"));
  server->GetHealthCheckService()->SetServingStatus(true);
  EXPECT_TRUE(ProbeHealth(absl::StrCat("127.0.0.1:", port),
                          ClientCredentials(*LoadIdentity(folder + "/certs", "coordinator")), absl::Seconds(10))
                  .ok());
}

TEST_F(JoinTest, ABadRequest_IsRefused_AndTakesNoUse) {
  const std::string token = NewToken(60, 1);
  Identity identity;
  EXPECT_EQ(Sign(token, "gpu1-0", &identity, std::string(32, 'x')).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Sign("00000000", "gpu1-0", &identity).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  for (const char* name : {"", "user", "coordinator", "a b"}) {
    EXPECT_EQ(Sign(token, name, &identity).error_code(), grpc::StatusCode::INVALID_ARGUMENT) << name;
  }
  v1::SignRequest request;
  request.set_token(token);
  request.set_secret(secret);
  request.set_name("gpu1-0");
  request.set_request("no request");
  v1::SignResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(v1::Join::NewStub(StrangersChannel())->Sign(&context, request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(Sign(token, "gpu1-0", &identity).ok());
  EXPECT_THAT(Sign(token, "gpu2-0", &identity).error_message(), HasSubstr("used up"));
}

TEST_F(JoinTest, ARevokedCertificate_IsRefusedOnEveryCall_AlsoOfAConnectionThatIsOpen_AndItsStreamEnds) {
  Identity worker;
  ASSERT_TRUE(Sign(NewToken(0, 0, "spot"), "gpu1-0", &worker).ok());
  const std::shared_ptr<grpc::Channel> open = ChannelWith(worker);
  const auto stub = v1::Cluster::NewStub(open);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const auto stream = stub->Attend(&context);
  stream->Write(HelloOf("gpu1-0"));
  v1::Directive directive;
  ASSERT_TRUE(stream->Read(&directive));
  ASSERT_TRUE(Fetch(open).ok());
  ASSERT_TRUE(Revoke("gpu1-0").ok());
  // It says nothing, and is closed all the same.
  EXPECT_FALSE(stream->Read(&directive));
  const grpc::Status ended = stream->Finish();
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(ended.error_message(), AllOf(HasSubstr("gpu1-0"), HasSubstr("revoked")));
  const grpc::Status call = Fetch(open);
  EXPECT_EQ(call.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(call.error_message(), HasSubstr("revoked"));
  v1::RenewRequest renewal;
  renewal.set_request(*MakeSigningRequest(worker.key));
  v1::SignResponse renewed;
  grpc::ClientContext renew_context;
  EXPECT_EQ(v1::Join::NewStub(open)->Renew(&renew_context, renewal, &renewed).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(JoinTest, Revocation_EndsAWorkersStream_AlsoWhereItDoesNotRead) {
  Identity worker;
  ASSERT_TRUE(Sign(NewToken(60, 1), "gpu1-0", &worker).ok());
  const auto stub = v1::Cluster::NewStub(ChannelWith(worker));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const auto stream = stub->Attend(&context);
  stream->Write(HelloOf("gpu1-0"));
  v1::Directive directive;
  ASSERT_TRUE(stream->Read(&directive));
  v1::Directive large;
  large.mutable_forget()->add_blobs(std::string(1 << 20, 'a'));
  constexpr int kSent = 64;
  for (int i = 0; i < kSent; ++i) streams->Send(1, large);
  ASSERT_TRUE(Revoke("gpu1-0").ok());
  int got = 0;
  while (stream->Read(&directive)) got += directive.forget().blobs_size();
  EXPECT_LT(got, kSent);
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

// A stream that waits for bytes, one whose reader does not read, one that waits for news: none of them moves by itself.
TEST_F(JoinTest, Revocation_EndsStreamsThatDoNotMove_WithTheReason) {
  for (const char* what : {"Put", "Get", "Watch"}) {
    Identity caller = {.ca_certificate = authority->certificate(), .certificate = "", .key = *NewKey()};
    const std::string serial = *NewSerial();
    caller.certificate = *authority->Sign(*MakeSigningRequest(caller.key),
                                          {"user", what, serial, {absl::Now() - absl::Hours(1), absl::Now() + absl::Hours(1)}});
    const std::shared_ptr<grpc::Channel> with = ChannelWith(caller);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    grpc::Status status;
    if (what == std::string("Put")) {
      const auto stub = v1::Blobs::NewStub(with);
      v1::PutResponse response;
      const auto writer = stub->Put(&context, &response);
      WriteHalfOfAnUpload(*writer, "Put");
      ASSERT_TRUE(Revoke(serial).ok());
      status = writer->Finish();
      EXPECT_FALSE(store->Has(Sha256Of("ab")));
      ExpectRoomAgain("Put");
    } else if (what == std::string("Get")) {
      const std::string bytes(64 << 20, 'a');
      const auto writer = *store->NewWriter();
      ASSERT_TRUE(writer->Append(bytes).ok());
      ASSERT_TRUE(writer->Commit(Sha256Of(bytes)).ok());
      const auto stub = v1::Blobs::NewStub(with);
      v1::GetRequest request;
      request.set_digest(Sha256Of(bytes).bytes());
      const auto reader = stub->Get(&context, request);
      v1::GetResponse piece;
      ASSERT_TRUE(reader->Read(&piece));
      ASSERT_TRUE(Revoke(serial).ok());
      size_t got = piece.data().size();
      while (reader->Read(&piece)) got += piece.data().size();
      EXPECT_LT(got, bytes.size());
      status = reader->Finish();
    } else {
      BlobClient client(ChannelOf("user"), absl::Seconds(5));
      Upload(client, *FakeManifest(600));
      const grpc::Status submitted = Submit(*FakeManifest(600));
      ASSERT_TRUE(submitted.ok()) << submitted.error_message();
      const auto stub = v1::Studies::NewStub(with);
      v1::WatchRequest request;
      request.set_id("s");
      const auto reader = stub->Watch(&context, request);
      v1::StudyStatus study;
      ASSERT_TRUE(reader->Read(&study));
      ASSERT_TRUE(Revoke(serial).ok());
      while (reader->Read(&study)) {
      }
      status = reader->Finish();
    }
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << what << ": " << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr("revoked")) << what;
  }
}

// The CA's clock and the one that looks at the certificate, each wrong by a day at most.
TEST_F(JoinTest, ClocksThatDifferByTwoDays_DoNotMatter) {
  for (const absl::Duration ahead : {-absl::Hours(48), absl::Hours(48)}) {
    Identity worker = {.ca_certificate = authority->certificate(), .certificate = "", .key = *NewKey()};
    worker.certificate = *authority->Sign(*MakeSigningRequest(worker.key),
                                          {"worker", "gpu1-0", *NewSerial(), WorkerValidity(absl::Now() + ahead)});
    const grpc::Status status = Fetch(ChannelWith(worker));
    EXPECT_TRUE(status.ok()) << absl::FormatDuration(ahead) << ": " << status.error_message();
  }
  // What the others look at.
  for (const std::string& certificate : {LoadIdentity(folder + "/certs", "coordinator")->certificate, authority->certificate()}) {
    const Validity validity = *ValidityOf(certificate);
    EXPECT_LE(validity.from, absl::Now() - absl::Hours(48));
    EXPECT_GE(validity.until, absl::Now() + absl::Hours(48));
  }
}

TEST_F(JoinTest, AnExpiredCertificate_IsRefused_AtTheHandshakeAndOnAnOpenConnection) {
  Identity identity = {.ca_certificate = authority->certificate(), .certificate = "", .key = *NewKey()};
  const std::string request = *MakeSigningRequest(identity.key);
  const auto until = [&](absl::Duration left) {
    return *authority->Sign(request, {"worker", "gpu1-0", "ab12ab12", {absl::Now() - absl::Hours(24), absl::Now() + left}});
  };
  identity.certificate = until(-absl::Hours(1));
  EXPECT_EQ(Fetch(ChannelWith(identity)).error_code(), grpc::StatusCode::UNAVAILABLE);
  // It runs out while the connection is open.
  identity.certificate = until(absl::Hours(1));
  const std::shared_ptr<grpc::Channel> open = ChannelWith(identity);
  ASSERT_TRUE(Fetch(open).ok());
  clock.ahead_ms = 2 * 3600 * 1000;
  const grpc::Status status = Fetch(open);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(status.error_message(), HasSubstr("expired"));
}

TEST_F(JoinTest, AJoinedCertificate_SpeaksForItsOwnName_AndAReadyMadeOneForAny) {
  Identity worker;
  ASSERT_TRUE(Sign(NewToken(60, 1), "gpu1-0", &worker).ok());
  const auto attend = [&](const std::shared_ptr<grpc::Channel>& with) {
    const auto stub = v1::Cluster::NewStub(with);
    grpc::ClientContext context;
    const auto stream = stub->Attend(&context);
    stream->Write(HelloOf("gpu2-0"));
    v1::Directive directive;
    const bool welcomed = stream->Read(&directive);
    if (welcomed) context.TryCancel();
    const grpc::Status status = stream->Finish();
    return welcomed ? grpc::Status::OK : status;
  };
  const grpc::Status other = attend(ChannelWith(worker));
  EXPECT_EQ(other.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(other.error_message(), AllOf(HasSubstr("gpu1-0"), HasSubstr("gpu2-0")));
  EXPECT_EQ(LinesWith("Cluster/Attend"), 1);
  EXPECT_TRUE(attend(ChannelOf("worker")).ok());
  EXPECT_EQ(LinesWith("Cluster/Attend"), 1);
}

TEST_F(JoinTest, AJoinedCertificate_BringsResultsOfItsOwnAlone) {
  Identity worker;
  ASSERT_TRUE(Sign(NewToken(60, 1), "gpu1-0", &worker).ok());
  const auto complete = [&](const std::string& name) {
    v1::CompleteTasksRequest request;
    request.add_completions()->mutable_attempt()->set_worker(name);
    v1::CompleteTasksResponse response;
    grpc::ClientContext context;
    return v1::Cluster::NewStub(ChannelWith(worker))->CompleteTasks(&context, request, &response);
  };
  EXPECT_TRUE(complete("gpu1-0").ok());
  EXPECT_EQ(LinesWith("Cluster/CompleteTasks"), 0);
  const grpc::Status other = complete("gpu2-0");
  EXPECT_EQ(LinesWith("Cluster/CompleteTasks"), 1);
  EXPECT_EQ(other.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(other.error_message(), AllOf(HasSubstr("gpu1-0"), HasSubstr("gpu2-0")));
}

TEST_F(JoinTest, Renewal_IsForWhoJoined_AndNobodyLocksHimselfOut) {
  Identity worker;
  ASSERT_TRUE(Sign(NewToken(60, 1), "gpu1-0", &worker).ok());
  v1::RenewRequest request;
  request.set_request(*MakeSigningRequest(worker.key));
  v1::SignResponse response;
  grpc::ClientContext context, ready_made;
  const grpc::Status renewed = v1::Join::NewStub(ChannelWith(worker))->Renew(&context, request, &response);
  ASSERT_TRUE(renewed.ok()) << renewed.error_message();
  EXPECT_EQ(BearerOf(response.certificate())->name, "gpu1-0");
  EXPECT_NE(BearerOf(response.certificate())->serial, BearerOf(worker.certificate)->serial);
  EXPECT_EQ(v1::Join::NewStub(ChannelOf("worker"))->Renew(&ready_made, request, &response).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  const grpc::Status self = Revoke(BearerOf(LoadIdentity(folder + "/certs", "admin")->certificate)->serial);
  EXPECT_EQ(self.error_code(), grpc::StatusCode::FAILED_PRECONDITION) << self.error_message();
}

// A channel whose client does not refuse itself what is too long.
std::shared_ptr<grpc::Channel> BoundlessChannel(int port, const Identity& identity) {
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride(kPeerName);
  arguments.SetMaxSendMessageSize(-1);
  return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port), ClientCredentials(identity),
                                   arguments);
}

TEST_F(SecureServicesTest, AStudyOf100Megabytes_IsRefused_AndTheConnectionServesOn) {
  const auto stub =
      v1::Studies::NewStub(BoundlessChannel(port, *LoadIdentity(folder + "/certs", "user")));
  v1::SubmitRequest request;
  request.mutable_spec()->set_name(std::string(100'000'000, 'a'));
  v1::SubmitResponse response;
  grpc::ClientContext context, after;
  const grpc::Status status = stub->Submit(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("Received message larger than max"));
  v1::ListResponse list;
  EXPECT_TRUE(stub->List(&after, {}, &list).ok());
}

TEST_F(SecureServicesTest, ClientsThatAreSilent_OrDribble_HoldUpNobody) {
  std::list<Socket> clients;
  for (int i = 0; i < 200; ++i) {
    // The beginning of a TLS record, of which the rest does not come; or nothing.
    const std::string begun = i % 2 == 0 ? "\x16\x03\x01" : "";
    ASSERT_TRUE(clients.emplace_back(port).Say(begun)) << i;
  }
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  context.set_wait_for_ready(true);
  v1::ListResponse list;
  const grpc::Status status = v1::Studies::NewStub(ChannelOf("user"))->List(&context, {}, &list);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(SecureServicesTest, AMessageThatIsTooLong_IsRefused_AndToldOnce_AlsoAmongOthersThatAreNot) {
  const std::shared_ptr<grpc::Channel> large = BoundlessChannel(port, *LoadIdentity(folder + "/certs", "user"));
  const auto submit = [&](size_t size) {
    v1::SubmitRequest request;
    request.mutable_spec()->set_name(std::string(size, 'a'));
    v1::SubmitResponse response;
    grpc::ClientContext context;
    return v1::Studies::NewStub(large)->Submit(&context, request, &response);
  };
  const auto list = [&] {
    grpc::ClientContext context;
    v1::ListResponse response;
    return v1::Studies::NewStub(large)->List(&context, {}, &response).ok();
  };
  ASSERT_TRUE(list());
  const grpc::Status status = submit(17 << 20);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("larger than max"));
  EXPECT_EQ(submit(100).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  ASSERT_TRUE(list());
  // One that changes nothing has its line, too.
  v1::HasRequest has;
  has.add_digests(std::string(17 << 20, 'a'));
  grpc::ClientContext context;
  v1::HasResponse response;
  EXPECT_EQ(v1::Blobs::NewStub(large)->Has(&context, has, &response).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  for (const char* call : {"\"Studies/Submit\"", "\"Blobs/Has\""}) {
    const auto told = [&] {
      return LinesWith(absl::StrCat("\"who\":\"user\",\"role\":\"user\",\"call\":", call,
                                    ",\"outcome\":\"its message did not come: longer than 16 MiB"));
    };
    const absl::Time until = absl::Now() + absl::Seconds(10);
    while (told() == 0 && absl::Now() < until) absl::SleepFor(absl::Milliseconds(5));
    EXPECT_EQ(told(), 1) << call << *audit->Read(0, 1 << 20);
  }
  EXPECT_TRUE(list());
}

TEST_F(SecureServicesTest, ACallWhoseMessageDoesNotCome_IsEnded_WithOneLine_WhicheverItIs) {
  struct Silent {
    std::string method;
    grpc::ClientContext context;
    std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call;
    grpc::Status status;
    bool ended = false;
  };
  std::map<std::string, std::unique_ptr<grpc::GenericStub>> stubs;
  for (const char* role : {"admin", "worker"})
    stubs[role] = std::make_unique<grpc::GenericStub>(ChannelOf(role));
  stubs["stranger"] = std::make_unique<grpc::GenericStub>(
      MakeChannel(absl::StrCat("127.0.0.1:", port),
                  StrangerCredentials(LoadIdentity(folder + "/certs", "user")->ca_certificate),
                  kCoordinatorName));
  grpc::CompletionQueue queue;
  std::list<Silent> silent;
  for (const char* service : {"Audit", "Blobs", "Cluster", "Join", "Questions", "Studies"}) {
    const auto* descriptor = google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(
        absl::StrCat("dermis.v1.", service));
    ASSERT_NE(descriptor, nullptr) << service;
    for (int i = 0; i < descriptor->method_count(); ++i) {
      Silent& one = silent.emplace_back();
      one.method = absl::StrCat(service, "/", descriptor->method(i)->name());
      const char* role = NeedsNoCertificate(one.method) ? "stranger"
                         : Allowed("admin", one.method) ? "admin"
                                                        : "worker";
      one.call =
          stubs[role]->PrepareCall(&one.context, absl::StrCat("/dermis.v1.", one.method), &queue);
      one.call->StartCall(nullptr);
      void* tag = nullptr;
      bool ok = false;
      ASSERT_TRUE(queue.Next(&tag, &ok) && ok) << one.method;
      one.call->Finish(&one.status, &one);
    }
  }
  EXPECT_GT(silent.size(), 25u);
  open->EndStalled();
  const absl::Time until = absl::Now() + absl::Seconds(60);
  for (size_t ended = 0; ended < silent.size() && absl::Now() < until;) {
    void* tag = nullptr;
    bool ok = false;
    if (queue.AsyncNext(&tag, &ok,
                        std::chrono::system_clock::now() + std::chrono::milliseconds(50)) !=
        grpc::CompletionQueue::GOT_EVENT) {
      clock.ahead_ms += 61'000;  // Whenever they come, their minute will be over.
      open->EndStalled();
      continue;
    }
    static_cast<Silent*>(tag)->ended = true;
    ++ended;
  }
  for (Silent& one : silent) {
    EXPECT_TRUE(one.ended) << one.method << " is held for ever";
    EXPECT_EQ(one.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED)
        << one.method << one.status.error_message();
    EXPECT_THAT(one.status.error_message(), HasSubstr("brought nothing for 1m"));
    const std::string line = absl::StrCat("\"call\":\"", one.method, "\"");
    const absl::Time told = absl::Now() + absl::Seconds(10);
    while (LinesWith(line) == 0 && absl::Now() < told) absl::SleepFor(absl::Milliseconds(5));
    EXPECT_EQ(LinesWith(line), 1) << one.method;
    if (!one.ended) one.context.TryCancel();
  }
  queue.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue.Next(&tag, &ok)) {
  }
}

TEST_F(SecureServicesTest, AnUploadWithAPieceThatIsTooLong_IsRefused_AndAudited) {
  const auto stub = v1::Blobs::NewStub(BoundlessChannel(port, *LoadIdentity(folder + "/certs", "user")));
  for (const size_t size : {size_t{2} << 20, size_t{17} << 20}) {
    grpc::ClientContext context;
    v1::PutResponse response;
    const auto writer = stub->Put(&context, &response);
    v1::PutRequest request;
    request.set_digest(Sha256Of("anything").bytes());
    request.set_size(1'000'000);
    request.set_data(std::string(size, 'a'));
    writer->Write(request);
    EXPECT_FALSE(writer->Finish().ok()) << size;
    const uint64_t lines = size == size_t{2} << 20 ? 1 : 2;
    const absl::Time until = absl::Now() + absl::Seconds(10);
    while (audit->Head().entries < lines && absl::Now() < until) absl::SleepFor(absl::Milliseconds(5));
    EXPECT_EQ(audit->Head().entries, lines) << size;
  }
}

TEST_F(SecureServicesTest, AnUploadThatStandsStill_IsEnded_AndLeavesOneLine) {
  const auto files = [&] {
    const std::filesystem::recursive_directory_iterator all(folder + "/store/blobs");
    return std::count_if(begin(all), end(all), [](const auto& entry) { return entry.is_regular_file(); });
  };
  const auto before = files();
  const auto stub = v1::Blobs::NewStub(ChannelOf("user"));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  v1::PutResponse response;
  const auto writer = stub->Put(&context, &response);
  WriteHalfOfAnUpload(*writer, "user");
  clock.ahead_ms = 30'000;
  open->EndStalled();
  EXPECT_EQ(LinesWith("Blobs/Put"), 0) << "it may be slow";
  clock.ahead_ms = 90'000;
  open->EndStalled();
  const grpc::Status status = writer->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("brought nothing for 1m"));
  ExpectRoomAgain("user");
  EXPECT_EQ(files(), before);
  EXPECT_EQ(LinesWith("Blobs/Put"), 1);
}

class HurriedServicesTest : public SecureServicesTest {
 protected:
  void SetUp() override {
    handshake = absl::Milliseconds(500);
    SecureServicesTest::SetUp();
  }
  bool Heard(size_t number) {
    const auto enough = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return handshakes.size() >= number; };
    return mutex.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(20));
  }
};

TEST_F(HurriedServicesTest, WhoDoesNotEndHisHandshake_IsCutOff_AndTold) {
  Socket silent(port), dribbles(port);
  ASSERT_TRUE(dribbles.Say("\x16\x03\x01"));
  for (Socket* client : {&silent, &dribbles}) {
    client->Hear(absl::Seconds(20));
    EXPECT_TRUE(client->closed());
  }
  absl::MutexLock lock(&mutex);
  ASSERT_TRUE(Heard(2));
  for (const std::string& why : handshakes) EXPECT_THAT(why, HasSubstr("not over in time"));
}

TEST_F(SecureServicesTest, PlainText_IsNotAnswered) {
  const auto stub =
      v1::Studies::NewStub(MakeChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
  v1::ListResponse list;
  EXPECT_FALSE(stub->List(&context, {}, &list).ok());
}

}  // namespace
}  // namespace dermis
