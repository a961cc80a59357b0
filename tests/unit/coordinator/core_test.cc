#include "coordinator/core.h"

#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/log.h"
#include "common/split.h"
#include "common/tasks.h"
#include "coordinator/core_thread.h"
#include "coordinator/history.h"
#include "tests/simulation/fakes.h"
#include "tests/unit/coordinator/core_fixture.h"

namespace dermis {
namespace {

TEST_F(CoreTest, Study_RunsThroughAllStages) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 3, 0, kFakeExplanation)).ok());
  const v1::StudyStatus status = RunToEnd("a");
  EXPECT_EQ(status.phase(), v1::StudyStatus::DONE) << status.DebugString();
  const auto results = core_->Results("a");
  ASSERT_TRUE(results.ok()) << results.status();
  EXPECT_EQ(results->stop_epoch(), 3u);
  EXPECT_EQ(static_cast<size_t>(results->test_images_size()), split_.test.size());
  EXPECT_EQ(results->test_logits_size(), 2 * results->test_images_size());
  ASSERT_GT(results->explained_size(), 0);
  for (const auto& image : results->explained()) {
    EXPECT_EQ(image.results_size(), 4);
    for (const auto& method : image.results()) EXPECT_FALSE(method.result().task().empty());
    EXPECT_FALSE(image.results(0).superpixels().task().empty());
  }
}

TEST_F(CoreTest, SameStudyAgain_ComputesNothing_AndSaysSo) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, kFakeExplanation)).ok());
  RunToEnd("a");
  const uint64_t computed = computed_;
  const auto again = Submit(*FakeSpec("a", 2, 0, kFakeExplanation));
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->attached());
  EXPECT_EQ(again->id(), "a");
  EXPECT_EQ(again->reused(), computed);
  const v1::StudyStatus status = RunToEnd("a");
  EXPECT_EQ(status.phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(computed_, computed);
  for (const auto& stage : status.stages()) EXPECT_EQ(stage.computed(), 0u);
}

// That a study is done stands in no journal: it follows from its results. A version that names some
// tasks otherwise (expected gradients have had standard errors since) wants these, and nothing
// else.
TEST_F(CoreTest, FinishedStudyOfAnOlderVersion_ComputesWhatIsNamedOtherwiseNow_AndReusesTheRest) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0,
                               "explanation: {images: {per_confusion_cell: {most_confident: 1, "
                               "least_confident: 1, random: 0}}, methods: [expected_gradients, "
                               "lime: {samples: 260}], checks: {fidelity: false}}\n"))
                  .ok());
  ASSERT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  const auto payloads = [&] {
    std::map<Digest, std::string> of;
    const auto results = core_->Results("a");
    for (const auto& image : results->explained()) {
      const v1::TaskResult& result = image.results(0).result();
      of[*Digest::FromBytes(result.task())] = result.payload();
    }
    return of;
  };
  const std::map<Digest, std::string> now = payloads();
  ASSERT_GT(now.size(), 1u);
  size_t older = 0;
  for (size_t i = 0; i < disk_.rows.size(); ++i) {
    auto& [task, bytes] = disk_.rows[i];
    if (!now.contains(task)) continue;
    v1::Event event;
    ASSERT_TRUE(event.ParseFromString(bytes));
    disk_.results.erase(task);
    task = Sha256Of("as an older version named it: " + task.hex());
    event.mutable_task_completed()->mutable_result()->set_task(task.bytes());
    bytes = event.SerializeAsString();
    disk_.results[task] = i;
    ++older;
  }
  ASSERT_EQ(older, now.size());

  Start();
  names_.clear();
  ran_.clear();
  Join("w1");
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::RUNNING);
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(ran_.size(), now.size());
  EXPECT_EQ(starts_.size(), 1u) << "it was trained once";
  EXPECT_EQ(payloads(), now);
}

TEST_F(CoreTest, OtherSpecOfOneName_BecomesName2_AndTrainsNothingWhereOnlyTheExplanationDiffers) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, "")).ok());
  RunToEnd("a");
  const auto other = Submit(*FakeSpec("a", 2, 0, kFakeExplanation));
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(other->id(), "a@2");
  EXPECT_FALSE(other->attached());
  const v1::StudyStatus status = RunToEnd("a@2");
  EXPECT_EQ(status.phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(starts_.size(), 1u);  // One gang ever.
  EXPECT_EQ(status.stages(0).computed(), 0u);
  EXPECT_EQ(status.stages(1).computed(), 0u);
  EXPECT_GT(status.stages(2).computed(), 0u);
}

TEST_F(CoreTest, MoreEpochs_GoOnFromTheStoredState) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, "")).ok());
  RunToEnd("a");
  ASSERT_TRUE(Submit(*FakeSpec("b", 5, 0, "")).ok());
  EXPECT_EQ(RunToEnd("b").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(starts_, (std::vector<uint64_t>{0, 2 * per_epoch_}));
}

TEST_F(CoreTest, FewerEpochsThanStored_WantTheExactState) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 5, 0, "")).ok());
  RunToEnd("a");
  ASSERT_TRUE(Submit(*FakeSpec("b", 2, 0, "")).ok());
  EXPECT_EQ(RunToEnd("b").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(core_->Results("b")->training().step(), 2 * per_epoch_);
}

constexpr char kSweep[] = "sweep: {axes: [{key: training.clip_norm, values: [1, 2, 3, 4]}]}\n";

TEST_F(CoreTest, Sweep_RunsATrialOnEachWorker_AndEvaluatesOnlyTheOneThatIsTaken) {
  for (const char* name : {"w1", "w2", "w3"}) Join(name);
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, absl::StrCat(kFakeExplanation, kSweep))).ok());
  Pass(absl::Seconds(1));
  std::set<std::string> recipes;
  for (ConnectionId connection : {1, 2, 3}) {
    const v1::Assign* assign = LastAssign(connection);
    ASSERT_NE(assign, nullptr);
    EXPECT_EQ(assign->gang().roster_size(), 1);
    recipes.insert(assign->gang().recipe().SerializeAsString());
  }
  EXPECT_EQ(recipes.size(), 3u);
  const v1::StudyStatus status = RunToEnd("a");
  EXPECT_EQ(status.phase(), v1::StudyStatus::DONE) << status.DebugString();
  EXPECT_EQ(status.trials().total(), 4u);
  EXPECT_EQ(status.trials().trained(), 4u);
  EXPECT_EQ(status.stages(0).done(), 8u);
  EXPECT_EQ(status.stages(0).total(), 8u);
  const auto results = core_->Results("a");
  ASSERT_TRUE(results.ok()) << results.status();
  ASSERT_EQ(results->trials_size(), 4);
  int chosen = 0;
  for (const v1::TrialResult& trial : results->trials()) {
    EXPECT_TRUE(trial.has_score());
    EXPECT_EQ(trial.epochs(), 2u);
    if (trial.state() != "chosen") continue;
    ++chosen;
    // The spec that is shown is the chosen trial's.
    EXPECT_EQ(absl::StrCat("clip_norm=", results->spec().training().clip_norm()), trial.settings());
  }
  EXPECT_EQ(chosen, 1);
  // Of all results that are stored, those on test images are of one model.
  std::set<std::string> evaluated;
  for (const auto& [task, bytes] : disk_.rows) {
    v1::Event event;
    ASSERT_TRUE(event.ParseFromString(bytes));
    const v1::TaskSpec& spec = event.task_completed().spec();
    if (spec.has_evaluate()) evaluated.insert(spec.evaluate().model().weights());
  }
  EXPECT_EQ(evaluated, std::set<std::string>{results->model().weights()});
}

TEST_F(CoreTest, WiderSweep_PaysOnlyForWhatIsNew) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, kSweep)).ok());
  RunToEnd("a");
  ASSERT_EQ(starts_.size(), 4u);
  ASSERT_TRUE(
      Submit(*FakeSpec("b", 2, 0,
                       "sweep: {axes: [{key: training.clip_norm, values: [0.5, 1, 2, 3, 4]}]}\n"))
          .ok());
  EXPECT_EQ(RunToEnd("b").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(starts_.size(), 5u);
  // More epochs go on from what is there.
  starts_.clear();
  ASSERT_TRUE(Submit(*FakeSpec("c", 3, 0, kSweep)).ok());
  EXPECT_EQ(RunToEnd("c").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(starts_, std::vector<uint64_t>(4, 2 * per_epoch_));
}

TEST_F(CoreTest, FailedTrial_IsKeptWithItsCause_AndStopsNothing) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, kSweep)).ok());
  Pass(absl::Seconds(1));
  const v1::Assign first = *LastAssign(1);
  outbox_.sent.clear();
  End(1, first.assignment(), v1::OUTCOME_FAILED, "the loss is no number");
  const v1::StudyStatus status = RunToEnd("a");
  EXPECT_EQ(status.phase(), v1::StudyStatus::DONE) << status.DebugString();
  EXPECT_EQ(status.trials().failed(), 1u);
  EXPECT_EQ(status.trials().trained(), 3u);
  const auto results = core_->Results("a");
  ASSERT_TRUE(results.ok());
  EXPECT_EQ(results->trials(0).state(), "failed");
  EXPECT_EQ(results->trials(0).cause(), "the loss is no number");
  ASSERT_GT(status.problems_size(), 0);
  EXPECT_NE(status.problems(0).find("trial 0 (clip_norm=1)"), std::string::npos)
      << status.problems(0);
}

// The trial that a sweep with folds takes is trained on images.split: that may be there already.
TEST_F(CoreTest, SweepWithFolds_FindsItsFinalTraining_WhereAnotherStudyHasDoneIt) {
  Join("w1");
  const std::string sweep =
      "sweep: {axes: [{key: training.clip_norm, values: [VALUES]}], folds: 2}\n";
  const auto with = [&](const std::string& values) {
    std::string text = sweep;
    text.replace(text.find("VALUES"), 6, values);
    return text;
  };
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, with("1, 2"))).ok());
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  ASSERT_TRUE(Submit(*FakeSpec("b", 2, 0, with("1, 2, 3"))).ok());
  EXPECT_EQ(RunToEnd("b").phase(), v1::StudyStatus::DONE);
  // Shorter than what is known: the exact state is wanted.
  ASSERT_TRUE(Submit(*FakeSpec("c", 1, 0, with("1, 2"))).ok());
  EXPECT_EQ(RunToEnd("c").phase(), v1::StudyStatus::DONE);
}

