// The command line against a real cluster: what people type, and what programs read.
#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/integration/test_cluster.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

// Standard output alone: what the fixture would add is made a comment.
CommandResult Out(const TestCluster& cluster, const std::string& arguments) {
  return Dermis(absl::StrCat(arguments, " --cluster ", cluster.cluster(), " 2>/dev/null #"));
}

Json JsonOf(const TestCluster& cluster, const std::string& arguments, int expected = 0) {
  const CommandResult result = Out(cluster, arguments);
  EXPECT_EQ(result.exit_code, expected) << arguments << "\n" << result.output;
  Json json = Json::parse(result.output, nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << arguments << "\n" << result.output;
  return json;
}

Json Study(const TestCluster& cluster, const std::string& id) {
  const Json studies = JsonOf(cluster, absl::StrCat("status -o json ", id)).at("studies");
  return studies.size() == 1 ? studies[0] : Json();
}

bool Await(const TestCluster& cluster, const std::string& id, const std::function<bool(const Json&)>& is) {
  for (int i = 0; i < 600; ++i) {
    if (is(Study(cluster, id))) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return false;
}

std::string LongStudy(const TestCluster& cluster, const std::string& name) {
  return cluster.Write(name + ".yaml", SmallStudy(name, "100000"));
}

// One life of a study: paused, slowed, resumed, cancelled, deleted.
TEST(CommandLine, AStudyIsPaused_Resumed_Cancelled_AndDeleted) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(1).exit_code, 0);
  const std::string submit =
      absl::StrCat("run --detach -o json --images ", TestCluster::Images(), " ");
  const Json submitted = JsonOf(cluster, absl::StrCat(submit, LongStudy(cluster, "long")));
  EXPECT_EQ(submitted.at("study"), "long");
  EXPECT_EQ(submitted.at("attached"), false);
  ASSERT_TRUE(Await(cluster, "long", [](const Json& study) { return study.at("workers") == 1; }));

  // Trying changes nothing.
  for (const char* what : {"pause long", "cancel long", "priority long 2", "retry long"}) {
    EXPECT_THAT(cluster.Run(absl::StrCat(what, " --dry-run")).output, HasSubstr("would ")) << what;
  }
  EXPECT_EQ(Study(cluster, "long").at("phase"), "running");

  EXPECT_EQ(JsonOf(cluster, "pause long -o json").at("studies")[0].at("phase"), "paused");
  ASSERT_TRUE(Await(cluster, "long", [](const Json& study) { return study.at("workers") == 0; }));
  // Its worker is free for another, which has another network.
  const std::string quick = cluster.Write("quick.yaml", SmallStudy("quick", "1"));
  const Json ran = JsonOf(cluster, absl::StrCat("run -o json --set seed=4 --images ", TestCluster::Images(), " ", quick));
  EXPECT_EQ(ran.at("status").at("phase"), "done");
  EXPECT_EQ(Study(cluster, "long").at("workers"), 0);

  // It stays so when the coordinator dies.
  cluster.Kill9("coordinator");
  ASSERT_EQ(cluster.Start(1).exit_code, 0);
  EXPECT_EQ(Study(cluster, "long").at("phase"), "paused");
  EXPECT_THAT(cluster.Run("status long").output, HasSubstr("dermis resume long"));

  EXPECT_EQ(JsonOf(cluster, "priority long 3 -o json").at("studies")[0].at("priority"), 3);
  EXPECT_EQ(JsonOf(cluster, "resume long -o json").at("studies")[0].at("phase"), "running");
  ASSERT_TRUE(Await(cluster, "long", [](const Json& study) { return study.at("workers") == 1; }));

  const CommandResult early = cluster.Run("wait long --timeout 0.5");
  EXPECT_EQ(early.exit_code, 4) << early.output;
  const CommandResult refused = cluster.Run("delete long --yes");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.output, HasSubstr("dermis cancel long"));

  EXPECT_EQ(JsonOf(cluster, "cancel long -o json").at("studies")[0].at("phase"), "cancelled");
  EXPECT_EQ(cluster.Run("wait long").exit_code, 3);
  EXPECT_EQ(cluster.Run("delete long < /dev/null").exit_code, 1) << "nobody was asked";
  const Json tried = JsonOf(cluster, "delete long --dry-run -o json").at("deleted")[0];
  EXPECT_GT(tried.at("bytes"), 0);
  EXPECT_EQ(tried.at("images"), false) << "the quick study has them, too";
  EXPECT_EQ(JsonOf(cluster, "delete long --yes -o json").at("deleted")[0].at("bytes"), tried.at("bytes"));
  EXPECT_EQ(cluster.Run("status -o names").output, "quick\n");
  EXPECT_EQ(cluster.Run("results quick").exit_code, 0);
  EXPECT_EQ(cluster.Run("status long").exit_code, 1);
}

