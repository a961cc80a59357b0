// Same study, same bits: whatever the number of workers and threads, and whatever dies on the way.
#include <chrono>
#include <csignal>
#include <future>
#include <regex>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/test_cluster.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

std::string BitsIn(const CommandResult& run) {
  EXPECT_EQ(run.exit_code, 0) << run.output;
  const std::string bits = LineValue(run.output, "Bits of all results");
  EXPECT_EQ(bits.size(), 64u) << run.output;
  return bits;
}

std::string RunStudy(const TestCluster& cluster, const std::string& study) {
  return BitsIn(cluster.Run(absl::StrCat("run ", study, " --images ", TestCluster::Images())));
}

// Long enough that a blow can fall in the middle of its training and of its explanation.
std::string ChaosStudy() {
  return SmallStudy("bits", "24", R"(  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 1}}
  methods:
    - lime: {samples: 600, superpixels: {slic: {count: 12}}}
    - shapley: {permutations: 16, superpixels: {slic: {count: 12}}}
    - shapley: {estimator: auto, budget: 400, tolerance: 0.1, superpixels: {slic: {count: 12}}}
    - shapley: {estimator: partition, budget: 100, superpixels: {slic: {count: 12}}}
    - occlusion: {superpixels: {slic: {count: 12}}}
    - grad_cam
    - activation_maps
    - deep_shap
    - expected_gradients: {samples: 10}
    - hires_cam
  background: {per_class: 10}
)");
}

// What one worker with one thread computes without any disturbance.
const CommandResult& UndisturbedRun() {
  static const CommandResult run = [] {
    TestCluster cluster;
    const CommandResult start = cluster.Start(1);
    EXPECT_EQ(start.exit_code, 0) << start.output;
    return cluster.Run(
        absl::StrCat("run ", cluster.Write("s.yaml", ChaosStudy()), " --images ", TestCluster::Images()));
  }();
  return run;
}
std::string Undisturbed() { return BitsIn(UndisturbedRun()); }

int TasksComputed(const CommandResult& run) {
  std::smatch match;
  return std::regex_search(run.output, match, std::regex("([0-9]+) tasks computed")) ? std::stoi(match[1]) : 0;
}

struct Shape {
  int workers, threads;
};

class BitsTest : public ::testing::TestWithParam<Shape> {};

TEST_P(BitsTest, AreEqualForAnyNumberOfWorkersAndThreads) {
  TestCluster cluster;
  const CommandResult start = cluster.Start(GetParam().workers, GetParam().threads);
  ASSERT_EQ(start.exit_code, 0) << start.output;
  EXPECT_EQ(RunStudy(cluster, cluster.Write("s.yaml", ChaosStudy())), Undisturbed());
}

INSTANTIATE_TEST_SUITE_P(Shapes, BitsTest,
                         ::testing::Values(Shape{1, 2}, Shape{2, 1}, Shape{3, 2}),
                         [](const auto& info) {
                           return absl::StrCat(info.param.workers, "_workers_", info.param.threads, "_threads");
                         });

TEST(Segments, LeaveTheBitsAsTheyWere_HoweverTrainingIsCut) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Run("cluster start --workers 2 --threads 1 --segment 0.2").exit_code, 0);
  const CommandResult run = cluster.Run(
      absl::StrCat("run ", cluster.Write("s.yaml", ChaosStudy()), " --images ", TestCluster::Images()));
  EXPECT_EQ(BitsIn(run), Undisturbed());
  EXPECT_GE(TasksComputed(run), TasksComputed(UndisturbedRun()) + 3) << "states between";
}

struct Blow {
  const char* name;
  bool worker, coordinator;
};

class ChaosTest : public ::testing::TestWithParam<Blow> {};

// Kills in the middle of what `doing` matches in `dermis cluster status`. False: the study ended before.
bool BlowDuring(const TestCluster& cluster, const Blow& blow, const std::string& doing) {
  if (!cluster.AwaitDoing(doing)) return false;
  if (blow.worker) cluster.Kill9("worker-1");
  if (blow.coordinator) {
    cluster.Kill9("coordinator");
    EXPECT_EQ(cluster.Start(2).exit_code, 0) << cluster.Log("coordinator");
  }
  return true;
}