// Begun anew (here by a lost blob of its evaluation) a sweep ends as it had: what had failed when
// others went on has failed, whatever is known of that recipe since.
TEST_F(CoreTest, Sweep_BegunAnew_DecidesAsBefore) {
  Join("w1");
  const auto spec = FakeSpec("a", 4, 0,
                             "sweep: {axes: [{key: training.clip_norm, values: [1, 2, 3, 4, 5]}], "
                             "halving: {rungs: [1, 2], "
                             "factor: 2}}\n");
  ASSERT_TRUE(Submit(*spec).ok());
  std::set<std::string> failed;
  for (int round = 0; round < 200 && core_->Status("a")->phase() == v1::StudyStatus::RUNNING;
       ++round) {
    Pass(absl::Milliseconds(200));
    const std::vector<v1::Directive> sent = std::exchange(outbox_.sent, {})[1];
    for (const v1::Directive& directive : sent) {
      if (!directive.has_assign()) continue;
      const v1::Assign& assign = directive.assign();
      for (const v1::TaskSpec& task : assign.bundle().tasks()) {
        Complete(task, FakePayload(task, split_));
      }
      if (assign.has_gang()) {
        const v1::Recipe& recipe = assign.gang().recipe();
        // One trial fails in the second rung, another in the last.
        const bool fails = assign.gang().start_step() > 0 && failed.size() < 2;
        if (fails) {
          failed.insert(recipe.SerializeAsString());
          End(1, assign.assignment(), v1::OUTCOME_FAILED, "no number");
          continue;
        }
        Train(assign.gang());
      }
      End(1, assign.assignment(), v1::OUTCOME_DONE);
    }
    core_->WorkerBeat(1, v1::Beat());
  }
  ASSERT_EQ(failed.size(), 2u);
  ASSERT_EQ(core_->Status("a")->phase(), v1::StudyStatus::DONE);
  const std::string before = core_->Results("a")->DebugString();
  // Another study trains all of it to the end.
  ASSERT_TRUE(Submit(*FakeSpec("b", 4, 0,
                               "sweep: {axes: [{key: training.clip_norm, values: [1, 2, 3, 4, "
                               "5]}]}\n"))
                  .ok());
  EXPECT_EQ(RunToEnd("b").phase(), v1::StudyStatus::DONE);
  ASSERT_TRUE(Submit(*spec).ok());  // Begins anew from what is stored.
  Start();
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::DONE);
  const auto after = core_->Results("a");
  ASSERT_TRUE(after.ok());
  // Up to how often the test split was looked at: b has looked, too.
  const auto trials_of = [](const std::string& text) {
    const size_t first = text.find("trials {");
    return text.substr(first, text.find("test_use {") - first);
  };
  EXPECT_EQ(trials_of(after->DebugString()), trials_of(before));
}

// A trial's other trainings are of no use once one of them has failed.
TEST_F(CoreTest, FailedTrial_EndsItsOtherTrainings) {
  Join("w1");
  Join("w2");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0,
                               "sweep: {axes: [{key: training.clip_norm, values: [1]}], "
                               "seeds: 2}\n"))
                  .ok());
  Pass(absl::Seconds(1));
  const v1::Assign first = *LastAssign(1);
  ASSERT_NE(LastAssign(2), nullptr);
  End(1, first.assignment(), v1::OUTCOME_FAILED, "the loss is no number");
  Pass(absl::Seconds(1));
  EXPECT_TRUE(Was(2, v1::Directive::kYield));
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::FAILED);
  core_->Retry("a", [](const absl::StatusOr<v1::StudyStatus>&) {});
  ASSERT_TRUE(core_->Flush().ok());
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::RUNNING);
}

TEST_F(CoreTest, SeedsOfTheTakenTrial_AreEvaluatedTogether_AndCountAsOneEvaluation) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, "sweep: {seeds: 3}\n")).ok());
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  const v1::StudyResults results = *core_->Results("a");
  ASSERT_EQ(results.seeds_size(), 3);
  std::set<std::string> weights;
  for (int k = 0; k < 3; ++k) {
    EXPECT_EQ(results.seeds(k).seed(), 1u + static_cast<uint64_t>(k));
    EXPECT_EQ(results.seeds(k).test_logits_size(), results.test_logits_size());
    EXPECT_EQ(results.seeds(k).validation_logits_size(), results.validation_logits_size());
    weights.insert(results.seeds(k).weights());
  }
  EXPECT_EQ(weights.size(), 3u);
  EXPECT_EQ(results.seeds(0).weights(), results.model().weights());
  EXPECT_TRUE(std::equal(results.test_logits().begin(), results.test_logits().end(),
                         results.seeds(0).test_logits().begin()));
  EXPECT_EQ(results.test_use().models(), 3u);
  EXPECT_EQ(results.test_use().evaluations(), 1u);
  EXPECT_EQ(results.test_use().studies(), 1u);
  // The first of the seeds alone is the same model: nothing new is looked at.
  ASSERT_TRUE(Submit(*FakeSpec("b", 2, 0, "")).ok());
  RunToEnd("b");
  EXPECT_EQ(core_->Results("b")->test_use().evaluations(), 1u);
  EXPECT_EQ(core_->Results("b")->test_use().studies(), 2u);
  EXPECT_EQ(core_->Results("b")->seeds_size(), 0);
  // A look stays a look, also after a restart.
  ASSERT_TRUE(Delete("a").ok());
  const std::string before = core_->Dump();
  Start();
  EXPECT_EQ(core_->Dump(), before);
  EXPECT_EQ(core_->Results("b")->test_use().models(), 3u);
  EXPECT_EQ(core_->Results("b")->test_use().evaluations(), 1u);
}

TEST_F(CoreTest, StudyWithoutWorkers_IsPinnedToTheFirstThatComes) {
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  EXPECT_EQ(core_->Status("a")->problems(0), "no worker is there yet: start one");
  Join("w1");
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(core_->Results("a")->numerics_class(), kClass);
}

TEST_F(CoreTest, WorkerOfAnotherVersion_IsRefusedWithWhatToDo) {
  v1::Register hello = Hello("w1");
  hello.set_software_version("0.0.0-other");
  core_->WorkerConnected(7, hello);
  ASSERT_TRUE(core_->Flush().ok());
  EXPECT_NE(outbox_.sent[7].at(0).welcome().refusal().find("install"), std::string::npos);
  EXPECT_TRUE(outbox_.closed.contains(7));
  EXPECT_EQ(core_->ClusterStatus().workers_size(), 0);
}

TEST_F(CoreTest, NothingIsAnsweredOrSent_BeforeTheCommit) {
  Join("w1");
  bool answered = false;
  Submission submission;
  submission.spec = *FakeSpec("a", 1, 0, "");
  submission.image_set = image_set_;
  submission.manifest = manifest_;
  core_->Submit(submission, [&](const auto&) { answered = true; });
  core_->Tick();
  EXPECT_FALSE(answered);
  EXPECT_EQ(LastAssign(1), nullptr);
  disk_.fail_at = disk_.writes + 1;
  EXPECT_FALSE(core_->Flush().ok());
  EXPECT_FALSE(core_->Flush().ok());  // For good.
  EXPECT_FALSE(answered);
  EXPECT_EQ(LastAssign(1), nullptr);
  Start();
  EXPECT_EQ(core_->List().studies_size(), 0);
}

TEST_F(CoreTest, SecondResult_IsCompared_AndADifferenceIsAnAlarm) {
  v1::TaskSpec task;
  task.mutable_superpixels()->set_image(1);
  task = MakeTask(task, kClass);
  v1::Payload payload = FakePayload(task, {});
  EXPECT_EQ(Complete(task, payload).verdict(), v1::CompletionReply::STORED);
  EXPECT_EQ(Complete(task, payload).verdict(), v1::CompletionReply::STORED);
  payload.mutable_superpixels()->set_labels(std::string("\1\0\0\0", 4));
  const auto reply = Complete(task, payload, "w2");
  EXPECT_EQ(reply.verdict(), v1::CompletionReply::CONFLICT);
  EXPECT_NE(reply.cause().find("w2"), std::string::npos);
  EXPECT_EQ(core_->counters().conflicts, 1u);
  EXPECT_EQ(core_->ClusterStatus().alarms_size(), 1);
  EXPECT_NE(core_->ClusterStatus().alarms(0).find("none is to be trusted"), std::string::npos);
}

TEST_F(CoreTest, Completion_ThatNamesAbsentBlobs_IsMissing_AndMalformedOnesAreRefused) {
  const v1::Recipe recipe = RecipeOf(*FakeSpec("a", 1, 0, ""), image_set_);
  const v1::TaskSpec task = TrainTaskOf(recipe, per_epoch_, kClass);
  v1::Payload payload = TrainPayload(recipe, per_epoch_);
  const Digest absent = Sha256Of("absent");
  payload.mutable_train()->set_state(absent.bytes());
  auto reply = Complete(task, payload);
  EXPECT_EQ(reply.verdict(), v1::CompletionReply::MISSING);
  ASSERT_EQ(reply.missing_size(), 1);
  EXPECT_EQ(reply.missing(0), absent.bytes());

  EXPECT_EQ(Complete(TrainTaskOf(recipe, per_epoch_ + 1, kClass), payload).verdict(),
            v1::CompletionReply::REFUSED);
  v1::TaskSpec old = task;
  old.set_semantics(99);
  reply = Complete(old, payload);
  EXPECT_EQ(reply.verdict(), v1::CompletionReply::REFUSED);
  EXPECT_NE(reply.cause().find("semantics"), std::string::npos);
}

TEST_F(CoreTest, TwoWorkers_FormOneGang_ThatCoversAllShards) {
  const ConnectionId a = Join("w1"), b = Join("w2");
  ASSERT_TRUE(Submit(*FakeSpec("a", 3, 0, "")).ok());
  Pass(absl::Milliseconds(100));
  ASSERT_NE(LastAssign(a), nullptr);
  ASSERT_NE(LastAssign(b), nullptr);
  const v1::GangSeat& seat = LastAssign(a)->gang();
  ASSERT_EQ(seat.roster_size(), 2);
  EXPECT_EQ(seat.roster(0).first_shard(), 0u);
  EXPECT_EQ(seat.roster(0).shards(), 2u);
  EXPECT_EQ(seat.roster(1).first_shard(), 2u);
  EXPECT_EQ(LastAssign(a)->assignment(), LastAssign(b)->assignment());
  EXPECT_NE(LastAssign(a)->gang().rank(), LastAssign(b)->gang().rank());
}

