// Spot checks: who makes them, what a difference leads to, and what is not believed any more.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/log.h"
#include "common/split.h"
#include "common/tasks.h"
#include "coordinator/core.h"
#include "tests/simulation/fakes.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

constexpr char kClass[] = "fake/1";
constexpr char kLime[] =
    "explanation:\n"
    "  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 0}}\n"
    "  methods: [{lime: {samples: 20}}]\n";

// Workers that do at once what they are told; those of `liars` give wrong logits.
class SpotCheckTest : public testing::Test {
 protected:
  void SetUp() override {
    SetLogLevel(static_cast<LogLevel>(4));
    image_set_ = *Digest::FromBytes(PutSet(blobs_, *manifest_));
    const v1::Recipe recipe = RecipeOf(*FakeSpec("a", 1, 0, ""), image_set_);
    split_ = *MakeSplit(*manifest_, recipe.images().split(), recipe.images().split_seed());
    per_epoch_ = StepsPerEpoch(split_.training.size(), recipe.batch_size());
    Start(1);
  }

  void Start(double part) {
    core_.reset();
    outbox_ = RecordingOutbox();
    connections_.clear();
    journal_ = std::make_unique<MemoryJournal>(disk_);
    Core::Options options;
    options.spot_checks = part;
    core_ = std::make_unique<Core>(clock_, *journal_, outbox_, blobs_, options);
    ASSERT_TRUE(core_->Open().ok());
  }

  void Join(const std::string& name, const std::string& host = "") {
    v1::Register hello;
    hello.set_worker(name);
    hello.set_incarnation("1");
    hello.set_numerics_class(kClass);
    hello.set_software_version(kVersion);
    hello.set_host(host);
    core_->WorkerConnected(++connection_, hello);
    connections_[connection_] = name;
    ASSERT_TRUE(core_->Flush().ok());
  }

  void Submit(const v1::StudySpec& spec) {
    Submission submission;
    submission.spec = spec;
    submission.image_set = image_set_;
    submission.manifest = manifest_;
    core_->Submit(submission, [](const absl::StatusOr<v1::SubmitResponse>& r) {
      EXPECT_TRUE(r.ok()) << r.status();
    });
    ASSERT_TRUE(core_->Flush().ok());
  }

  v1::CompletionReply Complete(v1::Completion completion) {
    v1::CompletionReply out;
    core_->CompleteTasks({CheckCompletion(std::move(completion), blobs_)},
                         [&](const v1::CompleteTasksResponse& r) { out = r.replies(0); });
    EXPECT_TRUE(core_->Flush().ok());
    return out;
  }

  v1::Completion Completion(const v1::TaskSpec& task, const std::string& worker) {
    v1::Payload payload = FakePayload(task, split_);
    if (liars_.contains(worker) && payload.has_evaluate()) {
      payload.mutable_evaluate()->set_logits(
          0, payload.evaluate().logits(0) + static_cast<float>(worker.back()));
    }
    return FakeCompletion(task, payload, worker);
  }

  // Everyone does what is assigned; one round.
  void Work() {
    clock_.Advance(absl::Milliseconds(200));
    core_->Tick();
    ASSERT_TRUE(core_->Flush().ok());
    auto sent = std::exchange(outbox_.sent, {});
    for (const auto& [connection, directives] : sent) {
      const std::string& name = connections_.at(connection);
      for (const v1::Directive& directive : directives) {
        if (!directive.has_assign()) continue;
        const v1::Assign& assign = directive.assign();
        for (const v1::TaskSpec& task : assign.bundle().tasks()) {
          runs_[*TaskDigest(task)].push_back(name);
          Complete(Completion(task, name));
        }
        if (assign.has_gang() && assign.gang().rank() == 0) Train(assign.gang(), name);
        v1::AttemptEnded ended;
        ended.set_assignment(assign.assignment());
        ended.set_outcome(v1::OUTCOME_DONE);
        core_->AttemptEnded(connection, ended);
      }
    }
    for (const auto& [connection, name] : connections_) core_->WorkerBeat(connection, v1::Beat());
  }

