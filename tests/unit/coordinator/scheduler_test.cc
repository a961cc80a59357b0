#include "coordinator/scheduler.h"

#include <gtest/gtest.h>

namespace dermis {
namespace {

Cluster::Worker FreeWorker(const std::string& name) { return {name, "c", true, false}; }
Cluster::Worker BusyWorker(const std::string& name) { return {name, "c", false, false}; }
Cluster::Study StudyOf(uint64_t units = 0, double used = 0) {
  Cluster::Study study;
  study.numerics_class = "c";
  study.waiting_units = units;
  study.used = used;
  return study;
}
Cluster::Trial WaitingTrial(size_t study, uint32_t shards) {
  Cluster::Trial trial;
  trial.study = study;
  trial.shards = shards;
  trial.waiting = true;
  return trial;
}
Cluster::Trial RunningTrial(size_t study, uint32_t shards, uint32_t world) {
  Cluster::Trial trial;
  trial.study = study;
  trial.shards = shards;
  trial.world = world;
  trial.may_yield = trial.had_turn = true;
  return trial;
}

TEST(Scheduler, BestWorld_IsTheSmallestWithTheFewestRounds) {
  EXPECT_EQ(BestWorld(4, 1), 1u);
  EXPECT_EQ(BestWorld(4, 2), 2u);
  EXPECT_EQ(BestWorld(4, 3), 2u);  // ceil(4 / 3) = ceil(4 / 2).
  EXPECT_EQ(BestWorld(4, 9), 4u);
  EXPECT_EQ(BestWorld(8, 7), 4u);
  EXPECT_EQ(BestWorld(1, 5), 1u);
}

TEST(Scheduler, OneTrial_TakesAllWorkersThatShortenItsStep) {
  Cluster cluster;
  cluster.workers = {FreeWorker("a"), FreeWorker("b"), FreeWorker("c")};
  cluster.studies = {StudyOf()};
  cluster.trials = {WaitingTrial(0, 4)};
  const Plan plan = Schedule(cluster);
  ASSERT_EQ(plan.gangs.size(), 1u);
  EXPECT_EQ(plan.gangs[0].workers, (std::vector<size_t>{0, 1}));
}

TEST(Scheduler, MoreTrialsComeBeforeLargerGangs) {
  Cluster cluster;
  cluster.workers = {FreeWorker("a"), FreeWorker("b")};
  cluster.studies = {StudyOf(), StudyOf()};
  cluster.trials = {WaitingTrial(0, 4), WaitingTrial(1, 4)};
  const Plan plan = Schedule(cluster);
  ASSERT_EQ(plan.gangs.size(), 2u);
  EXPECT_EQ(plan.gangs[0].workers.size(), 1u);
  EXPECT_EQ(plan.gangs[1].workers.size(), 1u);
}

TEST(Scheduler, StudyThatUsedLess_IsServedFirst) {
  Cluster cluster;
  cluster.workers = {FreeWorker("a")};
  cluster.studies = {StudyOf(10, 100.0), StudyOf(10, 1.0)};
  const Plan plan = Schedule(cluster);
  ASSERT_EQ(plan.bundles.size(), 1u);
  EXPECT_EQ(plan.bundles[0].study, 1u);
}

TEST(Scheduler, PriorityIsTheProportion_OfWhatIsGivenOut) {
  Cluster cluster;
  for (int w = 0; w < 12; ++w) cluster.workers.push_back(FreeWorker(std::to_string(w)));
  cluster.studies = {StudyOf(100'000), StudyOf(100'000)};
  cluster.studies[0].priority = 3;
  size_t first = 0;
  const Plan plan = Schedule(cluster);
  for (const Plan::Bundle& bundle : plan.bundles) first += bundle.study == 0;
  EXPECT_EQ(plan.bundles.size(), 12u);
  EXPECT_EQ(first, 9u);
}

TEST(Scheduler, Bundle_HoldsAboutASecond_AndTheEndOfAQueueIsShared) {
  Cluster cluster;
  cluster.workers = {FreeWorker("a"), FreeWorker("b")};
  cluster.studies = {StudyOf(100)};
  cluster.studies[0].unit_seconds = 0.05;
  Plan plan = Schedule(cluster);
  ASSERT_EQ(plan.bundles.size(), 2u);
  EXPECT_EQ(plan.bundles[0].units, 20u);
  EXPECT_EQ(plan.bundles[1].units, 20u);
  cluster.studies[0].waiting_units = 6;
  plan = Schedule(cluster);
  ASSERT_EQ(plan.bundles.size(), 2u);
  EXPECT_EQ(plan.bundles[0].units, 3u);
  EXPECT_EQ(plan.bundles[1].units, 3u);
}

TEST(Scheduler, Bundle_IsLongerWhereNobodyElseWaits_AndMuchIsToCome) {
  Cluster cluster;
  cluster.workers = {FreeWorker("a"), FreeWorker("b")};
  cluster.studies = {StudyOf(100'000)};
  cluster.studies[0].unit_seconds = 0.05;
  EXPECT_EQ(Schedule(cluster).bundles[0].units, 60u) << "three seconds";
  cluster.studies[0].waiting_units = 800;  // 40 s for two workers.
  EXPECT_EQ(Schedule(cluster).bundles[0].units, 40u) << "a tenth of a worker's part";
  cluster.studies = {StudyOf(100'000), StudyOf(100'000, 1.0)};
  for (Cluster::Study& study : cluster.studies) study.unit_seconds = 0.05;
  EXPECT_EQ(Schedule(cluster).bundles[0].units, 20u) << "another study waits";
}

TEST(Scheduler, IdleWorker_MakesTheGangReform_OnlyWhereItHelps) {
  Cluster cluster;
  cluster.workers = {BusyWorker("a"), FreeWorker("b")};
  cluster.studies = {StudyOf()};
  cluster.trials = {RunningTrial(0, 4, 1)};
  EXPECT_EQ(Schedule(cluster).yields, (std::vector<size_t>{0}));
  cluster.workers = {BusyWorker("a"), BusyWorker("b"), FreeWorker("c")};
  cluster.trials = {RunningTrial(0, 4, 2)};
  EXPECT_TRUE(Schedule(cluster).yields.empty());
}

TEST(Scheduler, UnitsFillAnIdleWorker_BeforeAGangGrows) {
  Cluster cluster;
  cluster.workers = {BusyWorker("a"), FreeWorker("b")};
  cluster.studies = {StudyOf(), StudyOf(5)};
  cluster.trials = {RunningTrial(0, 4, 1)};
  const Plan plan = Schedule(cluster);
  EXPECT_TRUE(plan.yields.empty());
  ASSERT_EQ(plan.bundles.size(), 1u);
  EXPECT_EQ(plan.bundles[0].worker, 1u);
}

TEST(Scheduler, StarvedStudy_MakesTheLargestHolderYield_AndComesFirstThen) {
  Cluster cluster;
  cluster.workers = {BusyWorker("a"), BusyWorker("b"), BusyWorker("c")};
  cluster.studies = {StudyOf(), StudyOf(), StudyOf(5, 1000.0)};
  cluster.studies[0].workers = 1;
  cluster.studies[1].workers = 2;
  cluster.studies[2].starved = true;
  cluster.trials = {RunningTrial(0, 4, 1), RunningTrial(1, 4, 2)};
  EXPECT_EQ(Schedule(cluster).yields, (std::vector<size_t>{1}));
  // Its workers are free: the starved study is served although it used most.
  cluster.workers = {BusyWorker("a"), FreeWorker("b"), FreeWorker("c")};
  cluster.trials[1] = WaitingTrial(1, 4);
  const Plan plan = Schedule(cluster);
  ASSERT_EQ(plan.bundles.size(), 1u);
  EXPECT_EQ(plan.bundles[0].study, 2u);
  ASSERT_EQ(plan.gangs.size(), 1u);
  EXPECT_EQ(plan.gangs[0].trial, 1u);
}

TEST(Scheduler, StarvedStudy_WaitsForTheTurnOfAGangThatHasJustBegun) {
  Cluster cluster;
  cluster.workers = {BusyWorker("a"), BusyWorker("b"), BusyWorker("c")};
  cluster.studies = {StudyOf(), StudyOf(), StudyOf(5, 1000.0)};
  cluster.studies[2].starved = true;
  cluster.trials = {RunningTrial(0, 4, 1), RunningTrial(1, 4, 2)};
  cluster.trials[1].had_turn = false;
  EXPECT_EQ(Schedule(cluster).yields, (std::vector<size_t>{0}));
  cluster.trials[0].had_turn = false;
  EXPECT_TRUE(Schedule(cluster).yields.empty());
}

TEST(Scheduler, SuspectWorker_IsUsedOnlyWhereThereIsNoOther) {
  Cluster cluster;
  cluster.workers = {FreeWorker("a"), BusyWorker("b")};
  cluster.workers[0].suspect = true;
  cluster.studies = {StudyOf(5)};
  EXPECT_TRUE(Schedule(cluster).bundles.empty());
  cluster.workers.pop_back();
  EXPECT_EQ(Schedule(cluster).bundles.size(), 1u);
}

TEST(Scheduler, WorkersOfAnotherNumericsClass_AreNeverUsed) {
  Cluster cluster;
  cluster.workers = {FreeWorker("a")};
  cluster.workers[0].numerics_class = "other";
  cluster.studies = {StudyOf(5)};
  cluster.trials = {WaitingTrial(0, 4)};
  const Plan plan = Schedule(cluster);
  EXPECT_TRUE(plan.bundles.empty());
  EXPECT_TRUE(plan.gangs.empty());
}

TEST(Scheduler, TrialRetries_OnAnotherWorkerWhereThereIsOne) {
  Cluster cluster;
  cluster.workers = {FreeWorker("a"), FreeWorker("b")};
  cluster.studies = {StudyOf()};
  cluster.trials = {WaitingTrial(0, 4)};
  cluster.trials[0].avoid = {"a"};
  cluster.trials[0].alone = true;
  Plan plan = Schedule(cluster);
  ASSERT_EQ(plan.gangs.size(), 1u);
  EXPECT_EQ(plan.gangs[0].workers, (std::vector<size_t>{1}));
  cluster.workers.pop_back();
  plan = Schedule(cluster);
  ASSERT_EQ(plan.gangs.size(), 1u);
  EXPECT_EQ(plan.gangs[0].workers, (std::vector<size_t>{0}));
}

}  // namespace
}  // namespace dermis