TEST_F(CoreTest, LostRank_CancelsTheOthers_AndTheGangFormsAnewFromWhatIsStored) {
  const ConnectionId a = Join("w1"), b = Join("w2");
  ASSERT_TRUE(Submit(*FakeSpec("a", 3, 0, "")).ok());
  Pass(absl::Milliseconds(100));
  const v1::Assign first = *LastAssign(a);
  Complete(TrainTaskOf(first.gang().recipe(), per_epoch_, kClass),
           TrainPayload(first.gang().recipe(), per_epoch_));
  core_->WorkerDisconnected(b, "killed");
  ASSERT_TRUE(core_->Flush().ok());
  EXPECT_TRUE(Was(a, v1::Directive::kCancel));
  End(a, first.assignment(), v1::OUTCOME_PEER_LOST);
  Pass(absl::Seconds(1));
  ASSERT_NE(LastAssign(a)->assignment(), first.assignment());
  EXPECT_EQ(LastAssign(a)->gang().roster_size(), 1);
  EXPECT_EQ(LastAssign(a)->gang().start_step(), per_epoch_);
}

TEST_F(CoreTest, NewWorker_MakesTheOnlyGangYield_AndGrow) {
  const ConnectionId a = Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 3, 0, "")).ok());
  Pass(absl::Milliseconds(100));
  const v1::Assign first = *LastAssign(a);
  const ConnectionId b = Join("w2");
  Pass(absl::Seconds(4));
  ASSERT_TRUE(Was(a, v1::Directive::kYield));
  Complete(TrainTaskOf(first.gang().recipe(), 3, kClass), TrainPayload(first.gang().recipe(), 3));
  End(a, first.assignment(), v1::OUTCOME_YIELDED);
  Pass(absl::Milliseconds(100));
  ASSERT_NE(LastAssign(b), nullptr);
  EXPECT_EQ(LastAssign(b)->gang().roster_size(), 2);
  EXPECT_EQ(LastAssign(b)->gang().start_step(), 3u);
}

TEST_F(CoreTest, WorkerWithoutBeats_IsLost_AfterFiveSeconds) {
  Join("w1");
  Pass(absl::Seconds(4));
  EXPECT_EQ(core_->ClusterStatus().workers_size(), 1);
  Pass(absl::Seconds(2));
  EXPECT_EQ(core_->ClusterStatus().workers_size(), 0);
  EXPECT_TRUE(outbox_.closed.contains(1));
}

TEST_F(CoreTest, RestartedCoordinator_AdoptsARunningGang) {
  const ConnectionId a = Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 3, 0, "")).ok());
  Pass(absl::Milliseconds(100));
  const v1::Assign first = *LastAssign(a);
  Start();
  v1::Register hello = Hello("w1");
  v1::RunningAttempt& running = *hello.add_running();
  running.set_assignment(first.assignment());
  *running.mutable_generation() = first.gang().generation();
  running.add_tasks(RecipeDigest(first.gang().recipe(), kClass)->bytes());
  core_->WorkerConnected(++connections_, hello);
  Pass(absl::Seconds(3));
  const auto& welcome = outbox_.sent[connections_].at(0).welcome();
  ASSERT_EQ(welcome.adopted_size(), 1);
  EXPECT_EQ(welcome.adopted(0), first.assignment());
  EXPECT_EQ(welcome.incarnation(), 2u);
  EXPECT_EQ(LastAssign(connections_), nullptr);  // It goes on with what it has.
  // An unknown one is not adopted.
  const v1::RunningAttempt stranger = running;
  hello = Hello("w2");
  *hello.add_running() = stranger;
  hello.mutable_running(0)->set_tasks(0, Sha256Of("another recipe").bytes());
  hello.mutable_running(0)->set_assignment(99);
  core_->WorkerConnected(++connections_, hello);
  ASSERT_TRUE(core_->Flush().ok());
  EXPECT_EQ(outbox_.sent[connections_].at(0).welcome().adopted_size(), 0);
}

TEST_F(CoreTest, RestartedCoordinator_WaitsForItsWorkers_BeforeItAssignsAnew) {
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  Start();
  const ConnectionId a = Join("w1");
  Pass(absl::Seconds(1));
  EXPECT_EQ(LastAssign(a), nullptr);
  Pass(absl::Seconds(1.5));
  EXPECT_NE(LastAssign(a), nullptr);
}

TEST_F(CoreTest, DeterministicFailure_FailsTheStudyAtOnce_AndRetryRunsItAgain) {
  const ConnectionId a = Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  Pass(absl::Milliseconds(100));
  End(a, LastAssign(a)->assignment(), v1::OUTCOME_FAILED, "the loss cannot be computed");
  const v1::StudyStatus status = *core_->Status("a");
  EXPECT_EQ(status.phase(), v1::StudyStatus::FAILED);
  EXPECT_NE(status.problems(0).find("the loss cannot be computed"), std::string::npos);
  EXPECT_NE(status.problems(0).find("dermis retry a"), std::string::npos);
  Start();  // Durable.
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::FAILED);
  names_.clear();
  Join("w1");
  core_->Retry("a", [](const auto&) {});
  ASSERT_TRUE(core_->Flush().ok());
  outbox_.sent.clear();
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
}

TEST_F(CoreTest, TaskThatKillsItsWorkerThreeTimesOnTwoWorkers_IsPoison) {
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  Join("w1");
  int deaths = 0;
  while (core_->Status("a")->phase() == v1::StudyStatus::RUNNING && deaths < 20) {
    Pass(absl::Seconds(2));
    for (ConnectionId c = 1; c <= connections_; ++c) {
      if (outbox_.closed.contains(c) || LastAssign(c) == nullptr) {
        core_->WorkerBeat(c, v1::Beat());
        continue;
      }
      core_->WorkerDisconnected(c, "signal 11");
      ASSERT_TRUE(core_->Flush().ok());
      ++deaths;
      Join(deaths % 2 == 1 ? "w2" : "w1", absl::StrCat("life ", deaths));
      break;
    }
  }
  EXPECT_EQ(deaths, 3);
  EXPECT_NE(core_->Status("a")->problems(0).find("signal 11"), std::string::npos);
}

TEST_F(CoreTest, Unavailable_IsTriedElsewhere_AndIsNoFailure) {
  const ConnectionId a = Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  Pass(absl::Milliseconds(100));
  const ConnectionId b = Join("w2");
  End(a, LastAssign(a)->assignment(), v1::OUTCOME_UNAVAILABLE, "the disk is full");
  outbox_.sent.clear();
  Pass(absl::Milliseconds(500));
  EXPECT_EQ(LastAssign(a), nullptr);
  EXPECT_NE(LastAssign(b), nullptr);
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::RUNNING);
}

TEST_F(CoreTest, CancelledStudy_YieldsItsGang_KeepsLateResults_AndResumes) {
  const ConnectionId a = Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 3, 0, "")).ok());
  Pass(absl::Milliseconds(100));
  const v1::Assign first = *LastAssign(a);
  core_->Cancel("a", [](const auto&) {});
  ASSERT_TRUE(core_->Flush().ok());
  EXPECT_TRUE(Was(a, v1::Directive::kYield));
  Complete(TrainTaskOf(first.gang().recipe(), 4, kClass), TrainPayload(first.gang().recipe(), 4));
  End(a, first.assignment(), v1::OUTCOME_YIELDED);
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::CANCELLED);
  const auto again = Submit(*FakeSpec("a", 3, 0, ""));
  EXPECT_TRUE(again->attached());
  outbox_.sent.clear();
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(starts_, (std::vector<uint64_t>{4}));
}

TEST_F(CoreTest, PausedStudy_StoresItsState_LeavesItsWorkersToOthers_AndGoesOnFromThere) {
  const ConnectionId a = Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 3, 0, "")).ok());
  Pass(absl::Milliseconds(100));
  const v1::Assign first = *LastAssign(a);
  ASSERT_TRUE(Adjust("a", Paused(true)).ok());
  EXPECT_TRUE(Was(a, v1::Directive::kYield));
  Complete(TrainTaskOf(first.gang().recipe(), 4, kClass), TrainPayload(first.gang().recipe(), 4));
  End(a, first.assignment(), v1::OUTCOME_YIELDED);
  outbox_.sent.clear();

  auto other = *FakeSpec("b", 1, 0, "");
  other.mutable_training()->set_clip_norm(1);
  ASSERT_TRUE(Submit(other).ok());
  EXPECT_EQ(RunToEnd("b").phase(), v1::StudyStatus::DONE);
  for (int i = 0; i < 20; ++i) Work();
  const v1::StudyStatus paused = *core_->Status("a");
  EXPECT_EQ(paused.phase(), v1::StudyStatus::RUNNING);
  EXPECT_TRUE(paused.paused());
  EXPECT_EQ(paused.workers(), 0u);
  EXPECT_EQ(paused.problems(0), "paused by ann (dermis resume a goes on)");

  const std::string before = core_->Dump();
  Start();  // A coordinator that comes back knows.
  EXPECT_EQ(core_->Dump(), before);
  names_.clear();
  Join("w1", "2");
  for (int i = 0; i < 20; ++i) Work();
  EXPECT_EQ(core_->Status("a")->stages(0).done(), paused.stages(0).done());
  starts_.clear();
  ASSERT_TRUE(Adjust("a", Paused(false)).ok());
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(starts_, (std::vector<uint64_t>{4}));
}

TEST_F(CoreTest, PausedStudy_TakesItsBundleBack_AndALateResultIsStored) {
  const ConnectionId a = Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, kFakeExplanation)).ok());
  for (int i = 0; i < 100 && (LastAssign(a) == nullptr || !LastAssign(a)->has_bundle()); ++i) {
    Work();
    Pass(absl::Milliseconds(200));
  }
  const v1::Assign bundle = *LastAssign(a);
  ASSERT_TRUE(bundle.has_bundle());
  ASSERT_TRUE(Adjust("a", Paused(true)).ok());
  EXPECT_TRUE(Was(a, v1::Directive::kCancel));
  const v1::TaskSpec& task = bundle.bundle().tasks(0);
  EXPECT_EQ(Complete(task, FakePayload(task, split_)).verdict(), v1::CompletionReply::STORED);
  End(a, bundle.assignment(), v1::OUTCOME_YIELDED);
  outbox_.sent.clear();
  for (int i = 0; i < 10; ++i) Work();
  EXPECT_TRUE(ran_.empty() || ran_.back() != *TaskDigest(task));
  const size_t before = ran_.size();
  ASSERT_TRUE(Adjust("a", Paused(false)).ok());
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(std::count(ran_.begin() + static_cast<std::ptrdiff_t>(before), ran_.end(),
                       *TaskDigest(task)),
            0);
}

