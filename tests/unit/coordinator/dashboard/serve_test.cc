// The dashboard as the coordinator runs it, over a real core thread, journal and sockets.
#include "coordinator/dashboard/serve.h"

#include <atomic>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/clock.h"
#include "common/log.h"
#include "coordinator/completion.h"
#include "coordinator/study_run.h"
#include "tests/simulation/fakes.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/coordinator/loopback_socket.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kClass[] = "fake/1";
constexpr int kImages = 80;

class ServeTest : public testing::Test {
 protected:
  void SetUp() override {
    SetLogLevel(static_cast<LogLevel>(4));
    journal_ = *OpenSqliteJournal(folder_.path());
    store_ = *BlobStore::Open(folder_ / "blobs", {});
    audit_ = *AuditLog::Open(folder_ / "audit.jsonl", Clock::Real());
    const std::string pixels(kImages * 32 * 32 * 3, '\x7f');
    auto manifest = std::make_shared<v1::ImageSetManifest>(*FakeManifest(kImages));
    manifest->mutable_chunks(0)->set_pixels(store_->Put(pixels)->bytes());
    manifest->mutable_images(0)->set_digest(Sha256Of(pixels.substr(0, 32 * 32 * 3)).bytes());
    blobs_.Put(pixels);
    core_ = std::make_unique<Core>(Clock::Real(), *journal_, outbox_, blobs_, Core::Options());
    ASSERT_TRUE(core_->Open().ok());
    RunStudy(manifest);
    if (HasFatalFailure()) return;
    thread_ = std::make_unique<CoreThread>(*core_, [](const absl::Status&) { FAIL(); });
    desk_ = std::make_unique<QuestionDesk>(*thread_);
    const DashboardOptions options = {"127.0.0.1:0", std::nullopt, folder_.path(), "no decoder"};
    auto parts = ServeDashboard(options, *thread_, *journal_, blobs_, *store_, *desk_, *audit_);
    ASSERT_TRUE(parts.ok()) << parts.status();
    parts_ = *std::move(parts);
    token_ = std::string(absl::StripAsciiWhitespace(FileBytes(folder_ / "dashboard-token")));
  }

  // A study that has explained its images.
  void RunStudy(const std::shared_ptr<const v1::ImageSetManifest>& manifest) {
    v1::Register hello;
    hello.set_worker("w1");
    hello.set_incarnation("1");
    hello.set_numerics_class(kClass);
    hello.set_software_version(kVersion);
    core_->WorkerConnected(1, hello);
    Submission submission;
    submission.spec = *FakeSpec("a", 1, 0, kFakeExplanation);
    submission.image_set = *Digest::FromBytes(blobs_.Put(manifest->SerializeAsString()));
    submission.manifest = manifest;
    core_->Submit(submission,
                  [](const auto& answer) { ASSERT_TRUE(answer.ok()) << answer.status(); });
    ASSERT_TRUE(core_->Flush().ok());
    const SweepPlanner::Training& training =
        core_->studies().all().at("a")->run->sweep().training(0);
    const v1::Recipe recipe = training.recipe;
    const uint64_t per_epoch = training.planner.steps_per_epoch();
    const Split split =
        *MakeSplit(*manifest, recipe.images().split(), recipe.images().split_seed());
    const auto complete = [&](const v1::TaskSpec& task, const v1::Payload& payload) {
      core_->CompleteTasks({CheckCompletion(FakeCompletion(task, payload, "w1"), blobs_)},
                           [](const auto&) {});
      ASSERT_TRUE(core_->Flush().ok());
    };
    v1::Payload trained;
    *trained.mutable_train() = FakeState(recipe, kClass, per_epoch, per_epoch, blobs_);
    complete(TrainTaskOf(recipe, per_epoch, kClass), trained);
    for (int i = 0; i < 10000 && core_->Status("a")->phase() == v1::StudyStatus::RUNNING; ++i) {
      ASSERT_FALSE(core_->studies().units().empty());
      const v1::TaskSpec task =
          core_->studies().units().begin()->second.spec;  // As if the worker had sent it.
      complete(task, FakePayload(task, split));
    }
    ASSERT_EQ(core_->Status("a")->phase(), v1::StudyStatus::DONE);
  }