  void Train(const v1::GangSeat& seat, const std::string& worker) {
    for (uint64_t step = seat.start_step() + 1; step <= seat.goal().max_epochs() * per_epoch_;
         ++step) {
      if (step % per_epoch_ != 0) continue;
      v1::Payload payload;
      *payload.mutable_train() = FakeState(seat.recipe(), kClass, step, per_epoch_, blobs_);
      v1::Completion completion =
          FakeCompletion(TrainTaskOf(seat.recipe(), step, kClass), payload, worker);
      for (const v1::GangMember& member : seat.roster()) {
        completion.mutable_attempt()->add_gang(member.worker());
      }
      ++states_;
      Complete(std::move(completion));
    }
  }

  v1::StudyStatus RunToEnd(const std::string& id, int rounds = 100) {
    for (int i = 0; i < rounds && core_->Status(id)->phase() == v1::StudyStatus::RUNNING; ++i)
      Work();
    return *core_->Status(id);
  }

  // All units that the study stands on are what honest workers give.
  void ExpectHonest(const std::string& id) {
    const Studies& studies = core_->studies();
    for (const auto& [task, stored] : studies.state().tasks()) {
      if (!stored.recipe.none() || !studies.Has(*studies.all().at(id), task)) continue;
      for (const auto& [bytes, name] : disk_.results) {
        if (bytes != task) continue;
        v1::Event event;
        event.ParseFromString(disk_.rows[name].second);
        EXPECT_EQ(stored.payload,
                  Sha256Of(FakePayload(event.task_completed().spec(), split_).SerializeAsString()));
      }
    }
  }

  absl::StatusOr<v1::QuarantineResponse> Quarantine(const std::string& worker) {
    absl::StatusOr<v1::QuarantineResponse> out = absl::UnknownError("no answer");
    core_->Quarantine(worker, "ann",
                      [&](const absl::StatusOr<v1::QuarantineResponse>& r) { out = r; });
    EXPECT_TRUE(core_->Flush().ok());
    return out;
  }
  absl::Status Release(const std::string& worker) {
    absl::Status out = absl::UnknownError("no answer");
    core_->Release(worker, "ann",
                   [&](const absl::StatusOr<v1::ReleaseResponse>& r) { out = r.status(); });
    EXPECT_TRUE(core_->Flush().ok());
    return out;
  }

  FakeClock clock_;
  FakeDisk disk_;
  FakeBlobs blobs_;
  RecordingOutbox outbox_;
  std::shared_ptr<const v1::ImageSetManifest> manifest_ = FakeManifest(60);
  Digest image_set_;
  Split split_;
  uint64_t per_epoch_ = 0, states_ = 0;
  std::unique_ptr<MemoryJournal> journal_;
  std::unique_ptr<Core> core_;
  ConnectionId connection_ = 0;
  std::map<ConnectionId, std::string> connections_;
  std::set<std::string> liars_;
  std::map<Digest, std::vector<std::string>> runs_;  // Of units: who ran them.
};

TEST(SpotCheck, ThePartThatIsChosen_IsAsLargeAsAsked_AndAlwaysTheSame) {
  int chosen = 0;
  for (int i = 0; i < 20000; ++i) {
    const Digest task = Sha256Of(absl::StrCat(i));
    EXPECT_FALSE(IsChosenForCheck(task, 0));
    EXPECT_TRUE(IsChosenForCheck(task, 1));
    chosen += IsChosenForCheck(task, 0.01);
    EXPECT_LE(IsChosenForCheck(task, 0.01), IsChosenForCheck(task, 0.02));
  }
  EXPECT_NEAR(chosen, 200, 45);
}

TEST_F(SpotCheckTest, EveryChosenUnit_IsRunByASecondWorker_BeforeTheStudyIsDone) {
  Join("w1");
  Join("w2");
  Submit(*FakeSpec("a", 1, 0, kLime));
  const v1::StudyStatus status = RunToEnd("a");
  ASSERT_EQ(status.phase(), v1::StudyStatus::DONE) << status.DebugString();
  ASSERT_GT(runs_.size(), 5u);
  for (const auto& [task, workers] : runs_) {
    ASSERT_EQ(workers.size(), 2u);
    EXPECT_NE(workers[0], workers[1]);
  }
  EXPECT_EQ(status.spot_checks().same(), runs_.size());
  EXPECT_EQ(status.spot_checks().open() + status.spot_checks().waived(), 0u);
}