TEST_F(CoreTest, WhatTwoStudiesWant_GoesOn_WhileOneOfThemIsPaused) {
  const ConnectionId a = Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, kFakeExplanation)).ok());
  ASSERT_TRUE(Submit(*FakeSpec("b", 2, 0, kFakeExplanation)).ok());
  Pass(absl::Milliseconds(100));
  ASSERT_TRUE(Adjust("a", Paused(true)).ok());
  EXPECT_FALSE(Was(a, v1::Directive::kYield));
  EXPECT_EQ(RunToEnd("b").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::DONE) << "all that it wanted is there";
}

TEST_F(CoreTest, StudyThatIsOver_CannotBePaused_AndOddNumbersAreRefused) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  v1::Adjustment odd;
  for (double priority : {0.0, -1.0, 11.0, std::nan("")}) {
    odd.set_priority(priority);
    EXPECT_TRUE(absl::IsInvalidArgument(Adjust("a", odd).status())) << priority;
  }
  odd.clear_priority();
  for (double hours : {-1.0, std::nan("")}) {
    odd.set_max_hours(hours);
    EXPECT_TRUE(absl::IsInvalidArgument(Adjust("a", odd).status())) << hours;
  }
  EXPECT_TRUE(absl::IsNotFound(Adjust("b", Paused(true)).status()));
  RunToEnd("a");
  EXPECT_TRUE(absl::IsFailedPrecondition(Adjust("a", Paused(true)).status()));
  EXPECT_TRUE(Adjust("a", Paused(false)).ok()) << "it is not: nothing changes";
}

TEST_F(CoreTest, UsedBudget_PausesTheStudy_UntilItGetsMore) {
  Join("w1");
  Submission submission;
  submission.spec = *FakeSpec("a", 2, 0, kFakeExplanation);
  submission.image_set = image_set_;
  submission.manifest = manifest_;
  submission.adjust.set_max_hours(2.0 / 3600);  // Four results of half a second.
  core_->Submit(submission, [](const auto& response) { ASSERT_TRUE(response.ok()); });
  for (int i = 0; i < 100 && !core_->Status("a")->paused(); ++i) Work();
  const v1::StudyStatus paused = *core_->Status("a");
  ASSERT_TRUE(paused.paused());
  EXPECT_GE(paused.used_hours(), paused.max_hours());
  EXPECT_NE(paused.problems(0).find("its budget of"), std::string::npos) << paused.problems(0);
  const auto resumed = Adjust("a", Paused(false));
  EXPECT_TRUE(absl::IsFailedPrecondition(resumed.status()));
  EXPECT_NE(std::string(resumed.status().message()).find("--max-hours"), std::string::npos);

  const std::string before = core_->Dump();
  Start();
  EXPECT_EQ(core_->Dump(), before);
  names_.clear();
  Join("w1", "2");
  v1::Adjustment more = Paused(false);
  more.set_max_hours(0);
  ASSERT_TRUE(Adjust("a", more).ok());
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
}

// Two studies, "a" and "b", that train without end on one worker, as gangs that take `start` to begin; `change` is asked of "a".
struct Shared {
  std::map<std::string, double> held;   // Seconds that each had the worker.
  int turns = 0;
};
class SharedWorkerTest : public CoreTest {
 protected:
  Shared Share(absl::Duration whole, absl::Duration start, const v1::Adjustment& change = {}) {
    const ConnectionId worker = Join("w1");
    for (const char* id : {"a", "b"}) {
      auto spec = *FakeSpec(id, 1000, 0, "");
      spec.mutable_training()->set_clip_norm(*id == 'a' ? 1 : 2);
      EXPECT_TRUE(Submit(spec).ok());
    }
    EXPECT_TRUE(Adjust("a", change).ok());
    Shared shared;
    uint64_t running = 0, progress = 0;
    absl::Duration since;
    std::string study;
    for (absl::Duration t; t < whole; t += absl::Milliseconds(200)) {
      Pass(absl::Milliseconds(200));
      auto sent = std::exchange(outbox_.sent[worker], {});
      for (const v1::Directive& directive : sent) {
        if (directive.has_assign()) {
          running = directive.assign().assignment();
          study = directive.assign().gang().recipe().clip_norm() == 1 ? "a" : "b";
          since = t;
          progress = 0;
          ++shared.turns;
        } else if (directive.has_yield() && directive.yield().assignment() == running) {
          End(worker, std::exchange(running, 0), v1::OUTCOME_YIELDED);
        }
      }
      v1::Beat beat;
      if (running != 0) {
        if (t - since >= start) ++progress;
        beat.add_running()->set_assignment(running);
        beat.mutable_running(0)->set_progress(progress);
        beat.mutable_running(0)->set_step(progress);
        shared.held[study] += 0.2;
      }
      core_->WorkerBeat(worker, beat);
    }
    return shared;
  }
};

TEST_F(SharedWorkerTest, TimeOfOneWorker_IsShared_ByPriority) {
  v1::Adjustment adjust;
  adjust.set_priority(4);
  auto shared = Share(absl::Minutes(20), absl::ZeroDuration(), adjust);
  EXPECT_NEAR(shared.held["a"] / shared.held["b"], 4, 0.5)
      << shared.held["a"] << " s and " << shared.held["b"] << " s";
}

TEST_F(SharedWorkerTest, GangThatStartsSlowly_HasALongerTurn) {
  v1::Adjustment none;
  none.set_priority(1);
  auto shared = Share(absl::Minutes(60), absl::Seconds(20), none);
  EXPECT_NEAR(shared.held["a"] / shared.held["b"], 1, 0.2)
      << shared.held["a"] << " s and " << shared.held["b"] << " s";
  // Ten times its start, and its start: 220 s each. By starving alone it would be 30 s, of which 20 are lost.
  EXPECT_LE(shared.turns, 17);
  EXPECT_GE(shared.turns, 14);
}

TEST_F(CoreTest, DeletedStudy_TakesWithItWhatOnlyItHas_AndComesOutTheSameAgain) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, kFakeExplanation)).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Delete("a").status())) << "it runs";
  RunToEnd("a");
  // It shares the network, and has one of its own.
  ASSERT_TRUE(Submit(*FakeSpec("b", 2, 0, "")).ok());
  RunToEnd("b");
  auto own = *FakeSpec("c", 2, 0, "");
  own.mutable_training()->set_clip_norm(1);
  ASSERT_TRUE(Submit(own).ok());
  RunToEnd("c");
  const std::string weights = core_->Results("a")->model().weights();
  const std::string own_weights = core_->Results("c")->model().weights();
  EXPECT_EQ(core_->Results("c")->test_use().models(), 2u);

  const uint64_t blobs = blobs_.blobs.size();
  const auto said = Delete("c", /*dry_run=*/true);
  ASSERT_TRUE(said.ok());
  EXPECT_GT(said->blobs(), 0u);
  EXPECT_GT(said->bytes(), 0u);
  EXPECT_EQ(blobs_.blobs.size(), blobs);
  EXPECT_TRUE(core_->Status("c").ok());

  const auto gone = Delete("c");
  ASSERT_TRUE(gone.ok()) << gone.status();
  EXPECT_EQ(gone->blobs(), said->blobs());
  EXPECT_EQ(gone->bytes(), said->bytes());
  EXPECT_EQ(blobs_.blobs.size(), blobs - gone->blobs());
  EXPECT_FALSE(gone->images());
  EXPECT_FALSE(blobs_.Has(*Digest::FromBytes(own_weights)));
  EXPECT_TRUE(absl::IsNotFound(core_->Status("c").status()));
  ASSERT_TRUE(Delete("a").ok());
  EXPECT_TRUE(blobs_.Has(*Digest::FromBytes(weights))) << "study b has them";
  EXPECT_EQ(core_->Results("b")->test_use().models(), 2u) << "a look at the test split stays one";
  EXPECT_EQ(core_->Results("b")->test_use().studies(), 3u);

  const std::string before = core_->Dump();
  Start();
  EXPECT_EQ(core_->Dump(), before);
  names_.clear();
  Join("w1", "2");
  ASSERT_TRUE(Submit(own).ok());
  EXPECT_EQ(RunToEnd("c").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(core_->Results("c")->model().weights(), own_weights);
  EXPECT_EQ(core_->counters().conflicts, 0u);
  EXPECT_EQ(core_->Results("c")->test_use().models(), 2u);

  ASSERT_TRUE(Delete("b").ok());
  const auto last = Delete("c");
  ASSERT_TRUE(last.ok());
  EXPECT_TRUE(last->images());
  for (const std::string& blob : {image_set_.bytes(), weights, own_weights}) {
    EXPECT_FALSE(blobs_.Has(*Digest::FromBytes(blob)));
  }
}

TEST_F(CoreTest, DeletedStudy_IsForgottenByWorkers_AlsoByThoseThatWereAway) {
  const auto told = [&](ConnectionId worker) {
    std::set<std::string> blobs;
    for (const v1::Directive& directive : outbox_.sent[worker]) {
      blobs.insert(directive.forget().blobs().begin(), directive.forget().blobs().end());
    }
    return blobs;
  };
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  RunToEnd("a");
  const std::string model = core_->Results("a")->model().weights();
  outbox_.sent.clear();
  ASSERT_TRUE(Delete("a").ok());
  EXPECT_TRUE(told(1).contains(model));
  EXPECT_TRUE(told(1).contains(image_set_.bytes()));
  Start();
  names_.clear();
  EXPECT_TRUE(told(Join("w1", "2")).contains(model));
  // Brought again, it is wanted again.
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  RunToEnd("a");
  EXPECT_TRUE(told(Join("w2")).empty());
}

TEST_F(CoreTest, BlobsOfADeletedStudy_GoAtTheNextStart_WhereItDiedBeforeItCould) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  RunToEnd("a");
  const Digest model = *Digest::FromBytes(core_->Results("a")->model().weights());
  const FakeBlobs before = blobs_;
  ASSERT_TRUE(Delete("a").ok());
  blobs_ = before;
  Start();
  EXPECT_FALSE(blobs_.Has(model));
  EXPECT_FALSE(blobs_.Has(image_set_));
}

