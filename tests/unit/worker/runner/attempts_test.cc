#include "worker/attempts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace dermis