TEST_F(SpotCheckTest, AChosenUnit_GoesToAnotherHost_WhereThereIsOne) {
  Join("w1", "here");
  Join("w2", "here");
  Join("w3", "there");
  Submit(*FakeSpec("a", 1, 0, kLime));
  ASSERT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  for (const auto& [task, workers] : runs_) {
    ASSERT_EQ(workers.size(), 2u);
    EXPECT_EQ((workers[0] == "w3") + (workers[1] == "w3"), 1);
  }
}

TEST_F(SpotCheckTest, OfASingleWorker_NothingIsChecked_AndThatIsSaid) {
  Join("w1");
  Submit(*FakeSpec("a", 1, 0, kLime));
  const v1::StudyStatus status = RunToEnd("a");
  ASSERT_EQ(status.phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(status.spot_checks().same(), 0u);
  EXPECT_EQ(status.spot_checks().waived(), runs_.size());
  // A second worker that comes later does not make a study that is done go on.
  Join("w2");
  Work();
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::DONE);
}

TEST_F(SpotCheckTest, WithoutSpotChecks_NothingRunsTwice) {
  Start(0);
  Join("w1");
  Join("w2");
  Submit(*FakeSpec("a", 1, 0, kLime));
  ASSERT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  for (const auto& [task, workers] : runs_) EXPECT_EQ(workers.size(), 1u);
}

TEST_F(SpotCheckTest, AWorkerThatIsOutvoted_IsQuarantined_AndItsResultsAreComputedAgain) {
  liars_ = {"w1"};
  for (const char* name : {"w1", "w2", "w3"}) Join(name);
  Submit(*FakeSpec("a", 2, 0, kLime));
  const v1::StudyStatus status = RunToEnd("a");
  ASSERT_EQ(status.phase(), v1::StudyStatus::DONE) << status.DebugString() << core_->DescribeWork();
  ExpectHonest("a");
  const v1::ClusterStatusResponse cluster = core_->ClusterStatus();
  ASSERT_EQ(cluster.quarantined_size(), 1);
  EXPECT_EQ(cluster.quarantined(0).worker(), "w1");
  EXPECT_GT(cluster.quarantined(0).withdrawn(), 0u);
  EXPECT_THAT(cluster.quarantined(0).why(), HasSubstr("w2 and w3"));
  EXPECT_THAT(cluster.alarms(0), HasSubstr("dermis cluster release w1"));
  for (const auto& worker : cluster.workers()) {
    EXPECT_EQ(worker.state(), worker.worker() == "w1" ? "quarantined" : "idle");
  }
  // A training that it had a part in is made again, by the others alone.
  for (const auto& [task, stored] : core_->studies().state().tasks()) {
    EXPECT_THAT(core_->studies().state().MakersOf(stored), testing::Not(testing::Contains("w1")));
  }

  // It stays so, whatever it says and whenever it comes back, until somebody releases it.
  const std::string dump = core_->Dump();
  Start(1);
  EXPECT_EQ(core_->Dump(), dump);
  for (const char* name : {"w1", "w2"}) Join(name);
  clock_.Advance(absl::Seconds(3));
  runs_.clear();
  Submit(*FakeSpec("b", 3, 0, ""));
  RunToEnd("b");
  for (const auto& [task, workers] : runs_)
    EXPECT_THAT(workers, testing::Not(testing::Contains("w1")));
  ASSERT_EQ(core_->Status("b")->phase(), v1::StudyStatus::DONE);

  liars_.clear();
  EXPECT_TRUE(Release("w1").ok());
  EXPECT_EQ(core_->ClusterStatus().quarantined_size(), 0);
  runs_.clear();
  Submit(*FakeSpec("c", 4, 0, kLime));
  ASSERT_EQ(RunToEnd("c").phase(), v1::StudyStatus::DONE);
  std::set<std::string> ran;
  for (const auto& [task, workers] : runs_) ran.insert(workers.begin(), workers.end());
  EXPECT_TRUE(ran.contains("w1"));
  EXPECT_EQ(Release("w1").code(), absl::StatusCode::kNotFound);
}