TEST_F(CoreTest, BlobsOfADeletedStudy_GoSomeAtATime_AndItsImagesAreNotTakenMeanwhile_NorThoseOfOthers) {
  v1::ImageSetManifest manifest = *manifest_;
  const v1::ImageChunk chunk = manifest.chunks(0);
  manifest.clear_chunks();
  std::vector<Digest> parts;
  for (int i = 0; i < 200; ++i) {
    parts.push_back(*Digest::FromBytes(blobs_.Put(absl::StrCat("pixels ", i))));
    *manifest.add_chunks() = chunk;
    manifest.mutable_chunks(i)->set_pixels(parts.back().bytes());
  }
  v1::ImageSetManifest other = manifest;  // Has the last of them, too.
  while (other.chunks_size() > 1) other.mutable_chunks()->RemoveLast();
  other.mutable_chunks(0)->set_pixels(parts.back().bytes());
  const auto use = [&](const v1::ImageSetManifest& set) {
    manifest_ = std::make_shared<v1::ImageSetManifest>(set);
    image_set_ = Sha256Of(set.SerializeAsString());
  };
  const auto there = [&] {
    return std::count_if(parts.begin(), parts.end(), [&](const Digest& part) { return blobs_.Has(part); });
  };
  use(other);
  ASSERT_TRUE(Submit(*FakeSpec("other", 1, 0, "")).ok());
  use(manifest);
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  core_->Cancel("a", [](const auto&) {});
  ASSERT_TRUE(core_->Flush().ok());
  const auto gone = Delete("a");
  ASSERT_TRUE(gone.ok()) << gone.status();
  EXPECT_EQ(gone->blobs(), 200u) << "the set, and its parts but one";
  auto left = there();
  EXPECT_GT(left, 150) << "some at a time";
  // Its manifest is given once more, as by somebody who was told that all parts are there.
  EXPECT_TRUE(absl::IsFailedPrecondition(Submit(*FakeSpec("again", 1, 0, "")).status()));
  for (int i = 0; i < 10; ++i) {
    Pass(absl::Milliseconds(100));
    EXPECT_GE(there(), left - 50);
    left = there();
  }
  EXPECT_EQ(left, 1);
  EXPECT_TRUE(blobs_.Has(parts.back()));
}

TEST_F(CoreTest, BlobsThatAreStoredAgainBeforeTheirTurnToGo_Stay) {
  v1::ImageSetManifest manifest = *manifest_;
  const v1::ImageChunk chunk = manifest.chunks(0);
  manifest.clear_chunks();
  std::vector<std::string> parts;
  for (int i = 0; i < 200; ++i) {
    parts.push_back(absl::StrCat("pixels ", i));
    *manifest.add_chunks() = chunk;
    manifest.mutable_chunks(i)->set_pixels(blobs_.Put(parts.back()));
  }
  manifest_ = std::make_shared<v1::ImageSetManifest>(manifest);
  image_set_ = Sha256Of(manifest.SerializeAsString());
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  core_->Cancel("a", [](const auto&) {});
  ASSERT_TRUE(core_->Flush().ok());
  ASSERT_TRUE(Delete("a").ok());
  ASSERT_GT(blobs_.going.size(), 100u);
  for (const std::string& part : parts) blobs_.Put(part);
  for (int i = 0; i < 10; ++i) Pass(absl::Milliseconds(100));
  EXPECT_TRUE(std::all_of(parts.begin(), parts.end(),
                          [&](const std::string& part) { return blobs_.Has(Sha256Of(part)); }));
  EXPECT_TRUE(Submit(*FakeSpec("b", 1, 0, "")).ok()) << "what was uploaded anew is not there";
}

TEST_F(CoreTest, AStudyOfImagesThatWentMeanwhile_IsRefused_AlsoWhenTheDeletionIsOver) {
  v1::ImageSetManifest first = *manifest_;
  first.mutable_chunks(0)->set_pixels(blobs_.Put("pixels of both"));
  v1::ImageSetManifest second = first;
  second.mutable_chunks(0)->set_masks(blobs_.Put("masks"));
  const auto use = [&](const v1::ImageSetManifest& set) {
    manifest_ = std::make_shared<v1::ImageSetManifest>(set);
    image_set_ = Sha256Of(set.SerializeAsString());
  };
  use(first);
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  core_->Cancel("a", [](const auto&) {});
  ASSERT_TRUE(core_->Flush().ok());
  // Somebody looked at the second set and found all its parts there. Now one goes.
  ASSERT_TRUE(Delete("a").ok());
  ASSERT_FALSE(blobs_.Has(Sha256Of("pixels of both")));
  use(second);
  EXPECT_TRUE(absl::IsFailedPrecondition(Submit(*FakeSpec("b", 1, 0, "")).status()));
  blobs_.Put("pixels of both");
  EXPECT_TRUE(Submit(*FakeSpec("b", 1, 0, "")).ok());
}

TEST_F(CoreTest, ASmallDeletion_DoesNotWaitForALargeOne) {
  const v1::ImageSetManifest plain = *manifest_;
  const auto submit = [&](const std::string& name, int chunks) {
    v1::ImageSetManifest set = plain;
    const v1::ImageChunk chunk = set.chunks(0);
    set.clear_chunks();
    for (int i = 0; i < chunks; ++i) {
      *set.add_chunks() = chunk;
      set.mutable_chunks(i)->set_pixels(blobs_.Put(absl::StrCat(name, i)));
    }
    manifest_ = std::make_shared<v1::ImageSetManifest>(set);
    image_set_ = Sha256Of(set.SerializeAsString());
    ASSERT_TRUE(Submit(*FakeSpec(name, 1, 0, "")).ok());
    core_->Cancel(name, [](const auto&) {});
    ASSERT_TRUE(core_->Flush().ok());
  };
  submit("large", 200);
  submit("picture", 2);
  ASSERT_TRUE(Delete("large").ok());
  ASSERT_TRUE(blobs_.Has(Sha256Of("large199")) || blobs_.Has(Sha256Of("large0")));
  ASSERT_TRUE(Delete("picture").ok());
  EXPECT_FALSE(blobs_.Has(Sha256Of("picture0")));
  EXPECT_FALSE(blobs_.Has(Sha256Of("picture1")));
}

TEST_F(CoreTest, History_TellsWhoDidWhat_SinceTheStudyWasSubmitted) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("other", 1, 0, "")).ok());
  RunToEnd("other");
  auto spec = *FakeSpec("a", 1, 0, kFakeExplanation);
  spec.mutable_training()->set_clip_norm(1);
  ASSERT_TRUE(Submit(spec).ok());
  const uint64_t before = computed_, began = clock_.UnixMillis();
  ASSERT_TRUE(Adjust("a", Paused(true)).ok());
  ASSERT_TRUE(Adjust("a", Paused(false)).ok());
  RunToEnd("a");
  std::vector<v1::HistoryEvent> events;
  for (uint64_t row = 0;;) {
    const auto rows = journal_->Read(row, 7);
    ASSERT_TRUE(rows.ok());
    if (rows->empty()) break;
    const auto page = core_->History("a", *rows);
    ASSERT_TRUE(page.ok()) << page.status();
    EXPECT_GT(page->next_row(), row);
    row = page->next_row();
    events.insert(events.end(), page->events().begin(), page->events().end());
  }
  ASSERT_GT(events.size(), 3u);
  EXPECT_EQ(events[0].kind(), v1::HistoryEvent::SUBMITTED);
  EXPECT_EQ(events[1].text(), "paused by ann");
  EXPECT_EQ(events[2].text(), "resumed");
  uint64_t completed = 0;
  for (const v1::HistoryEvent& event : events) {
    if (event.kind() != v1::HistoryEvent::COMPLETED) continue;
    ++completed;
    EXPECT_EQ(event.seconds(), 0.5);
    EXPECT_GE(event.unix_ms(), began - 500) << "its worker's clock stands in 1970";
    EXPECT_LE(event.unix_ms(), clock_.UnixMillis() - 500);
    ASSERT_EQ(event.workers_size(), 1);
    EXPECT_EQ(event.workers(0), "w1");
    EXPECT_FALSE(event.task().empty());
    EXPECT_FALSE(event.task_kind().empty());
  }
  EXPECT_EQ(completed, computed_ - before);
  EXPECT_TRUE(absl::IsNotFound(core_->History("b", {}).status()));
}

TEST(HistoryTest, ByAClockThatIsADayWrong_NothingIsTold) {
  v1::Attempt attempt;
  attempt.set_seconds(30);
  constexpr uint64_t kStored = 1'700'000'000'000, kDay = 86'400'000, kStart = kStored - 31'000;
  for (const uint64_t good :
       {kStart, kStart + 20'000,
        kStored - 1'800'000}) {  // A slow way to the coordinator, a clock some seconds off.
    attempt.set_started_unix_ms(good);
    EXPECT_EQ(StartOf(attempt, kStored), good);
  }
  for (const uint64_t wrong : {kStart + kDay, kStart - kDay, uint64_t{0}, ~uint64_t{0}}) {
    attempt.set_started_unix_ms(wrong);
    EXPECT_EQ(StartOf(attempt, kStored), kStored - 30'000);
  }
}

TEST_F(CoreTest, TwoStudiesOfOneRecipe_ShareTheTrainingAndItsResults) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, "")).ok());
  ASSERT_TRUE(Submit(*FakeSpec("b", 2, 0, "")).ok());
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(RunToEnd("b").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(starts_.size(), 1u);
}

TEST_F(CoreTest, LowDisk_RefusesNewStudies_AndKeepsTakingResults) {
  blobs_.low = true;
  EXPECT_EQ(Submit(*FakeSpec("a", 1, 0, "")).status().code(), absl::StatusCode::kResourceExhausted);
  v1::TaskSpec task;
  task.mutable_noop()->set_index(3);
  task = MakeTask(task, kClass);
  EXPECT_EQ(Complete(task, FakePayload(task, {})).verdict(), v1::CompletionReply::STORED);
}

// As a worker that stores a state after every epoch, up to the one given.
TEST_F(CoreTest, StatesThatLaterOnesSupersede_LoseTheirBlobs_AndKeepTheirMetrics) {
  const ConnectionId worker = Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 40, 0, "")).ok());
  Pass(absl::Milliseconds(200));
  const v1::Assign gang = *LastAssign(worker);
  const v1::Recipe recipe = gang.gang().recipe();
  const auto state = [&](uint64_t epoch) {
    return *Digest::FromBytes(TrainPayload(recipe, epoch * per_epoch_).train().state());
  };
  constexpr uint64_t kStored = 21;
  for (uint64_t epoch = 1; epoch <= kStored; ++epoch) {
    EXPECT_EQ(Complete(TrainTaskOf(recipe, epoch * per_epoch_, kClass),
                       TrainPayload(recipe, epoch * per_epoch_))
                  .verdict(),
              v1::CompletionReply::STORED);
  }
  std::set<uint64_t> kept;
  {
    const FakeBlobs now = blobs_;  // `state` puts what it names.
    for (uint64_t epoch = 1; epoch <= kStored; ++epoch) {
      if (now.Has(state(epoch))) kept.insert(epoch);
    }
    blobs_ = now;
  }
  EXPECT_EQ(kept, (std::set<uint64_t>{1, 2, 4, 8, 16, 20, 21}));
  // It died before it could remove one: the next start does.
  const Digest left = state(5);
  ASSERT_TRUE(blobs_.Has(left));
  const std::string before = core_->Dump();
  Start();
  EXPECT_FALSE(blobs_.Has(left));
  EXPECT_EQ(core_->Dump(), before);
  EXPECT_EQ(core_->Status("a")->last_epoch().epoch(), kStored);

  // Who trains on begins at the last state; who wants fewer epochs, at the nearest that is left.
  names_.clear();
  Join("w1", "2");
  ASSERT_TRUE(Submit(*FakeSpec("b", 10, 0, "")).ok());
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(RunToEnd("b").phase(), v1::StudyStatus::DONE);
  std::sort(starts_.begin(), starts_.end());
  EXPECT_EQ(starts_, (std::vector<uint64_t>{8 * per_epoch_, 21 * per_epoch_}));
  EXPECT_EQ(core_->counters().conflicts, 0u);
  // Both models are there, whatever was stored after them.
  for (const char* id : {"a", "b"}) {
    EXPECT_TRUE(blobs_.Has(*Digest::FromBytes(core_->Results(id)->model().weights()))) << id;
  }
}

