// Snapshots of a real core, without threads.
#include "coordinator/dashboard/snapshot.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/log.h"
#include "coordinator/completion.h"
#include "coordinator/study_run.h"
#include "tests/simulation/fakes.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

constexpr char kClass[] = "fake/1";
const absl::Time kNow = absl::FromUnixSeconds(1'600'000'000);

class SnapshotTest : public testing::Test {
 protected:
  void SetUp() override {
    SetLogLevel(static_cast<LogLevel>(4));
    image_set_ = *Digest::FromBytes(PutSet(blobs_, *manifest_));
    core_ = std::make_unique<Core>(clock_, journal_, outbox_, blobs_, Core::Options());
    ASSERT_TRUE(core_->Open().ok());
    v1::Register hello;
    hello.set_worker("w1");
    hello.set_incarnation("1");
    hello.set_numerics_class(kClass);
    hello.set_software_version(kVersion);
    core_->WorkerConnected(1, hello);
    ASSERT_TRUE(core_->Flush().ok());
  }

  void Submit(const std::string& name, int epochs, const std::string& more) {
    const auto spec = FakeSpec(name, epochs, 0, more);
    ASSERT_TRUE(spec.ok()) << spec.status();
    Submission submission;
    submission.spec = *spec;
    submission.image_set = image_set_;
    submission.manifest = manifest_;
    PutSet(blobs_, *manifest_);  // A deleted study took it away.
    core_->Submit(submission, [](const absl::StatusOr<v1::SubmitResponse>& answer) {
      ASSERT_TRUE(answer.ok()) << answer.status();
    });
    ASSERT_TRUE(core_->Flush().ok());
  }

  const SweepPlanner& SweepOf(const std::string& id) {
    return core_->studies().all().at(id)->run->sweep();
  }

  void Complete(const v1::TaskSpec& task, const v1::Payload& payload) {
    core_->CompleteTasks({CheckCompletion(FakeCompletion(task, payload, "w1"), blobs_)},
                         [](const v1::CompleteTasksResponse& response) {
                           EXPECT_EQ(response.replies(0).verdict(), v1::CompletionReply::STORED)
                               << response.replies(0).cause();
                         });
    ASSERT_TRUE(core_->Flush().ok());
  }

  // A state of the trial's training after so many epochs.
  void Train(const std::string& id, uint32_t trial, uint32_t epochs) {
    const SweepPlanner::Training& training = SweepOf(id).training(trial);
    const uint64_t per_epoch = training.planner.steps_per_epoch(), step = epochs * per_epoch;
    v1::Payload payload;
    *payload.mutable_train() = FakeState(training.recipe, kClass, step, per_epoch, blobs_);
    Complete(TrainTaskOf(training.recipe, step, kClass), payload);
  }

  std::shared_ptr<const StudySnapshot> Look(const std::string& id) {
    return photographer_.Look(*core_, kNow)->Find(id);
  }

  FakeClock clock_;
  FakeDisk disk_;
  MemoryJournal journal_{disk_};
  RecordingOutbox outbox_;
  FakeBlobs blobs_;
  std::shared_ptr<const v1::ImageSetManifest> manifest_ = FakeManifest(80);
  Digest image_set_;
  std::unique_ptr<Core> core_;
  Photographer photographer_;
};

constexpr char kSweep[] =
    "sweep: {axes: [{key: training.clip_norm, values: [1, 2, 3]}, {key: training.augment, values: "
    "[true, false]}]}\n";

TEST_F(SnapshotTest, TrialsCurvesAndScores_AreThoseOfTheSweep) {
  Submit("a", 3, kSweep);
  Train("a", 4, 2);
  const auto study = Look("a");
  ASSERT_NE(study, nullptr);
  EXPECT_EQ(study->status.phase(), v1::StudyStatus::RUNNING);
  ASSERT_EQ(study->trials.size(), 6u);
  EXPECT_EQ(study->settings->table().values[0][4], "3");
  EXPECT_EQ(study->settings->table().values[1][5], "false");
  EXPECT_EQ(study->curves[0], nullptr);
  ASSERT_NE(study->curves[4], nullptr);
  EXPECT_EQ(study->curves[4]->points.size(), 2u);
  // Not judged yet: its best epoch so far.
  EXPECT_FALSE(study->trials[4].scored);
  EXPECT_EQ(study->trials[4].score, std::min(study->curves[4]->points[0].validation_loss,
                                             study->curves[4]->points[1].validation_loss));
  for (uint32_t t = 0; t < 6; ++t) Train("a", t, 3);
  const auto after = Look("a");
  int chosen = 0;
  for (const TrialRow& row : after->trials) {
    EXPECT_TRUE(row.scored);
    chosen += row.state == TrialView::kChosen;
  }
  EXPECT_EQ(chosen, 1);
}

TEST_F(SnapshotTest, SettingsWhoseKeysEndAlike_AreToldApart) {
  Submit("a", 2,
         "sweep: {axes: [{key: images.size, values: [16, 32]}, {key: training.augment, values: "
         "[true]}]}\n");
  EXPECT_THAT(Look("a")->settings->table().keys, testing::ElementsAre("size", "augment"));
  v1::StudySpec spec = Look("a")->spec();
  spec.mutable_sweep()->mutable_axes(0)->set_key("training.optimizer.sgd.momentum");
  spec.mutable_sweep()->mutable_axes(1)->set_key("training.optimizer.rmsprop.momentum");
  EXPECT_THAT(TrialSettings(spec).table().keys,
              testing::ElementsAre("training.optimizer.sgd.momentum",
                                   "training.optimizer.rmsprop.momentum"));
}

TEST_F(SnapshotTest, WhatHasNotChanged_IsTheSameObject) {
  Submit("a", 3, kSweep);
  Submit("b", 3, "");
  Train("a", 0, 1);
  const auto first = photographer_.Look(*core_, kNow), second = photographer_.Look(*core_, kNow);
  EXPECT_EQ(first->Find("a"), second->Find("a"));
  Train("a", 1, 1);
  const auto third = photographer_.Look(*core_, kNow);
  EXPECT_NE(third->Find("a"), first->Find("a"));
  EXPECT_EQ(third->Find("a")->curves[0], first->Find("a")->curves[0]);
  EXPECT_EQ(third->Find("a")->settings, first->Find("a")->settings);
  EXPECT_EQ(third->Find("b"), first->Find("b"));
  // Those that hold the first one still see what was then.
  EXPECT_EQ(first->Find("a")->curves[1], nullptr);
}

TEST_F(SnapshotTest, AnotherStudyUnderTheNameOfADeletedOne_IsShownAsItIs) {
  for (int values = 1; values <= 3; ++values) {
    std::string list = "1";
    for (int v = 2; v <= values; ++v) absl::StrAppend(&list, ", ", v);
    Submit("a", 3, absl::StrCat("sweep: {axes: [{key: training.clip_norm, values: [", list, "]}]}\n"));
    const auto study = Look("a");
    EXPECT_EQ(study->trials.size(), static_cast<size_t>(values));
    EXPECT_EQ(study->settings->table().values[0].size(), static_cast<size_t>(values));
    core_->Cancel("a", [](const auto&) {});
    v1::DeleteRequest request;
    request.set_id("a");
    core_->Delete(request, "ann", [](const absl::StatusOr<v1::DeleteResponse>& r) { EXPECT_TRUE(r.ok()) << r.status(); });
    ASSERT_TRUE(core_->Flush().ok());
  }
}

TEST_F(SnapshotTest, AFailedTask_IsShownWithItsCause_UntilItIsRetried) {
  Submit("a", 3, kSweep);
  core_->Tick();
  ASSERT_TRUE(core_->Flush().ok());
  const v1::Assign* assign = nullptr;
  for (const v1::Directive& directive : outbox_.sent[1]) {
    if (directive.has_assign()) assign = &directive.assign();
  }
  ASSERT_NE(assign, nullptr);
  v1::AttemptEnded ended;
  ended.set_assignment(assign->assignment());
  ended.set_outcome(v1::OUTCOME_FAILED);
  ended.set_cause("the loss is not a number");
  ended.set_task(SweepOf("a").training(0).digest.bytes());
  core_->AttemptEnded(1, ended);
  ASSERT_TRUE(core_->Flush().ok());
  const auto study = Look("a");
  ASSERT_EQ(study->failures.size(), 1u);
  EXPECT_EQ(study->failures_total, 1u);
  EXPECT_THAT(study->failures[0].what, HasSubstr("trial 0 (clip_norm=1, augment=true)"));
  EXPECT_EQ(study->failures[0].cause, "the loss is not a number");
  EXPECT_EQ(study->failures[0].worker, "w1");
  core_->Retry("a", [](const auto&) {});
  ASSERT_TRUE(core_->Flush().ok());
  EXPECT_TRUE(Look("a")->failures.empty());
}

TEST_F(SnapshotTest, ExplanationsArrive_OneByOne_AndAllInTheEnd) {
  Submit("a", 1, kFakeExplanation);
  Train("a", 0, 1);
  const Split split = *MakeSplit(*manifest_, SweepOf("a").training(0).recipe.images().split(),
                                 SweepOf("a").training(0).recipe.images().split_seed());
  uint64_t before = 0;
  std::set<uint64_t> seen;
  for (int guard = 0; guard < 5000 && core_->Status("a")->phase() == v1::StudyStatus::RUNNING;
       ++guard) {
    // One task at a time, as if a worker had sent it.
    const auto& units = core_->studies().units();
    ASSERT_FALSE(units.empty());
    Digest least;
    for (const auto& [task, unit] : units) least = least.none() || task < least ? task : least;
    const v1::TaskSpec spec = units.at(least).spec;
    Complete(spec, FakePayload(spec, split));
    const auto study = Look("a");
    EXPECT_GE(study->explained_done, before);
    before = study->explained_done;
    seen.insert(before);
  }
  const auto study = Look("a");
  ASSERT_GT(study->explained.size(), 1u);
  EXPECT_THAT(study->methods,
              testing::ElementsAre("lime", "shapley", "grad_cam", "activation_maps"));
  EXPECT_EQ(study->explained_done, study->explained.size() * 4);
  EXPECT_GT(seen.size(), study->explained.size());
  for (const ExplainedRow& row : study->explained) {
    EXPECT_FALSE(row.methods[0].superpixels.none());
    EXPECT_TRUE(row.methods[2].superpixels.none());
  }
}

TEST_F(SnapshotTest, AWorkerIsBusy_AsLongAsItHasWork) {
  photographer_.Look(*core_, kNow);
  const auto idle = photographer_.Look(*core_, kNow + absl::Seconds(5));
  ASSERT_EQ(idle->workers.size(), 1u);
  EXPECT_EQ(idle->workers[0].busy_now, 0);
  Submit("a", 3, "");
  core_->Tick();
  ASSERT_TRUE(core_->Flush().ok());
  const auto busy = photographer_.Look(*core_, kNow + absl::Seconds(10));
  EXPECT_EQ(busy->workers[0].busy_now, .5);
  const auto then = photographer_.Look(*core_, kNow + absl::Seconds(15));
  EXPECT_THAT(then->workers[0].busy, testing::ElementsAre(0, 1));
  core_->WorkerDisconnected(1, "gone");
  EXPECT_TRUE(photographer_.Look(*core_, kNow + absl::Seconds(16))->workers.empty());
}

TEST_F(SnapshotTest, AWorkerThatJoinedByAToken_IsShownWithIt) {
  EXPECT_FALSE(photographer_.Look(*core_, kNow)->workers[0].joined.has_value());
  core_->ChangeTrust(
      [](const Trust&) -> absl::StatusOr<v1::Event> {
        v1::Event event;
        v1::IssuedCertificate& certificate = *event.mutable_certificate_issued()->mutable_certificate();
        certificate.set_serial("aaaaaaaa");
        certificate.set_name("w1");
        certificate.set_token("5f3a");
        certificate.set_issued_unix_s(7);
        return event;
      },
      [](const absl::Status& status) { EXPECT_TRUE(status.ok()) << status; });
  ASSERT_TRUE(core_->Flush().ok());
  const auto look = photographer_.Look(*core_, kNow);
  ASSERT_TRUE(look->workers[0].joined.has_value());
  EXPECT_EQ(look->workers[0].joined->token, "5f3a");
  EXPECT_EQ(look->workers[0].joined->issued_unix_s, 7u);
}

TEST_F(SnapshotTest, AProcessThatDied_IsToldOnce_WithItsLog) {
  const auto join = [&](ConnectionId connection, const std::string& process) {
    v1::Register hello;
    hello.set_worker("w1");
    hello.set_incarnation(process);
    hello.set_numerics_class(kClass);
    hello.set_software_version(kVersion);
    hello.set_last_end("killed by signal 9. End of its log:\n\xff");
    core_->WorkerConnected(connection, hello);
    ASSERT_TRUE(core_->Flush().ok());
  };
  EXPECT_TRUE(photographer_.Look(*core_, kNow)->ends.empty());
  core_->WorkerDisconnected(1, "");
  join(2, "2");
  const auto early = photographer_.Look(*core_, kNow + absl::Seconds(1));
  ASSERT_EQ(early->ends.size(), 1u);
  EXPECT_FALSE(early->ends[0].fresh);  // The coordinator has just started: who knows when that was.
  join(3, "2");                        // The same process on a new stream.
  EXPECT_EQ(photographer_.Look(*core_, kNow + absl::Seconds(20))->ends.size(), 1u);
  core_->WorkerDisconnected(3, "");
  join(4, "3");
  const auto late = photographer_.Look(*core_, kNow + absl::Seconds(40));
  ASSERT_EQ(late->ends.size(), 2u);
  EXPECT_TRUE(late->ends[1].fresh);
  EXPECT_EQ(late->ends[1].worker, "w1");
  EXPECT_THAT(late->ends[1].text, HasSubstr("signal 9"));
}

TEST_F(SnapshotTest, ThePublisherFollows_AndEndsBesideABusyCore) {
  CoreThread thread(*core_, [](const absl::Status&) {});
  {
    Publisher publisher(thread, absl::Milliseconds(1));
    uint64_t first = 0;
    for (int i = 0; i < 20'000; ++i) {
      const auto latest = publisher.Latest();
      if (latest != nullptr && first == 0) first = latest->sequence;
      if (latest != nullptr && latest->sequence > first) break;
      absl::SleepFor(absl::Milliseconds(1));
    }
    EXPECT_GT(publisher.Latest()->sequence, first);
    thread.Post([](Core&) { absl::SleepFor(absl::Milliseconds(50)); });
  }
  thread.Stop();
}

TEST(PhaseNameTest, AStudyThatIsPaused_IsNotSaidToRun) {
  v1::StudyStatus status;
  status.set_phase(v1::StudyStatus::RUNNING);
  EXPECT_STREQ(PhaseName(status), "running");
  status.set_paused(true);
  EXPECT_STREQ(PhaseName(status), "paused");
  status.set_phase(v1::StudyStatus::DONE);
  EXPECT_STREQ(PhaseName(status), "done");
}

}  // namespace
}  // namespace dermis