// The usual part: hardly any unit is looked at, and what a liar gave stands until one of his is.
TEST_F(SpotCheckTest,
       OneUnitInAHundred_FindsTheLiarInTheEnd_AndAStudyThatWasDoneByHimIsComputedAgain) {
  Start(0.01);
  for (const char* name : {"w1", "w2", "w3"}) Join(name);
  const auto run = [&](const std::string& name, int number) {
    v1::StudySpec spec = *FakeSpec(name, 1, 0, "");
    // Another training, with units of its own.
    spec.mutable_training()->set_label_smoothing(number * 1e-4);
    Submit(spec);
    return RunToEnd(name).phase();
  };
  // Whoever is given most of such a study's units is the liar.
  ASSERT_EQ(run("before", 0), v1::StudyStatus::DONE);
  std::map<std::string, int> units_of;
  for (const auto& [task, workers] : runs_) ++units_of[workers[0]];
  std::string liar = "w1";
  for (const auto& [name, units] : units_of) {
    if (units > units_of[liar]) liar = name;
  }
  liars_ = {liar};
  const auto wrong = [&] {
    int units = 0;
    for (const auto& [task, stored] : core_->studies().state().tasks()) {
      const absl::StatusOr<v1::TaskResult> result = journal_->ReadResult(task);
      v1::Payload payload;
      if (!result.ok() || !payload.ParseFromString(result->payload()) || !payload.has_evaluate())
        continue;
      if (!core_->studies().Has(*core_->studies().all().at("a"), task)) continue;
      units += std::abs(payload.evaluate().logits(0)) > 20;
    }
    return units;
  };
  ASSERT_EQ(run("a", 1), v1::StudyStatus::DONE);
  ASSERT_GT(wrong(), 0);
  ASSERT_FALSE(core_->studies().state().IsQuarantined(liar));

  int studies = 0;
  while (!core_->studies().state().IsQuarantined(liar) && studies < 300) {
    ++studies;
    run(absl::StrCat("later-", studies), studies + 1);
  }
  ASSERT_TRUE(core_->studies().state().IsQuarantined(liar));
  EXPECT_GT(studies, 3) << "not one unit in a hundred was checked, but most";
  EXPECT_GT(core_->ClusterStatus().quarantined(0).withdrawn(), 0u);
  ASSERT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(wrong(), 0);
  ExpectHonest("a");
}