TEST_F(CoreTest, AlmostFullDisk_LosesStatesThatNobodyGoesOnFrom_AndTheyAreComputedAgain) {
  const ConnectionId worker = Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("kept", 2, 0, "")).ok());
  RunToEnd("kept");
  auto other = *FakeSpec("gone", 3, 0, "");
  other.mutable_training()->set_clip_norm(1);
  ASSERT_TRUE(Submit(other).ok());
  outbox_.sent.clear();
  Pass(absl::Milliseconds(200));
  const v1::Assign gang = *LastAssign(worker);
  const v1::Payload state = TrainPayload(gang.gang().recipe(), per_epoch_);
  const Digest blob = *Digest::FromBytes(state.train().state());
  Complete(TrainTaskOf(gang.gang().recipe(), per_epoch_, kClass), state);
  core_->Cancel("gone", [](const auto&) {});
  End(worker, gang.assignment(), v1::OUTCOME_YIELDED);

  blobs_.low = true;
  Pass(absl::Seconds(2));
  EXPECT_FALSE(blobs_.Has(blob));
  EXPECT_TRUE(blobs_.Has(*Digest::FromBytes(core_->Results("kept")->model().weights())));
  EXPECT_EQ(core_->Status("kept")->phase(), v1::StudyStatus::DONE);
  blobs_.low = false;

  starts_.clear();
  outbox_.sent.clear();
  ASSERT_TRUE(Submit(other).ok());
  EXPECT_EQ(RunToEnd("gone").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(starts_, (std::vector<uint64_t>{0}));
  EXPECT_EQ(core_->counters().conflicts, 0u);
  const std::string before = core_->Dump();
  Start();
  EXPECT_EQ(core_->Dump(), before);
}

TEST_F(CoreTest, UnknownStudy_IsNotFound_AndTheKnownOnesAreNamed) {
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  const auto status = core_->Status("b");
  EXPECT_EQ(status.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.status().message(), "no study b; there are: a");
}

TEST_F(CoreTest, UnitsFillAllWorkers_SeveralInABundle) {
  const ConnectionId a = Join("w1"), b = Join("w2");
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, kFakeExplanation)).ok());
  bool together = false;
  int largest = 0;
  for (int i = 0; i < 500 && core_->Status("a")->phase() == v1::StudyStatus::RUNNING; ++i) {
    Pass(absl::Milliseconds(200));
    const v1::Assign *on_a = LastAssign(a), *on_b = LastAssign(b);
    if (on_a != nullptr && on_b != nullptr && on_a->has_bundle() && on_b->has_bundle())
      together = true;
    for (const v1::Assign* assign : {on_a, on_b}) {
      if (assign != nullptr) largest = std::max(largest, assign->bundle().tasks_size());
    }
    Work();
  }
  EXPECT_TRUE(together);
  EXPECT_GT(largest, 1);
}

// Two workers that train together; the seat of each.
class GangTest : public CoreTest {
 protected:
  void StartGang() {
    a_ = Join("w1");
    b_ = Join("w2");
    ASSERT_TRUE(Submit(*FakeSpec("a", 3, 0, "")).ok());
    Pass(absl::Milliseconds(100));
    ASSERT_NE(LastAssign(a_), nullptr);
    ASSERT_NE(LastAssign(b_), nullptr);
    ASSERT_EQ(LastAssign(a_)->assignment(), LastAssign(b_)->assignment());
    id_ = LastAssign(a_)->assignment();
  }
  void Beat(ConnectionId connection, uint64_t progress,
            const std::vector<uint32_t>& waits_for = {}) {
    v1::Beat beat;
    v1::RunningAttempt& running = *beat.add_running();
    running.set_assignment(id_);
    running.set_progress(progress);
    running.set_step(progress);
    for (uint32_t rank : waits_for) running.add_waits_for(rank);
    core_->WorkerBeat(connection, beat);
    ASSERT_TRUE(core_->Flush().ok());
  }
  std::string RefusalOf(ConnectionId connection) {
    auto it = outbox_.closed.find(connection);
    return it == outbox_.closed.end() ? "" : it->second;
  }

  ConnectionId a_ = 0, b_ = 0;
  uint64_t id_ = 0;
};

TEST_F(GangTest, ARanksOwnError_FailsTheStudy_ThoughItsPeersAreHeardFirst) {
  StartGang();
  End(b_, id_, v1::OUTCOME_PEER_LOST, "rank 0 gave up");
  End(a_, id_, v1::OUTCOME_FAILED, "the loss is no number");
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::FAILED);
  EXPECT_NE(core_->Status("a")->problems(0).find("the loss is no number"), std::string::npos);
}

TEST_F(GangTest, ADrainedRank_LetsTheOthersStoreTheirState) {
  StartGang();
  End(b_, id_, v1::OUTCOME_YIELDED);
  EXPECT_FALSE(Was(a_, v1::Directive::kCancel));
  EXPECT_TRUE(Was(a_, v1::Directive::kYield));
}

TEST_F(GangTest, ASlowStep_IsNotStuck_UntilItIsKnownHowLongStepsTake) {
  StartGang();
  for (int second = 0; second < 80; ++second) {  // The second step takes 80 s.
    Beat(a_, 1);
    Beat(b_, 1);
    Pass(absl::Seconds(1));
  }
  EXPECT_EQ(RefusalOf(a_), "");
  EXPECT_EQ(RefusalOf(b_), "");
}

TEST_F(GangTest, AWorkerThatFetchesImages_IsNotStuck_NorWhoWaitsForIt) {
  StartGang();
  for (uint64_t second = 0; second < 600; ++second) {
    v1::Beat fetches, waits;
    for (v1::Beat* beat : {&fetches, &waits}) beat->add_running()->set_assignment(id_);
    fetches.mutable_running(0)->set_progress(second / 60);  // A piece a minute.
    waits.mutable_running(0)->add_waits_for(1);
    core_->WorkerBeat(b_, fetches);
    core_->WorkerBeat(a_, waits);
    Pass(absl::Seconds(1));
  }
  EXPECT_EQ(RefusalOf(a_), "");
  EXPECT_EQ(RefusalOf(b_), "");
  // It hangs: it is found, not the one that waits.
  for (int second = 0; second < 120; ++second) {
    v1::Beat fetches, waits;
    for (v1::Beat* beat : {&fetches, &waits}) beat->add_running()->set_assignment(id_);
    fetches.mutable_running(0)->set_progress(9);
    waits.mutable_running(0)->add_waits_for(1);
    if (RefusalOf(b_).empty()) core_->WorkerBeat(b_, fetches);
    core_->WorkerBeat(a_, waits);
    Pass(absl::Seconds(1));
  }
  EXPECT_NE(RefusalOf(b_).find("stuck"), std::string::npos);
  EXPECT_EQ(RefusalOf(a_), "");
}

TEST_F(GangTest, AGangThatNeverForms_IsTriedAsOneWorker) {
  StartGang();
  for (int i = 0; i < 3; ++i) {
    const uint64_t id = LastAssign(a_)->assignment();
    ASSERT_EQ(LastAssign(a_)->gang().roster_size(), 2) << i;
    End(a_, id, v1::OUTCOME_PEER_LOST, "rank 1 did not join");
    End(b_, id, v1::OUTCOME_PEER_LOST, "rank 0 did not join");
    for (int second = 0; second < 60 && LastAssign(a_)->assignment() == id; ++second) {
      core_->WorkerBeat(a_, v1::Beat());
      core_->WorkerBeat(b_, v1::Beat());
      Pass(absl::Seconds(1));
    }
  }
  EXPECT_LE(LastAssign(a_)->gang().roster_size(), 1);
}

TEST_F(GangTest, AHungRankIsBlamed_NotTheOneThatWaitsForIt_AndNamed) {
  StartGang();
  for (uint64_t step = 1; step <= 20; ++step) {
    Beat(a_, step);
    Beat(b_, step);
    Pass(absl::Milliseconds(500));
  }
  for (int second = 0; second < 40 && RefusalOf(b_).empty(); ++second) {
    Beat(a_, 20, {1});
    Beat(b_, 20);
    Pass(absl::Seconds(1));
  }
  EXPECT_EQ(RefusalOf(a_), "");
  for (const char* named : {"stuck", "study a", "recipe", "rank 1 of 2", "step 20"}) {
    EXPECT_NE(RefusalOf(b_).find(named), std::string::npos) << RefusalOf(b_);
  }
}

TEST_F(GangTest, AFrozenRank_IsFoundWithinTheTimeout_AndNamed) {
  StartGang();
  for (int i = 0; i < 60 && RefusalOf(b_).empty(); ++i) {
    Beat(a_, 7, {1});
    Pass(absl::Milliseconds(100));
  }
  for (const char* named : {"no beat", "study a", "rank 1 of 2", "step 7"}) {
    EXPECT_NE(RefusalOf(b_).find(named), std::string::npos) << RefusalOf(b_);
  }
}

TEST_F(GangTest, ADrainingWorkersEnd_IsNoLoss_AndItGetsNoNewWork) {
  StartGang();
  v1::Beat beat;
  beat.set_draining(true);
  beat.add_running()->set_assignment(id_);
  core_->WorkerBeat(b_, beat);
  core_->WorkerDisconnected(b_, "its stream was closed");
  ASSERT_TRUE(core_->Flush().ok());
  EXPECT_EQ(core_->counters().losses, 0u);
  const ConnectionId c = Join("w3");
  beat.clear_running();
  core_->WorkerBeat(c, beat);
  End(a_, id_, v1::OUTCOME_YIELDED);
  for (int i = 0; i < 20; ++i) {
    core_->WorkerBeat(c, beat);
    core_->WorkerBeat(a_, v1::Beat());
    Pass(absl::Seconds(1));
  }
  EXPECT_EQ(LastAssign(c), nullptr);
  EXPECT_NE(LastAssign(a_)->assignment(), id_);
}