TEST(CommandLine, WhatHappened_IsTold_TracedAndExported) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(2).exit_code, 0);
  const std::string study = cluster.Write("s.yaml", SmallStudy("told", "100"));
  // Settings take the place of what the file says; standard output has the results alone.
  const CommandResult run = Out(cluster, absl::StrCat("run ", study, " --images ", TestCluster::Images(),
                                                      " --set training.epochs=2 --color always"));
  ASSERT_EQ(run.exit_code, 0) << run.output;
  EXPECT_THAT(run.output, AllOf(HasSubstr("Trained 2 epochs"), Not(HasSubstr("| "))));
  const std::string weights = run.output.substr(run.output.find("weights ") + 8, 64);

  const std::string model = (cluster.directory() / "told.safetensors").string();
  EXPECT_THAT(cluster.Run(absl::StrCat("models export told -o ", model)).output, HasSubstr(weights));
  EXPECT_GT(fs::file_size(model), 1000u);

  const Json trace = JsonOf(cluster, "trace told -o -");
  std::map<int, std::string> processes;
  std::map<std::string, int> kinds;
  std::set<std::string> ran;
  for (const Json& event : trace.at("traceEvents")) {
    if (event.at("ph") == "M") processes[event.at("pid")] = event.at("args").at("name");
    if (event.at("ph") != "X") continue;
    ++kinds[event.at("cat")];
    ran.insert(processes.at(event.at("pid")));
    EXPECT_GT(event.at("ts"), 1'600'000'000'000'000) << event;
    EXPECT_LT(event.at("dur"), 600'000'000) << event;
  }
  EXPECT_GE(kinds["train"], 1);
  EXPECT_GE(kinds["perturb"], 1);
  EXPECT_GE(kinds["evaluate"], 1);
  EXPECT_EQ(ran, (std::set<std::string>{"worker-0", "worker-1"}));

  EXPECT_THAT(cluster.Run("logs told").output, AllOf(HasSubstr("submitted"), HasSubstr("by admin")));
  EXPECT_THAT(cluster.Run("logs --process coordinator --lines 3").output, HasSubstr("coordinator  "));
  const CommandResult nobody = cluster.Run("logs --process nobody");
  EXPECT_EQ(nobody.exit_code, 1);
  EXPECT_THAT(nobody.output, HasSubstr("worker-1"));

  EXPECT_EQ(cluster.Run("wait told").exit_code, 0);
  const Json top = JsonOf(cluster, "top -o json");
  EXPECT_EQ(top.at("cluster").at("workers").size(), 2u);
  EXPECT_EQ(top.at("studies")[0].at("phase"), "done");
  EXPECT_THAT(cluster.Run("top").output, AllOf(HasSubstr("told"), HasSubstr("worker-1"), Not(HasSubstr("\033"))));
  EXPECT_EQ(JsonOf(cluster, "results told -o json").at("study"), "told");
  EXPECT_EQ(JsonOf(cluster, "cluster status -o json").at("workers").size(), 2u);
}

TEST(CommandLine, ABudget_PausesTheStudy_AndItsWatcherIsTold) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Run("cluster start --workers 1 --threads 1 --segment 0.3").exit_code, 0);
  const CommandResult run =
      cluster.Run(absl::StrCat("run ", LongStudy(cluster, "costly"), " --images ", TestCluster::Images(),
                               " --max-hours 0.0003"));  // A second.
  EXPECT_EQ(run.exit_code, 3) << run.output;
  EXPECT_THAT(run.output, AllOf(HasSubstr("its budget of 0.0003 worker-hours is used up"),
                                HasSubstr("dermis resume costly")));
  const CommandResult resumed = cluster.Run("resume costly");
  EXPECT_EQ(resumed.exit_code, 1);
  EXPECT_THAT(resumed.output, HasSubstr("--max-hours"));
  EXPECT_EQ(cluster.Run("resume costly --max-hours 1").exit_code, 0);
  EXPECT_TRUE(Await(cluster, "costly", [](const Json& study) { return study.at("workers") == 1; }));
}