TEST_F(SpotCheckTest, WhereTwoDiffer_AndNoThirdIsThere_TheStudyIsNotDone_AndItsStatusSaysWhatToDo) {
  liars_ = {"w2"};
  Join("w1");
  Join("w2");
  Submit(*FakeSpec("a", 1, 0, ""));
  v1::StudyStatus status = RunToEnd("a", 50);
  EXPECT_EQ(status.phase(), v1::StudyStatus::RUNNING);
  EXPECT_THAT(status.ShortDebugString(), HasSubstr("none is to be trusted"));
  EXPECT_THAT(status.ShortDebugString(), HasSubstr("dermis cluster quarantine NAME"));
  EXPECT_GT(core_->ClusterStatus().disputes_size(), 0);
  clock_.Advance(absl::Minutes(10));  // Time alone makes nothing true.
  for (const char* name : {"w1", "w2"}) Join(name);
  EXPECT_EQ(RunToEnd("a", 50).phase(), v1::StudyStatus::RUNNING);

  EXPECT_TRUE(Quarantine("w2").ok());
  status =
      RunToEnd("a");  // The second worker might come back: its checks are waived after a while.
  EXPECT_EQ(status.phase(), v1::StudyStatus::DONE) << status.DebugString();
  ExpectHonest("a");
  EXPECT_EQ(Quarantine("w7").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SpotCheckTest, AThirdWorkerThatComesLater_Decides) {
  liars_ = {"w1"};
  Join("w1");
  Join("w2");
  Submit(*FakeSpec("a", 1, 0, ""));
  ASSERT_EQ(RunToEnd("a", 50).phase(), v1::StudyStatus::RUNNING);
  Join("w3");
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  EXPECT_TRUE(core_->studies().state().IsQuarantined("w1"));
  ExpectHonest("a");
}

TEST_F(SpotCheckTest,
       WhatWasComputedFromAWithdrawnResult_IsWithdrawnToo_AndRefusedWhereItComesLate) {
  Start(0);
  v1::TaskSpec superpixels, perturb;
  superpixels.mutable_superpixels()->set_image(1);
  superpixels = MakeTask(superpixels, kClass);
  perturb.mutable_perturb()->mutable_perturbation()->mutable_lime()->set_samples(2);
  perturb = MakeTask(perturb, kClass);
  v1::TaskSpec later = perturb;
  later.mutable_perturb()->mutable_perturbation()->set_image(7);
  const v1::Completion input = FakeCompletion(superpixels, FakePayload(superpixels, split_), "w1");
  v1::UsedResult used;
  used.set_task(TaskDigest(superpixels)->bytes());
  used.set_payload(Sha256Of(input.result().payload()).bytes());
  const auto from_it = [&](const v1::TaskSpec& task) {
    v1::Completion completion = FakeCompletion(task, FakePayload(task, split_), "w2");
    *completion.add_inputs() = used;
    return completion;
  };
  EXPECT_EQ(Complete(from_it(perturb)).verdict(),
            v1::CompletionReply::STALE);  // It is not stored yet.
  ASSERT_EQ(Complete(input).verdict(), v1::CompletionReply::STORED);
  ASSERT_EQ(Complete(from_it(perturb)).verdict(), v1::CompletionReply::STORED);
  EXPECT_EQ(Quarantine("w1")->worker().withdrawn(), 2u);
  EXPECT_EQ(core_->studies().state().completed(), 0u);
  const v1::CompletionReply reply = Complete(from_it(later));
  EXPECT_EQ(reply.verdict(), v1::CompletionReply::STALE);
  ASSERT_EQ(reply.stale_size(), 1);
  EXPECT_EQ(reply.stale(0), used.task());
  // Nor does the quarantined worker's own count.
  EXPECT_EQ(Complete(input).verdict(), v1::CompletionReply::STALE);
  // From another worker's result of the same bits it is right again.
  v1::Completion again = input;
  again.mutable_attempt()->set_worker("w3");
  ASSERT_EQ(Complete(again).verdict(), v1::CompletionReply::STORED);
  EXPECT_EQ(Complete(from_it(later)).verdict(), v1::CompletionReply::STORED);
}

TEST_F(SpotCheckTest, AnOlderJournalReplays_AndWhatMayComeFromAWithdrawnResultGoesWithIt) {
  Start(0);
  v1::TaskSpec superpixels, perturb;
  superpixels.mutable_superpixels()->set_image(1);
  superpixels = MakeTask(superpixels, kClass);
  perturb.mutable_perturb()->mutable_perturbation()->mutable_lime()->set_samples(2);
  perturb = MakeTask(perturb, kClass);
  ASSERT_EQ(Complete(FakeCompletion(superpixels, FakePayload(superpixels, split_), "w1")).verdict(),
            v1::CompletionReply::STORED);
  // It does not say what it was computed from.
  ASSERT_EQ(Complete(FakeCompletion(perturb, FakePayload(perturb, split_), "w2")).verdict(),
            v1::CompletionReply::STORED);
  Start(1);
  EXPECT_EQ(core_->studies().state().checks().size(), 0u);  // What was done before is not checked.
  EXPECT_EQ(core_->studies().state().ResultsThrough("w1").size(), 2u);
  EXPECT_EQ(core_->studies().state().ResultsThrough("w2").size(), 1u);
}

}  // namespace
}  // namespace dermis
