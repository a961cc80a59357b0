#include "worker/attempts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "tests/unit/worker/runner/fakes.h"

namespace dermis {
namespace {

class AttemptsTest : public ::testing::Test {
 protected:
  v1::Assign Bundle(uint64_t assignment) {
    v1::Assign assign;
    assign.set_assignment(assignment);
    *assign.mutable_bundle()->add_tasks() = Noop(assignment);
    return assign;
  }
  void End(size_t i, v1::Outcome outcome) {
    v1::AttemptEnded ended;
    ended.set_outcome(outcome);
    attempts.Ended(*started[i], ended);
  }
  std::vector<std::shared_ptr<RunningWork>> started;
  Attempts attempts{[this](std::shared_ptr<RunningWork> work) { started.push_back(std::move(work)); }};
};

TEST_F(AttemptsTest, Assign_StartsOnce_ForRepeatedMessages) {
  attempts.Assign(Bundle(7));
  attempts.Assign(Bundle(7));
  EXPECT_EQ(started.size(), 1u);
  ASSERT_EQ(attempts.Running().size(), 1u);
  EXPECT_EQ(attempts.Running()[0].tasks(0), TaskDigest(Noop(7))->bytes());
}

TEST_F(AttemptsTest, Ended_StaysInTheTable_UntilTold) {
  attempts.Assign(Bundle(1));
  End(0, v1::OUTCOME_FAILED);
  // The stream broke before the end was told: the next registration still names it.
  EXPECT_EQ(attempts.Running().size(), 1u);
  attempts.Reconcile({1});
  ASSERT_EQ(attempts.Ends().size(), 1u);
  EXPECT_EQ(attempts.Ends()[0].outcome(), v1::OUTCOME_FAILED);
  attempts.Told(1);
  EXPECT_TRUE(attempts.Running().empty());
  EXPECT_TRUE(attempts.Ends().empty());
}

TEST_F(AttemptsTest, Reconcile_CancelsAndForgets_WhatWasNotAdopted) {
  attempts.Assign(Bundle(1));
  attempts.Assign(Bundle(2));
  bool aborted = false;
  started[0]->OnCancel([&] { aborted = true; });
  attempts.Reconcile({2});
  EXPECT_TRUE(started[0]->cancelled);
  EXPECT_TRUE(aborted);
  EXPECT_FALSE(started[1]->cancelled);
  End(0, v1::OUTCOME_DONE);  // Too late: nobody asks any more.
  EXPECT_TRUE(attempts.Ends().empty());
  ASSERT_EQ(attempts.Running().size(), 1u);
  EXPECT_EQ(attempts.Running()[0].assignment(), 2u);
}

TEST_F(AttemptsTest, Cancel_RunsTheCallbackOnce_AlsoWhenItComesLater) {
  attempts.Assign(Bundle(1));
  attempts.Cancel(1);
  attempts.Cancel(1);
  int calls = 0;
  started[0]->OnCancel([&] { ++calls; });
  EXPECT_EQ(calls, 1);
}

TEST_F(AttemptsTest, Yield_ReachesOnlyTheNamedAttempt) {
  attempts.Assign(Bundle(1));
  attempts.Assign(Bundle(2));
  attempts.Yield(2);
  attempts.Yield(99);
  EXPECT_FALSE(started[0]->yield);
  EXPECT_TRUE(started[1]->yield);
}

TEST_F(AttemptsTest, Drain_YieldsWhatRuns_AndWhatIsStillAssigned) {
  attempts.Assign(Bundle(1));
  EXPECT_FALSE(attempts.draining());
  attempts.Drain();
  attempts.Assign(Bundle(2));
  EXPECT_TRUE(attempts.draining());
  EXPECT_TRUE(started[0]->yield);
  EXPECT_TRUE(started[1]->yield);
}

TEST_F(AttemptsTest, Ignored_CountsFromTheCancel_UntilTheEnd) {
  attempts.Assign(Bundle(1));
  EXPECT_EQ(attempts.Ignored(), absl::ZeroDuration());
  attempts.Cancel(1);
  while (attempts.Ignored() == absl::ZeroDuration()) absl::SleepFor(absl::Milliseconds(1));
  // What gets on will hear of it.
  absl::SleepFor(absl::Milliseconds(50));
  ++started[0]->progress;
  EXPECT_LT(attempts.Ignored(), absl::Milliseconds(40));
  End(0, v1::OUTCOME_YIELDED);
  EXPECT_EQ(attempts.Ignored(), absl::ZeroDuration());
}

TEST_F(AttemptsTest, Ignored_CountsWhatWasDropped_UntilItsEnd) {
  attempts.Assign(Bundle(1));
  attempts.Reconcile({});
  EXPECT_TRUE(attempts.Running().empty());
  while (attempts.Ignored() == absl::ZeroDuration()) absl::SleepFor(absl::Milliseconds(1));
  End(0, v1::OUTCOME_YIELDED);
  EXPECT_EQ(attempts.Ignored(), absl::ZeroDuration());
}

TEST_F(AttemptsTest, AGangsAttempt_TellsItsStepAndWhomItWaitsFor) {
  v1::Assign assign;
  assign.set_assignment(3);
  assign.mutable_gang()->set_start_step(100);
  attempts.Assign(assign);
  started[0]->step = 120;
  started[0]->progress = 50;  // Validation counts as progress, not as steps.
  started[0]->OnAskWhom([] { return std::vector<uint32_t>{2}; });
  const v1::RunningAttempt running = attempts.Running()[0];
  EXPECT_EQ(running.step(), 120u);
  EXPECT_EQ(running.progress(), 50u);
  EXPECT_THAT(running.waits_for(), ::testing::ElementsAre(2));
  started[0]->OnAskWhom(nullptr);
  EXPECT_EQ(attempts.Running()[0].waits_for_size(), 0);
}

}  // namespace
}  // namespace dermis