  // The whole response; "": none came.
  std::string Ask(const std::string& what, const std::string& body = "") {
    Socket client(parts_.server->port());
    client.Say(absl::StrCat(what,
                            " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ",
                            token_, "\r\nContent-Length: ", body.size(), "\r\n\r\n", body));
    return client.Hear(absl::Seconds(20), std::string("\x01\x02\x03", 3));
  }

  TestFolder folder_;
  FakeBlobs blobs_;
  RecordingOutbox outbox_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<BlobStore> store_;
  std::unique_ptr<AuditLog> audit_;
  std::unique_ptr<Core> core_;
  std::unique_ptr<CoreThread> thread_;
  std::unique_ptr<QuestionDesk> desk_;
  DashboardParts parts_;
  std::string token_;
};

TEST_F(ServeTest, ReadsAreAnswered_WhileTheCoreThreadStandsStill) {
  const absl::Duration until = Clock::Real().Now() + absl::Seconds(60);
  while (!absl::StrContains(Ask("GET /api/studies"), "\"id\":\"a\"") ||
         !absl::StrContains(Ask("GET /api/history"), "submitted")) {
    ASSERT_LT(Clock::Real().Now(), until) << "no snapshot, or nothing of the journal";
  }
  absl::Notification stands, goes_on;
  std::atomic<bool> went_on = false;
  thread_->Post([&](Core&) {
    stands.Notify();
    goes_on.WaitForNotification();
  });
  const absl::Cleanup release = [&] {
    if (!goes_on.HasBeenNotified()) goes_on.Notify();
    thread_->Stop();
  };
  stands.WaitForNotification();
  thread_->Post([&](Core&) { went_on = true; });
  for (const auto& [what, shows] : std::vector<std::pair<std::string, std::string>>{
           {"GET /", "<title>"},
           {"GET /healthz", "ok"},
           {"GET /metrics", "dermis_studies{"},
           {"GET /api/cluster", "\"workers\""},
           {"GET /api/studies", "\"id\":\"a\""},
           {"GET /api/history", "submitted"},
           {"GET /api/history?study=a", "submitted"},
           {"GET /api/studies/a", "\"spec\""},
           {"GET /api/studies/a/trials", "\"trials\""},
           {"GET /api/studies/a/trials.csv", "trial,"},
           {"GET /api/studies/a/trials.jsonl", "\"trial\""},
           {"GET /api/studies/a/parallel", "{"},
           {"GET /api/studies/a/curves", "{"},
           {"GET /api/studies/a/importance", "\"keys\""},
           {"GET /api/studies/a/failures", "\"failures\""},
           {"GET /api/studies/a/explanations", "\"rows\""},
           {"GET /api/studies/a/explanations/0/0", "\"maps\""},
           {"GET /api/studies/a/images/0", "image/bmp"}}) {
    const std::string answer = Ask(what);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200")) << what;
    EXPECT_THAT(answer, HasSubstr(shows)) << what;
  }
  EXPECT_THAT(Ask("POST /api/session", token_), StartsWith("HTTP/1.1 204"));
  // Not ready any more, once the snapshot is old.
  EXPECT_THAT(Ask("GET /readyz"),
              testing::AnyOf(StartsWith("HTTP/1.1 200"), StartsWith("HTTP/1.1 503")));
  EXPECT_FALSE(went_on) << "the core thread did not stand still";
  goes_on.Notify();
  while (!went_on) {
    ASSERT_LT(Clock::Real().Now(), until + absl::Seconds(60));
    absl::SleepFor(absl::Milliseconds(1));
  }
}

}  // namespace
}  // namespace dermis
