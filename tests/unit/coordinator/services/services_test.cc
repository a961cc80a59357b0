// The services over a real gRPC server on loopback, with a real core, journal and blob store in a temporary folder.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/blob_client.h"
#include "common/spec_yaml.h"
#include "common/tasks.h"
#include "common/tls.h"
#include "coordinator/core.h"
#include "coordinator/core_thread.h"
#include "coordinator/services/access.h"
#include "coordinator/services/blob_service.h"
#include "coordinator/services/cluster_service.h"
#include "coordinator/services/streams.h"
#include "coordinator/services/study_service.h"
#include "dermis/v1/blobs.grpc.pb.h"
#include "dermis/v1/peer.pb.h"
#include "tests/simulation/fakes.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(AccessTest, EveryRpcHasARule_AndIsDeniedToStrangers) {
  int rpcs = 0;
  for (const google::protobuf::FileDescriptor* file :
       {v1::StudyRequest::descriptor()->file(), v1::Beat::descriptor()->file(),
        v1::GetRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        const std::string method =
            absl::StrCat(file->service(s)->name(), "/", file->service(s)->method(m)->name());
        EXPECT_TRUE(Allowed("user", method) || Allowed("worker", method)) << method << " has no rule";
        for (const char* stranger : {"", "coordinator", "admin", "User", "worker "}) {
          EXPECT_FALSE(Allowed(stranger, method)) << stranger << " may call " << method;
        }
        ++rpcs;
      }
    }
  }
  EXPECT_EQ(rpcs, 19);
  EXPECT_FALSE(Allowed("user", "Cluster/CompleteTasks"));
  EXPECT_FALSE(Allowed("user", "Blobs/Holding"));
  EXPECT_FALSE(Allowed("worker", "Studies/Submit"));
  EXPECT_FALSE(Allowed("worker", "Studies/Quarantine"));
  EXPECT_FALSE(Allowed("worker", "Studies/Release"));
  EXPECT_FALSE(Allowed("worker", "Studies/NoSuchThing"));
}

// A whole coordinator in this process.
class ServicesTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(true); }
  void TearDown() override {
    streams->CloseAll("end");
    watches->CloseAll("end");
    server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
    thread->Stop();
    server.reset();
    watches.reset();
    std::filesystem::remove_all(folder);
  }

  void Start(bool insecure) {
    std::string name = (std::filesystem::temp_directory_path() / "dermis-services-XXXXXX").string();
    folder = mkdtemp(name.data());
    journal = *OpenSqliteJournal(folder + "/store");
    store = *BlobStore::Open(folder + "/store/blobs", {});
    blobs = std::make_unique<StoredBlobs>(*store, 0);
    streams = std::make_unique<Streams>();
    core = std::make_unique<Core>(Clock::Real(), *journal, *streams, *blobs,
                                  Core::Options{.grace = absl::ZeroDuration()});
    ASSERT_TRUE(core->Open().ok());
    thread = std::make_unique<CoreThread>(*core, [](const absl::Status& s) { FAIL() << s; });
    streams->SetCore(thread.get());
    access = std::make_unique<Access>(insecure);
    watches = std::make_unique<Watches>(*thread, absl::Milliseconds(5));
    cluster = std::make_unique<ClusterService>(*access, *thread, *streams, *blobs, *journal);
    studies = std::make_unique<StudyService>(*access, *thread, *blobs, *watches, *journal);
    blob_service = std::make_unique<BlobService>(
        *access, *store, holders, [this](const Digest& blob, const absl::Status& why) {
          lost = {blob, why};
        });
    std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
    if (!insecure) {
      ASSERT_TRUE(MakeClusterCertificates(folder + "/certs", {}).ok());
      credentials = MutualTlsServerCredentials(*LoadIdentity(folder + "/certs", "coordinator"));
    }
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", credentials, &port);
    builder.RegisterService(cluster.get());
    builder.RegisterService(studies.get());
    builder.RegisterService(blob_service.get());
    server = builder.BuildAndStart();
    ASSERT_NE(server, nullptr);
    if (insecure) channel = MakeChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials());
  }
  std::shared_ptr<grpc::Channel> ChannelOf(const std::string& role) {
    return MakeChannel(absl::StrCat("127.0.0.1:", port),
                       ClientCredentials(*LoadIdentity(folder + "/certs", role)));
  }

  std::string folder;
  std::unique_ptr<Journal> journal;
  std::unique_ptr<BlobStore> store;
  std::unique_ptr<StoredBlobs> blobs;
  std::unique_ptr<Streams> streams;
  std::unique_ptr<Core> core;
  std::unique_ptr<CoreThread> thread;
  std::unique_ptr<Access> access;
  std::unique_ptr<Watches> watches;
  std::unique_ptr<ClusterService> cluster;
  std::unique_ptr<StudyService> studies;
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
  v1::ImageSetManifest manifest = *FakeManifest(60);
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
  v1::WorkerMessage message;
  message.mutable_register_()->set_worker("w");
  message.mutable_register_()->set_incarnation("1");
  message.mutable_register_()->set_numerics_class("test");
  message.mutable_register_()->set_software_version("0.0.0-other");
  message.mutable_register_()->set_threads(1);
  stream->Write(message);
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
    v1::WorkerMessage message;
    message.mutable_register_()->set_worker("w");
    message.mutable_register_()->set_incarnation("1");
    message.mutable_register_()->set_numerics_class("test");
    message.mutable_register_()->set_software_version(kVersion);
    message.mutable_register_()->set_threads(1);
    stream->Write(message);
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
  void SetUp() override { Start(false); }
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
