#include "worker/gang_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <thread>

#include "absl/synchronization/notification.h"

#include "tests/unit/worker/runner/fakes.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

// A collective of two ranks whose exchange only ever ends by an abort.
class Hanging : public Collective {
 public:
  uint32_t rank() const override { return 0; }
  uint32_t world_size() const override { return 2; }
  uint32_t logical_shards() const override { return 4; }
  uint32_t first_shard() const override { return 0; }
  uint32_t shard_count() const override { return 2; }
  absl::Status OrderedReduce(absl::Span<float* const>, uint64_t, float*) override {
    absl::MutexLock lock(&mutex_);
    auto aborted = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !status_.ok(); };
    mutex_.Await(absl::Condition(&aborted));
    return status_;
  }
  absl::StatusOr<std::vector<std::string>> AllGather(std::string) override { return status_; }
  void Abort(const absl::Status& cause) override {
    absl::MutexLock lock(&mutex_);
    if (status_.ok()) status_ = absl::AbortedError(cause.message());
  }

 private:
  absl::Mutex mutex_;
  absl::Status status_;
};

class GangRunnerTest : public ::testing::Test {
 protected:
  GangRunnerTest() {
    parts.images = [](const v1::ImageSource&) { return std::make_shared<const ImageData>(); };
    parts.blob = [](const Digest&) { return std::string("state"); };
    parts.join = [](const v1::GangSeat&, absl::Duration) { return std::make_unique<Hanging>(); };
    parts.leave = [](const v1::Generation&) {};
    parts.train = [](auto&&...) -> absl::StatusOr<uint64_t> { return 0; };
    assign.set_assignment(5);
    v1::GangSeat& seat = *assign.mutable_gang();
    seat.set_numerics_class("test");
    seat.mutable_recipe()->set_logical_shards(4);
    seat.add_roster();
  }
  v1::AttemptEnded RunGang(std::function<void()> meanwhile = nullptr) {
    GangRunner* runner = nullptr;
    Attempts attempts([&](std::shared_ptr<RunningWork> w) {
      work = w;
      runner->Start(w);
    });
    GangRunner gangs(parts, &bench.completer, &attempts, {.worker = "w", .numerics_class = "test"});
    runner = &gangs;
    attempts.Assign(assign);
    if (meanwhile != nullptr) meanwhile();
    const std::atomic<bool> never{false};
    while (attempts.Ends().empty()) attempts.WaitForEnds(absl::Seconds(30), never);
    return attempts.Ends()[0];
  }
  static TrainedState State(uint64_t step) {
    TrainedState state;
    state.state = "state after " + std::to_string(step);
    state.last_model = "weights after " + std::to_string(step);
    state.output.set_step(step);
    state.output.set_state(Sha256Of(state.state).bytes());
    state.output.set_last_model(Sha256Of(state.last_model).bytes());
    return state;
  }

  CompleterBench bench;
  GangRunner::Parts parts;
  v1::Assign assign;
  std::shared_ptr<RunningWork> work;
};

TEST_F(GangRunnerTest, States_AreStoredWithTheirBlobs_BeforeTheEndIsTold) {
  bench.coordinator.away = 3;
  parts.train = [](const v1::Recipe&, const v1::TrainGoal&, std::shared_ptr<const ImageData>, Collective&,
                   const std::string&, const TrainerOptions&, const StateSink& sink,
                   const std::atomic<bool>&, std::atomic<uint64_t>& progress) -> absl::StatusOr<uint64_t> {
    for (uint64_t step : {10, 20}) {
      progress = step;
      if (absl::Status s = sink(State(step)); !s.ok()) return s;
    }
    return 20;
  };
  const v1::AttemptEnded ended = RunGang();
  EXPECT_EQ(ended.outcome(), v1::OUTCOME_DONE);
  EXPECT_EQ(ended.assignment(), 5u);
  const Digest task = *TaskDigest(TrainTaskOf(assign.gang().recipe(), 20, "test"));
  ASSERT_EQ(bench.coordinator.stored.count(task.bytes()), 1u);
  EXPECT_EQ(bench.coordinator.Stored(), 2u);
  EXPECT_EQ(bench.coordinator.blobs.size(), 4u);
}

TEST_F(GangRunnerTest, StartState_IsFetched_AndItsAbsenceIsUnavailable) {
  assign.mutable_gang()->set_start_state(Sha256Of("x").bytes());
  std::string seen;
  parts.train = [&](const v1::Recipe&, const v1::TrainGoal&, std::shared_ptr<const ImageData>, Collective&,
                    const std::string& start, const TrainerOptions&, const StateSink&,
                    const std::atomic<bool>&, std::atomic<uint64_t>&) -> absl::StatusOr<uint64_t> {
    seen = start;
    return 0;
  };
  EXPECT_EQ(RunGang().outcome(), v1::OUTCOME_DONE);
  EXPECT_EQ(seen, "state");
  parts.blob = [](const Digest&) { return absl::UnavailableError("nowhere"); };
  EXPECT_EQ(RunGang().outcome(), v1::OUTCOME_UNAVAILABLE);
}