TEST_F(GangTest, ASecondWorkerOfOneName_IsSentAway_WhileTheFirstLives) {
  StartGang();
  const ConnectionId second = Join("w1", "2");
  EXPECT_NE(RefusalOf(second).find("--name"), std::string::npos);
  EXPECT_FALSE(Was(second, v1::Directive::kWelcome));
  EXPECT_EQ(core_->counters().losses, 0u);
  Pass(absl::Seconds(4));  // Not a beat of the first one.
  const ConnectionId third = Join("w1", "2");
  EXPECT_TRUE(Was(third, v1::Directive::kWelcome));
}

TEST_F(CoreTest, ALostModel_IsTrainedAgain_AndEverythingElseIsFound) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, kFakeExplanation)).ok());
  RunToEnd("a");
  const std::string before = core_->Results("a")->model().weights();
  const Digest model = *Digest::FromBytes(before);
  const uint64_t computed = computed_;
  blobs_.blobs.erase(model);
  core_->BlobLost(model, "damaged");
  Pass(absl::Milliseconds(100));
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::RUNNING);
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(core_->Results("a")->model().weights(), before);
  EXPECT_TRUE(blobs_.Has(model));
  EXPECT_LE(computed_ - computed, 2u) << "training only";
  EXPECT_EQ(core_->counters().conflicts, 0u);
}

TEST_F(CoreTest, ALostBlob_IsNoticedAtTheStart) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, "")).ok());
  RunToEnd("a");
  blobs_.blobs.erase(*Digest::FromBytes(core_->Results("a")->model().weights()));
  Start();
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::RUNNING);
}

// A disk that lost a folder. Begun anew for each blob, the study would be folded 20,000 times.
TEST_F(CoreTest, TwentyThousandLostBlobs_LetAStudyBeginAnewOnce_AtTheStartAndInReplay) {
  manifest_ = FakeManifest(9'500);
  image_set_ = *Digest::FromBytes(PutSet(blobs_, *manifest_));
  const v1::StudySpec spec =
      *FakeSpec("a", 1, 0,
                "explanation: {images: {all_test: true}, methods: [lime: {samples: 700}, "
                "grad_cam, activation_maps]}\n");
  split_ = *MakeSplit(*manifest_, spec.images().split(), spec.seed());
  per_epoch_ = StepsPerEpoch(split_.training.size(), spec.training().batch_size());
  for (int w = 0; w < 40; ++w) Join(absl::StrCat("w", w));
  ASSERT_TRUE(Submit(spec).ok());
  ASSERT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  // Each unit's result names a blob, and none of these is there.
  uint64_t lost = 0;
  for (auto& [task, bytes] : disk_.rows) {
    v1::Event event;
    ASSERT_TRUE(event.ParseFromString(bytes));
    if (!event.has_task_completed() || event.task_completed().spec().has_train()) continue;
    event.mutable_task_completed()->mutable_result()->add_blobs(task.bytes());
    bytes = event.SerializeAsString();
    ++lost;
  }
  ASSERT_GE(lost, 20'000u);

  const uint64_t computed = computed_;
  Start();
  EXPECT_EQ(core_->counters().events, lost + 1) << "an event a blob, and the start's";
  const auto begun = [&] { return core_->studies().all().at("a")->beginning; };
  EXPECT_LE(begun(), 3u) << "submitted, pinned, begun anew";
  Start();  // The journal says it all now.
  EXPECT_EQ(core_->counters().events, 1u);
  EXPECT_LE(begun(), 3u);
  names_.clear();
  for (int w = 0; w < 40; ++w) Join(absl::StrCat("w", w));
  ASSERT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  EXPECT_EQ(computed_ - computed, lost);
  EXPECT_EQ(core_->counters().conflicts, 0u) << "it came out the same";
}

TEST_F(CoreTest, WhatIsComputedAgain_MustBeTheSame) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  RunToEnd("a");
  const auto results = core_->Results("a");
  const Digest state = *Digest::FromBytes(results->training().state());
  blobs_.blobs.erase(state);
  core_->BlobLost(state, "damaged");
  const v1::Recipe recipe = RecipeOf(*FakeSpec("a", 1, 0, ""), image_set_);
  v1::Payload other = TrainPayload(recipe, per_epoch_);
  other.mutable_train()->mutable_epochs(0)->set_training_loss(0.125);
  EXPECT_EQ(Complete(TrainTaskOf(recipe, per_epoch_, kClass), other).verdict(),
            v1::CompletionReply::CONFLICT);
  EXPECT_EQ(core_->ClusterStatus().alarms_size(), 1);
}

TEST_F(CoreTest, AFastReductionsResults_AreNeverCompared) {
  Join("w1");
  v1::StudySpec spec = *FakeSpec("a", 1, 0, "");
  spec.mutable_training()->set_reduction(v1::REDUCTION_FAST);
  ASSERT_TRUE(Submit(spec).ok());
  RunToEnd("a");
  const v1::Recipe recipe = RecipeOf(spec, image_set_);
  v1::Payload other = TrainPayload(recipe, per_epoch_);
  other.mutable_train()->mutable_epochs(0)->set_training_loss(0.125);
  EXPECT_EQ(Complete(TrainTaskOf(recipe, per_epoch_, kClass), other).verdict(),
            v1::CompletionReply::STORED);
  EXPECT_EQ(core_->ClusterStatus().alarms_size(), 0);
}

TEST_F(CoreTest, LostImages_StopTheStudy_UntilTheyAreGivenAgain) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  ASSERT_GT(manifest_->chunks_size(), 0);
  const Digest pixels = *Digest::FromBytes(manifest_->chunks(0).pixels());
  const std::string bytes = blobs_.blobs.at(pixels);
  blobs_.Remove(pixels);
  core_->BlobLost(pixels, "damaged");
  Pass(absl::Milliseconds(100));
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::FAILED);
  EXPECT_NE(core_->Status("a")->problems(0).find("with its images"), std::string::npos);
  blobs_.Put(bytes);
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, "")).ok());
  EXPECT_EQ(RunToEnd("a").phase(), v1::StudyStatus::DONE);
  blobs_.Remove(pixels);
  core_->BlobLost(pixels, "damaged");
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::DONE) << "it needs them no more";
}

// A study of the model in these bytes, which are stored.
v1::StudySpec GivenModel(FakeBlobs& blobs, const std::string& bytes) {
  const Digest digest = *Digest::FromBytes(blobs.Put(bytes));
  const auto spec = ParseStudyYaml(
      absl::StrCat("name: given\nimages: {size: 32, split: {test: 0.3, validation: 0.2}}\n",
                   "model: {file: m.safetensors, kind: seed_cnn, digest: ", digest.hex(), "}\n",
                   "evaluation: {batch_size: 5}\n", kFakeExplanation),
      "given.yaml");
  return *ResolveSpec(*spec);
}

TEST_F(CoreTest, AGivenModel_IsEvaluatedAndExplained_AndNothingIsTrained) {
  Join("w1");
  const v1::StudySpec spec = GivenModel(blobs_, "a model");
  const auto submitted = Submit(spec);
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  EXPECT_EQ(submitted->warnings_size(), 0);
  const v1::StudyStatus status = RunToEnd("given");
  EXPECT_EQ(status.phase(), v1::StudyStatus::DONE) << status.DebugString();
  EXPECT_TRUE(starts_.empty());
  EXPECT_EQ(status.stages(0).total(), 0u);
  const auto results = core_->Results("given");
  ASSERT_TRUE(results.ok()) << results.status();
  EXPECT_EQ(results->model().weights(), Sha256Of("a model").bytes());
  EXPECT_EQ(results->training().epochs_size(), 0);
  EXPECT_GT(results->explained_size(), 0);
  EXPECT_EQ(static_cast<size_t>(results->test_images_size()), split_.test.size());

  // The same again after a restart: nothing is left to do.
  Start();
  EXPECT_EQ(core_->Status("given")->phase(), v1::StudyStatus::DONE);
}

TEST_F(CoreTest, LooksAtSomeOfTheTestImages_Count_WhateverElseIsLookedAt_AndLooksAtOthersDoNot) {
  // A third of the images is for each of two splits to test on.
  v1::ImageSetManifest parted = *manifest_;
  for (int i = 0; i < parted.images_size(); ++i) {
    for (const int part : {0, 1}) {
      v1::Attribute& attribute = *parted.mutable_images(i)->add_attributes();
      attribute.set_key(part == 0 ? "one" : "two");
      attribute.set_value(i / 2 % 3 == part ? "test" : "train");
    }
  }
  manifest_ = std::make_shared<const v1::ImageSetManifest>(parted);
  image_set_ = *Digest::FromBytes(blobs_.Put(manifest_->SerializeAsString()));
  Join("w1");
  const auto run = [&](const std::string& name, const std::string& model,
                       const std::string& column) {
    v1::StudySpec spec = GivenModel(blobs_, model);
    spec.set_name(name);
    spec.clear_explanation();
    v1::SplitSpec& split = *spec.mutable_images()->mutable_split();
    split.clear_test();
    if (column.empty()) {
      split.set_test(1);  // As `dermis evaluate`.
    } else {
      split.set_column(column);
    }
    split_ = *MakeSplit(*manifest_, split, spec.seed());
    EXPECT_TRUE(Submit(spec).ok());
    EXPECT_EQ(RunToEnd(name).phase(), v1::StudyStatus::DONE);
  };
  // Models and studies that looked at images of a study's test split.
  const auto use = [&](const std::string& name) {
    const v1::TestUse found = core_->Results(name)->test_use();
    EXPECT_EQ(found.evaluations(), found.models());
    return std::pair(found.models(), found.studies());
  };
  run("one", "a model", "one");
  run("two", "another", "two");
  EXPECT_EQ(use("one"), std::pair(1u, 1u)) << "the splits have no image in common";
  run("all", "a model", "");
  EXPECT_EQ(use("one"), std::pair(1u, 2u)) << "the same model, by another study";
  EXPECT_EQ(use("two"), std::pair(2u, 2u)) << "the other's model, on all images";
  EXPECT_EQ(use("all"), std::pair(2u, 3u));
}