TEST_P(ChaosTest, LeavesTheBitsAsTheyWere) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(2).exit_code, 0);
  const std::string study = cluster.Write("s.yaml", ChaosStudy());
  auto run = std::async(std::launch::async, [&] { return RunStudy(cluster, study); });
  EXPECT_TRUE(BlowDuring(cluster, GetParam(), "with 2 workers, step [1-9]")) << "training";
  EXPECT_TRUE(BlowDuring(cluster, GetParam(), "perturb image")) << "explanation";
  EXPECT_EQ(run.get(), Undisturbed());
}

INSTANTIATE_TEST_SUITE_P(Blows, ChaosTest,
                         ::testing::Values(Blow{"worker", true, false}, Blow{"coordinator", false, true},
                                           Blow{"both", true, true}),
                         [](const auto& info) { return info.param.name; });

// What schedulers do before they take a machine back. False: the study ended before.
bool DrainDuring(const TestCluster& cluster, const std::string& worker, const std::string& doing) {
  if (!cluster.AwaitDoing(doing)) return false;
  const std::string cache = absl::StrCat(cluster.cluster(), "/cache/", worker);
  EXPECT_GT(ProcessesOf(cache), 0);
  cluster.Signal(worker, SIGTERM);
  const auto told = std::chrono::steady_clock::now();
  const auto passed = [&] { return std::chrono::steady_clock::now() - told; };
  while (ProcessesOf(cache) > 0 && passed() < std::chrono::seconds(30)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  // 5 s are promised; a machine that is busy with other tests may take a moment longer to end a process.
  EXPECT_LT(passed(), std::chrono::seconds(6)) << cluster.Log(worker);
  return true;
}

TEST(Drain, WorkersThatAreToldToStop_EndWithinSeconds_AndLeaveTheBitsAsTheyWere) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(3).exit_code, 0);
  const std::string study = cluster.Write("s.yaml", ChaosStudy());
  auto run = std::async(std::launch::async, [&] { return RunStudy(cluster, study); });
  EXPECT_TRUE(DrainDuring(cluster, "worker-1", "with 3 workers, step [1-9]")) << "training";
  EXPECT_TRUE(DrainDuring(cluster, "worker-2", "worker-2 .*perturb image")) << "explanation";
  EXPECT_EQ(run.get(), Undisturbed());
  // Nobody was lost: they handed back what they had.
  EXPECT_THAT(cluster.Log("coordinator"), ::testing::Not(HasSubstr("lost while it worked")));
}

TEST(Reuse, ASecondRunComputesNothing_AnotherExplanationTrainsNothing_MoreEpochsGoOn) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(1, 2).exit_code, 0);
  const std::string images = absl::StrCat(" --images ", TestCluster::Images());
  const std::string study = cluster.Write("s.yaml", SmallStudy("reuse"));
  const CommandResult first = cluster.Run(absl::StrCat("run ", study, images));
  EXPECT_THAT(first.output, HasSubstr("tasks computed"));

  // Another name, the same study: every address is known.
  const std::string again = cluster.Write("again.yaml", SmallStudy("again"));
  const CommandResult second = cluster.Run(absl::StrCat("run ", again, images));
  EXPECT_THAT(second.output, HasSubstr("Nothing was computed"));
  EXPECT_EQ(BitsIn(second), BitsIn(first));

  const auto trainings = [&] {
    const std::string log = cluster.Log("coordinator");
    size_t count = 0;
    for (size_t at = log.find(": trains "); at != std::string::npos; at = log.find(": trains ", at + 1)) ++count;
    return count;
  };
  const size_t before = trainings();
  const std::string other = cluster.Write(
      "other.yaml", SmallStudy("other", "3",
                               "  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 0}}\n"
                               "  methods: [{lime: {samples: 250, superpixels: {slic: {count: 8}}}}]\n"));
  const CommandResult third = cluster.Run(absl::StrCat("run ", other, images));
  EXPECT_EQ(third.exit_code, 0) << third.output;
  EXPECT_EQ(trainings(), before) << "another explanation trains nothing";
  const std::string weights = "weights ";
  const auto weights_in = [&](const std::string& text) { return text.substr(text.find(weights), 72); };
  EXPECT_EQ(weights_in(third.output), weights_in(first.output));

  const std::string more = cluster.Write("more.yaml", SmallStudy("more", "5"));
  const CommandResult fourth = cluster.Run(absl::StrCat("run ", more, images));
  EXPECT_EQ(fourth.exit_code, 0) << fourth.output;
  EXPECT_THAT(cluster.Log("worker-0"), HasSubstr("trains from step 9")) << "three epochs of three steps";
}

}  // namespace
}  // namespace dermis