TEST_F(GangRunnerTest, LostPeer_IsNamed) {
  assign.mutable_gang()->add_roster();
  parts.train = [](auto&&...) -> absl::StatusOr<uint64_t> {
    return absl::UnavailableError("rank 1 (worker x): connection closed");
  };
  const v1::AttemptEnded ended = RunGang();
  EXPECT_EQ(ended.outcome(), v1::OUTCOME_PEER_LOST);
  EXPECT_THAT(ended.cause(), HasSubstr("worker x"));
}

TEST_F(GangRunnerTest, ErrorOfTheRecipe_FailsItsTask) {
  parts.train = [](auto&&...) -> absl::StatusOr<uint64_t> {
    return absl::InvalidArgumentError("training split smaller than a batch");
  };
  const v1::AttemptEnded ended = RunGang();
  EXPECT_EQ(ended.outcome(), v1::OUTCOME_FAILED);
  EXPECT_EQ(ended.task(), RecipeDigest(assign.gang().recipe(), "test")->bytes());
}

TEST_F(GangRunnerTest, Cancel_EndsACollectiveThatWaits) {
  assign.mutable_gang()->add_roster();
  std::atomic<bool> waits{false};
  parts.train = [&](const v1::Recipe&, const v1::TrainGoal&, std::shared_ptr<const ImageData>,
                    Collective& collective, const std::string&, const TrainerOptions&, const StateSink&,
                    const std::atomic<bool>&, std::atomic<uint64_t>&) -> absl::StatusOr<uint64_t> {
    waits = true;
    return collective.OrderedReduce({}, 0, nullptr);
  };
  const v1::AttemptEnded ended = RunGang([&] {
    while (!waits) std::this_thread::yield();
    work->Cancel();
  });
  EXPECT_EQ(ended.outcome(), v1::OUTCOME_YIELDED);
}

TEST_F(GangRunnerTest, Cancel_EndsAJoinThatWaits_AndMeanwhileOthersAreWaitedFor) {
  assign.mutable_gang()->add_roster();
  absl::Notification joins, left;
  parts.join = [&](const v1::GangSeat&, absl::Duration) -> absl::StatusOr<std::unique_ptr<Collective>> {
    joins.Notify();
    left.WaitForNotification();
    return absl::AbortedError("told to leave");
  };
  parts.leave = [&](const v1::Generation&) { left.Notify(); };
  const v1::AttemptEnded ended = RunGang([&] {
    joins.WaitForNotification();
    EXPECT_THAT(work->WaitsFor(), ::testing::ElementsAre(1));
    work->Cancel();
  });
  EXPECT_EQ(ended.outcome(), v1::OUTCOME_YIELDED);
}

TEST_F(GangRunnerTest, FullDisk_IsUnavailable_NotTheTasksFault) {
  bench.coordinator.full = true;
  parts.train = [](const v1::Recipe&, const v1::TrainGoal&, std::shared_ptr<const ImageData>, Collective&,
                   const std::string&, const TrainerOptions&, const StateSink& sink,
                   const std::atomic<bool>&, std::atomic<uint64_t>&) -> absl::StatusOr<uint64_t> {
    if (absl::Status s = sink(State(10)); !s.ok()) return s;
    return 10;
  };
  const v1::AttemptEnded ended = RunGang();
  EXPECT_EQ(ended.outcome(), v1::OUTCOME_UNAVAILABLE);
  EXPECT_THAT(ended.cause(), HasSubstr("disk full"));
}

TEST_F(GangRunnerTest, AShortageOfMemory_IsThisWorkers_NotTheTasksFault) {
  parts.train = [](auto&&...) -> absl::StatusOr<uint64_t> { throw std::bad_alloc(); };
  EXPECT_EQ(RunGang().outcome(), v1::OUTCOME_UNAVAILABLE);
  parts.train = [](auto&&...) -> absl::StatusOr<uint64_t> {
    throw std::runtime_error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes");
  };
  EXPECT_EQ(RunGang().outcome(), v1::OUTCOME_UNAVAILABLE);
  parts.train = [](auto&&...) -> absl::StatusOr<uint64_t> { throw std::runtime_error("shapes do not fit"); };
  EXPECT_EQ(RunGang().outcome(), v1::OUTCOME_FAILED);
}

TEST_F(GangRunnerTest, AStateThatFollowsFromOneWithAnotherResult_IsNeverSent) {
  const auto task = [&](uint64_t step) {
    return TaskDigest(TrainTaskOf(assign.gang().recipe(), step, "test"))->bytes();
  };
  bench.coordinator.away = 3;  // Both wait before the first is answered.
  bench.coordinator.verdicts[task(10)] = v1::CompletionReply::CONFLICT;
  parts.train = [](const v1::Recipe&, const v1::TrainGoal&, std::shared_ptr<const ImageData>, Collective&,
                   const std::string&, const TrainerOptions&, const StateSink& sink,
                   const std::atomic<bool>&, std::atomic<uint64_t>&) -> absl::StatusOr<uint64_t> {
    for (uint64_t step : {10, 20}) {
      if (absl::Status s = sink(State(step)); !s.ok()) return s;
    }
    return 20;
  };
  EXPECT_EQ(RunGang().outcome(), v1::OUTCOME_UNAVAILABLE);
  EXPECT_EQ(bench.coordinator.stored.count(task(20)), 0u);
}

}  // namespace
}  // namespace dermis