TEST_F(CoreTest, AMethodThatNeedsTrainingImages_IsRefused_WhereThereAreNone) {
  v1::StudySpec spec = GivenModel(blobs_, "a model");
  spec.mutable_images()->mutable_split()->set_test(1);
  EXPECT_TRUE(Submit(spec).ok());
  spec.mutable_explanation()->add_methods()->mutable_lime()->set_hidden(v1::HIDDEN_VALUE_BACKGROUND);
  EXPECT_NE(Submit(spec).status().message().find("hidden: background"), std::string::npos);
  spec.mutable_explanation()->clear_methods();
  spec.mutable_explanation()->add_methods()->mutable_deep_shap();
  const absl::Status status = Submit(spec).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("deep_shap"), std::string::npos) << status;
}

TEST_F(CoreTest, ALostGivenModel_StopsTheStudy_UntilItIsGivenAgain) {
  Join("w1");
  const v1::StudySpec spec = GivenModel(blobs_, "a model");
  ASSERT_TRUE(Submit(spec).ok());
  const Digest model = Sha256Of("a model");
  blobs_.blobs.erase(model);
  core_->BlobLost(model, "damaged");
  Pass(absl::Milliseconds(100));
  EXPECT_EQ(core_->Status("given")->phase(), v1::StudyStatus::FAILED);
  ASSERT_TRUE(Submit(GivenModel(blobs_, "a model")).ok());
  EXPECT_EQ(RunToEnd("given").phase(), v1::StudyStatus::DONE);
}

TEST_F(CoreTest, ALostWorker_CostsOnlyWhatItHadNotCompleted) {
  ConnectionId worker = Join("w1");
  ASSERT_TRUE(Submit(GivenModel(blobs_, "a model")).ok());
  // Until it has a bundle of several perturbation runs; all bundles before it are done.
  for (int i = 0; i < 100; ++i) {
    Pass(absl::Milliseconds(200));
    const v1::Assign* assign = LastAssign(worker);
    if (assign != nullptr && assign->bundle().tasks_size() > 2 && assign->bundle().tasks(0).has_perturb()) break;
    Work();
  }
  const v1::Assign* found = LastAssign(worker);
  ASSERT_NE(found, nullptr);
  ASSERT_GT(found->bundle().tasks_size(), 2);
  const v1::Bundle bundle = found->bundle();
  // It completes the first one, then it is gone.
  ASSERT_EQ(Complete(bundle.tasks(0), FakePayload(bundle.tasks(0), split_)).verdict(),
            v1::CompletionReply::STORED);
  core_->WorkerDisconnected(worker, "killed");
  ASSERT_TRUE(core_->Flush().ok());
  names_.clear();
  outbox_.sent.clear();  // What it was told nobody does any more.

  Join("w2");
  EXPECT_EQ(RunToEnd("given").phase(), v1::StudyStatus::DONE);
  for (int t = 0; t < bundle.tasks_size(); ++t) {
    // The first one was completed by hand above.
    EXPECT_EQ(std::count(ran_.begin(), ran_.end(), *TaskDigest(bundle.tasks(t))), t == 0 ? 0 : 1) << t;
  }
}

TEST_F(CoreTest, CoreThread_RunsCommandsInOrder_AndStopsAtAFailedCommit) {
  absl::Status failed;
  std::vector<int> ran;
  {
    CoreThread thread(*core_, [&](const absl::Status& status) { failed = status; });
    for (int i = 0; i < 100; ++i) thread.Post([&ran, i](Core&) { ran.push_back(i); });
    thread.Stop();
  }
  ASSERT_EQ(ran.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(ran[static_cast<size_t>(i)], i);
  EXPECT_TRUE(failed.ok());
  disk_.fail_at = disk_.writes + 1;
  {
    CoreThread thread(*core_, [&](const absl::Status& status) { failed = status; });
    v1::TaskSpec task;
    task.mutable_noop()->set_index(3);
    task = MakeTask(task, kClass);
    thread.Post([&](Core& core) {
      core.CompleteTasks(
          {CheckCompletion(FakeCompletion(task, FakePayload(task, {}), "w"), blobs_)},
          [](const auto&) { FAIL() << "answered without a commit"; });
    });
    thread.Stop();
  }
  EXPECT_EQ(failed.code(), absl::StatusCode::kResourceExhausted);
}

// Rows of the journal stay when a study is deleted.
TEST_F(CoreTest, ResultsOfOneUnlabelledPicture_AreTakenAsBlobsAlone_HoweverSmall) {
  v1::ImageSetManifest picture;
  picture.set_unlabelled(true);
  picture.add_images()->set_name("mine.png");
  v1::ImageSetManifest two = picture, labelled = picture;
  two.add_images()->set_name("other.png");
  labelled.set_unlabelled(false);
  const auto check = [&](const v1::ImageSetManifest& manifest, bool as_blob) {
    v1::TaskSpec task;
    task.mutable_superpixels()->set_image_set(PutSet(blobs_, manifest));
    task = MakeTask(task, kClass);
    const v1::Payload payload = FakePayload(task, {});
    v1::Completion completion = FakeCompletion(task, payload, "w");
    if (as_blob) {
      completion.mutable_result()->clear_payload();
      completion.mutable_result()->set_payload_blob(blobs_.Put(payload.SerializeAsString()));
    }
    return CheckCompletion(completion, blobs_);
  };
  const CheckedCompletion missing = check(picture, false);
  EXPECT_EQ(missing.verdict, v1::CompletionReply::MISSING);
  ASSERT_EQ(missing.missing.size(), 1u);
  EXPECT_EQ(missing.missing[0].bytes(), missing.completion.result().payload_digest());
  const CheckedCompletion stored = check(picture, true);
  EXPECT_EQ(stored.verdict, v1::CompletionReply::STORED) << stored.cause;
  EXPECT_EQ(stored.completion.result().payload(), "");
  EXPECT_EQ(check(two, false).verdict, v1::CompletionReply::STORED);
  EXPECT_EQ(check(labelled, false).verdict, v1::CompletionReply::STORED);
}

TEST_F(CoreTest, Quota_RefusesOneStudyMore_AndSaysWhatToDo_AlsoAfterARestart) {
  options_.quota.studies = 2;
  Start();
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, ""), "ann").ok());
  ASSERT_TRUE(Submit(*FakeSpec("b", 1, 0, ""), "ann").ok());
  EXPECT_TRUE(Submit(*FakeSpec("b", 1, 0, ""), "ann")->attached()) << "the same study is none more";
  Start();
  const auto refused = Submit(*FakeSpec("c", 1, 0, ""), "ann");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()),
              testing::AllOf(testing::HasSubstr("user ann has 2 studies"), testing::HasSubstr("dermis delete"),
                             testing::HasSubstr("--user-studies")));
  EXPECT_EQ(core_->List().studies_size(), 2);
  EXPECT_TRUE(Submit(*FakeSpec("c", 1, 0, ""), "ben").ok()) << "another user's";
  core_->Cancel("a", [](const auto&) {});
  ASSERT_TRUE(Delete("a").ok());
  EXPECT_TRUE(Submit(*FakeSpec("d", 1, 0, ""), "ann").ok()) << "there is room again";
}

TEST_F(CoreTest, Quota_CountsImagesAndModelsOnceAUser_WhateverTheNumberOfStudies) {
  options_.quota.blobs = 5;
  options_.quota.bytes = 1000;
  Start();
  const auto brings = [&](uint64_t blobs, uint64_t bytes) {
    return Brought{.images = image_set_, .model = {}, .image_blobs = blobs, .image_bytes = bytes, .model_bytes = 0};
  };
  ASSERT_TRUE(Submit(*FakeSpec("a", 1, 0, ""), "ann", brings(3, 600)).ok());
  ASSERT_TRUE(Submit(*FakeSpec("b", 1, 0, ""), "ann", brings(3, 600)).ok()) << "the same images";
  Brought other = brings(3, 300);
  other.images = Sha256Of("another set");
  const auto blobs = Submit(*FakeSpec("c", 1, 0, ""), "ann", other);
  EXPECT_THAT(std::string(blobs.status().message()), testing::HasSubstr("--user-blobs"));
  other.image_blobs = 1;
  other.image_bytes = 500;
  const auto bytes = Submit(*FakeSpec("c", 1, 0, ""), "ann", other);
  EXPECT_THAT(std::string(bytes.status().message()),
              testing::HasSubstr("has 600 bytes of images and models, this study would add 500"));
  Start();
  EXPECT_FALSE(Submit(*FakeSpec("c", 1, 0, ""), "ann", other).ok()) << "the journal knows it";
}

TEST_F(CoreTest, Revocations_AreToldToWorkersThatAreHere_AndToThoseThatCome) {
  const ConnectionId here = Join("w1");
  EXPECT_FALSE(Was(here, v1::Directive::kRevocations)) << "there are none";
  core_->ChangeTrust(
      [](const Trust& trust) -> absl::StatusOr<v1::Event> {
        v1::Event event;
        const auto revoked = trust.Revoke("abcdef0123456789", "ann");
        if (!revoked.ok()) return revoked.status();
        *event.mutable_join_revoked() = *revoked;
        return event;
      },
      [](const absl::Status& status) { EXPECT_TRUE(status.ok()) << status; });
  EXPECT_FALSE(Was(here, v1::Directive::kRevocations)) << "not before it is durable";
  ASSERT_TRUE(core_->Flush().ok());
  ASSERT_TRUE(Was(here, v1::Directive::kRevocations));
  EXPECT_EQ(outbox_.sent[here].back().revocations().serials(0), "abcdef0123456789");
  EXPECT_TRUE(Was(Join("w2"), v1::Directive::kRevocations));
  Start();
  EXPECT_TRUE(Was(Join("w1", "2"), v1::Directive::kRevocations));
}

TEST_F(CoreTest, Trials_GiveTheEpochsOfEachTraining_PageByPage) {
  Join("w1");
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0,
                               "sweep: {axes: [{key: training.clip_norm, values: [1, 2]}], seeds: 2}\n"))
                  .ok());
  RunToEnd("a");
  v1::TrialsRequest request;
  request.set_id("a");
  const auto all = core_->Trials(request);
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->trials_size(), 2);
  EXPECT_EQ(all->next(), 0u);
  EXPECT_EQ(all->trials(1).settings(0).key(), "training.clip_norm");
  EXPECT_EQ(all->trials(1).settings(0).value(), "2");
  ASSERT_EQ(all->trials(1).trainings_size(), 2);
  EXPECT_EQ(all->trials(1).trainings(1).seed(), all->trials(1).trainings(0).seed() + 1);
  EXPECT_EQ(all->trials(1).trainings(0).epochs_size(), 2);
  request.set_first(1);
  EXPECT_EQ(core_->Trials(request)->trials_size(), 1);
  request.set_id("nobody");
  EXPECT_EQ(core_->Trials(request).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace dermis
