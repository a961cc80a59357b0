#include "worker/unit_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "tests/unit/worker/runner/fakes.h"

namespace dermis {
namespace {

class UnitPoolTest : public ::testing::Test {
 protected:
  // Runs a bundle of noops 0 .. n-1 to its end.
  v1::AttemptEnded RunBundle(int n, UnitPool::Run run, uint32_t threads = 2) {
    UnitPool* pool = nullptr;
    Attempts attempts([&](std::shared_ptr<RunningWork> work) {
      this->work = work;
      pool->Start(work);
    });
    UnitPool units(std::move(run), &bench.completer, &attempts, {.threads = threads, .worker = "w"});
    pool = &units;
    v1::Assign assign;
    assign.set_assignment(1);
    for (int i = 0; i < n; ++i) *assign.mutable_bundle()->add_tasks() = Noop(i);
    attempts.Assign(assign);
    const std::atomic<bool> never{false};
    while (attempts.Ends().empty()) attempts.WaitForEnds(absl::Seconds(30), never);
    return attempts.Ends()[0];
  }
  static absl::StatusOr<v1::Payload> Compute(const v1::TaskSpec& task, PlanCache&, uint64_t* items) {
    *items = 1;
    v1::Payload payload;
    payload.set_noop(task.noop().index());
    return payload;
  }
  CompleterBench bench;
  std::shared_ptr<RunningWork> work;
};

TEST_F(UnitPoolTest, Bundle_EndsDone_WhenAllResultsAreStored) {
  bench.coordinator.away = 2;
  const v1::AttemptEnded ended = RunBundle(50, Compute);
  EXPECT_EQ(ended.outcome(), v1::OUTCOME_DONE);
  EXPECT_EQ(bench.coordinator.Stored(), 50u);
  EXPECT_EQ(work->progress, 50u);
}

TEST_F(UnitPoolTest, Bundle_NamesTheFirstFailedTask_AndStoresTheOthers) {
  const v1::AttemptEnded ended =
      RunBundle(10, [](const v1::TaskSpec& task, PlanCache& plans,
                       uint64_t* items) -> absl::StatusOr<v1::Payload> {
        if (task.noop().index() == 4 || task.noop().index() == 7) {
          return absl::InvalidArgumentError("no such thing");
        }
        return Compute(task, plans, items);
      });
  EXPECT_EQ(ended.outcome(), v1::OUTCOME_FAILED);
  EXPECT_EQ(ended.task(), TaskDigest(Noop(4))->bytes());
  EXPECT_THAT(ended.cause(), ::testing::HasSubstr("no such thing"));
  EXPECT_EQ(bench.coordinator.Stored(), 8u);
}

TEST_F(UnitPoolTest, Bundle_IsUnavailable_NotFailed_WhenInputsCannotBeHad) {
  const v1::AttemptEnded ended =
      RunBundle(3, [](const v1::TaskSpec&, PlanCache&, uint64_t*) -> absl::StatusOr<v1::Payload> {
        return absl::UnavailableError("blob gone");
      });
  EXPECT_EQ(ended.outcome(), v1::OUTCOME_UNAVAILABLE);
  EXPECT_TRUE(ended.task().empty());
}

TEST_F(UnitPoolTest, Bundle_StopsAtTheNextTask_WhenCancelled) {
  std::atomic<int> ran{0};
  const v1::AttemptEnded ended = RunBundle(
      100,
      [&](const v1::TaskSpec& task, PlanCache& plans, uint64_t* items) {
        if (++ran == 3) work->Cancel();
        return Compute(task, plans, items);
      },
      1);
  EXPECT_EQ(ended.outcome(), v1::OUTCOME_YIELDED);
  EXPECT_EQ(ran, 3);
  EXPECT_EQ(bench.coordinator.Stored(), 3u);
}

// A question's results go to whoever asked, and to nobody else.
TEST_F(UnitPoolTest, BundleOfAQuestion_SendsItsResultsWithItsEnd_AndStoresNothing) {
  UnitPool* pool = nullptr;
  Attempts attempts([&](std::shared_ptr<RunningWork> work) { pool->Start(work); });
  UnitPool units(
      [&](const v1::TaskSpec& task, PlanCache& plans, uint64_t* items) -> absl::StatusOr<v1::Payload> {
        EXPECT_NE(GivenBundle::Current(), nullptr);  // What the bundle brought is there.
        if (task.noop().index() == 2) return absl::InvalidArgumentError("no such thing");
        return Compute(task, plans, items);
      },
      &bench.completer, &attempts,
      {.threads = 2,
       .worker = "w",
       .familiarity = [](const v1::FamiliarityQuestion& question,
                         GivenBundle&) -> absl::StatusOr<v1::Familiarity> {
         v1::Familiarity familiarity;
         familiarity.set_validation_images(question.neighbours());
         return familiarity;
       }});
  pool = &units;
  v1::Assign assign;
  assign.set_assignment(1);
  for (int i = 0; i < 4; ++i) *assign.mutable_bundle()->add_tasks() = Noop(i);
  assign.mutable_bundle()->mutable_given()->set_pixels("pixels");
  assign.mutable_bundle()->mutable_given()->mutable_familiarity()->set_neighbours(12);
  attempts.Assign(assign);
  const std::atomic<bool> never{false};
  while (attempts.Ends().empty()) attempts.WaitForEnds(absl::Seconds(30), never);
  const v1::AttemptEnded ended = attempts.Ends()[0];
  EXPECT_EQ(ended.outcome(), v1::OUTCOME_FAILED);
  EXPECT_EQ(ended.task(), TaskDigest(Noop(2))->bytes());
  EXPECT_EQ(ended.results_size(), 4);  // Those that were computed.
  for (const v1::GivenResult& result : ended.results()) {
    if (result.task().empty()) {
      v1::Familiarity familiarity;
      ASSERT_TRUE(familiarity.ParseFromString(result.payload()));
      EXPECT_EQ(familiarity.validation_images(), 12u);
      continue;
    }
    v1::Payload payload;
    ASSERT_TRUE(payload.ParseFromString(result.payload()));
    EXPECT_EQ(result.task(), TaskDigest(Noop(static_cast<int>(payload.noop())))->bytes());
  }
  EXPECT_EQ(GivenBundle::Current(), nullptr);
  EXPECT_EQ(bench.coordinator.Stored(), 0u);
}

}  // namespace
}  // namespace dermis