TEST(CommandLine, ASettingThatIsWrong_IsToldAsTheFileWouldTellIt) {
  TestCluster cluster;
  const std::string study = cluster.Write("s.yaml", SmallStudy("x"));
  const auto with = [&](const std::string& setting) {
    const CommandResult run = cluster.Run(
        absl::StrCat("run ", study, " --images ", TestCluster::Images(), " --dry-run --set ", setting));
    EXPECT_EQ(run.exit_code, 1) << setting;
    return run.output;
  };
  EXPECT_THAT(with("training.epoch=3"), AllOf(HasSubstr("--set training.epoch=3"), HasSubstr("did you mean 'epochs'?")));
  EXPECT_THAT(with("training.epochs=many"), HasSubstr("must be a whole number"));
  EXPECT_THAT(with("training.epochs"), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(with("training.batch_size=33"), HasSubstr("logical_shards"));
}

TEST(CommandLine, TheDoctor_SeesADeadWorker_AndSaysWhatToDo) {
  TestCluster cluster;
  const CommandResult before = cluster.Run("doctor");
  EXPECT_EQ(before.exit_code, 0) << before.output;
  EXPECT_THAT(before.output, HasSubstr("dermis cluster start"));
  ASSERT_EQ(cluster.Start(1).exit_code, 0);
  Json json = JsonOf(cluster, "doctor -o json");
  EXPECT_EQ(json.at("good"), true) << json;

  // The supervisor, so that nobody starts its worker again.
  std::ifstream in(fs::path(cluster.cluster()) / "pids" / "worker-0");
  pid_t pid = 0;
  ASSERT_TRUE(in >> pid);
  cluster.Kill9("worker-0");
  kill(pid, SIGKILL);
  for (int i = 0; i < 100; ++i) {
    json = JsonOf(cluster, "doctor -o json", 1);
    if (json.at("good") == false) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  bool named = false;
  for (const Json& check : json.at("checks")) {
    if (check.at("state") != "bad") continue;
    EXPECT_NE(check.at("next"), "") << check;
    named |= check.at("check") == "processes" &&
             check.at("detail").get<std::string>().find("worker-0") != std::string::npos;
  }
  EXPECT_TRUE(named) << json;
}

TEST(CommandLine, CtrlC_EndsTheWatching_NotTheStudy) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(1).exit_code, 0);
  const CommandResult run = Dermis(absl::StrCat(
      "run ", LongStudy(cluster, "long"), " --images ", TestCluster::Images(), " --cluster ", cluster.cluster(),
      " 2>&1 & pid=$!; sleep 3; kill -INT $pid; wait $pid; exit $? #"));
  EXPECT_EQ(run.exit_code, 130) << run.output;
  EXPECT_THAT(run.output, HasSubstr("dermis watch long"));
  EXPECT_EQ(Study(cluster, "long").at("phase"), "running");
}

TEST(CommandLine, StartingAndStopping_CanBeTried) {
  TestCluster cluster;
  EXPECT_EQ(JsonOf(cluster, "cluster start --workers 2 --dry-run -o json").at("started"),
            Json({"coordinator", "worker-0", "worker-1"}));
  EXPECT_FALSE(fs::exists(fs::path(cluster.cluster()) / "pids"));
  ASSERT_EQ(cluster.Start(1).exit_code, 0);
  EXPECT_EQ(JsonOf(cluster, "cluster start --workers 2 --dry-run -o json").at("started"), Json({"worker-1"}));
  EXPECT_EQ(JsonOf(cluster, "cluster stop --dry-run -o json").at("stopped"), Json({"coordinator", "worker-0"}));
  EXPECT_EQ(cluster.Run("status").exit_code, 0) << "it still runs";
  EXPECT_EQ(JsonOf(cluster, "cluster init -o json").at("directory"), cluster.cluster());
  const Json dashboard = JsonOf(cluster, "dashboard -o json");
  EXPECT_EQ(dashboard.at("address").get<std::string>() + "\n", Out(cluster, "dashboard").output);
  EXPECT_EQ(dashboard.at("sha256").get<std::string>().size(), 32u * 3 - 1);
}

}  // namespace
}  // namespace dermis
