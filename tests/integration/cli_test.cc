// The command line against a real cluster: what people type, and what programs read.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include <signal.h>
#include <sys/types.h>

#include "common/certificates.h"
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
    json = Json::parse(Out(cluster, "doctor -o json").output, nullptr, false);
    if (json.is_object() && json.at("good") == false) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  json = JsonOf(cluster, "doctor -o json", 1);
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
      " 2>&1 & pid=$!; until ", Program("dermis"), " status --cluster ", cluster.cluster(),
      " | grep -w long > /dev/null || ! kill -0 $pid; do sleep .1; done; kill -INT $pid; wait $pid; exit $? #"));
  EXPECT_EQ(run.exit_code, 130) << run.output;
  EXPECT_THAT(run.output, HasSubstr("dermis watch long"));
  EXPECT_EQ(Study(cluster, "long").at("phase"), "running");
}

// What a command prints that speaks JSON, a value a line.
std::vector<Json> LinesOf(const CommandResult& result) {
  std::vector<Json> lines;
  std::istringstream in(result.output);
  for (std::string line; std::getline(in, line);) {
    lines.push_back(Json::parse(line, nullptr, false));
    EXPECT_FALSE(lines.back().is_discarded()) << line;
  }
  return lines;
}

// Its standard output until Ctrl-C ends it. `meanwhile`, a line of the shell, is run when it has said something; Ctrl-C
// comes when it has then said `awaited`. Where it ends before, so does the waiting.
CommandResult UntilCtrlC(const TestCluster& cluster, const std::string& arguments,
                         const std::string& meanwhile, const std::string& awaited) {
  const std::string said = (cluster.directory() / "said").string();
  fs::remove(said);
  return Dermis(absl::StrCat(
      arguments, " --cluster ", cluster.cluster(), " > ", said, " 2>/dev/null & pid=$!; until [ -s ", said,
      " ] || ! kill -0 $pid; do sleep .1; done; ", meanwhile, "; until grep '", awaited, "' ", said,
      " > /dev/null || ! kill -0 $pid; do sleep .1; done; kill -INT $pid; wait $pid; code=$?; cat ", said, "; exit $code #"));
}

TEST(CommandLine, AStudyThatFailed_IsToldToPrograms_TriedAgain_Watched_AndItsLogsFollowed) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Run("cluster start --workers 1 --threads 1 --segment 600").exit_code,
            0);  // No state in between.
  const std::string file = LongStudy(cluster, "long");
  ASSERT_EQ(cluster.Run(absl::StrCat("run --detach --images ", TestCluster::Images(), " ", file))
                .exit_code,
            0);
  // Whoever works on it dies, until it counts as poison.
  const auto failed = [](const Json& study) { return study.at("phase") == "failed"; };
  const auto lost = [&] {
    int losses = 0;
    for (const Json& event : LinesOf(Out(cluster, "logs long -o json")))
      losses += event.at("kind") == "lost";
    return losses;
  };
  for (int i = 0; i < 10 && !failed(Study(cluster, "long")); ++i) {
    ASSERT_TRUE(Await(cluster, "long", [&](const Json& study) {
      return failed(study) || study.at("workers") == 1;
    }));
    const int before = lost();
    cluster.Kill9("worker-0");
    ASSERT_TRUE(Await(cluster, "long",
                      [&](const Json& study) { return failed(study) || lost() > before; }));
  }
  ASSERT_TRUE(failed(Study(cluster, "long")));
  const Json waited = JsonOf(cluster, "wait long -o json", 3).at("studies")[0];
  EXPECT_EQ(waited.at("phase"), "failed");
  const std::string cause = "while it ran nothing else";
  EXPECT_THAT(waited.at("problems").dump(), HasSubstr(cause));
  std::set<std::string> kinds;
  for (const Json& event : LinesOf(Out(cluster, "logs long -o json"))) {
    kinds.insert(event.at("kind"));
    EXPECT_GT(event.at("unix_ms"), 1'600'000'000'000);
  }
  EXPECT_THAT(kinds, ::testing::IsSupersetOf({"submitted", "lost", "failed"}));

  const Json retried = JsonOf(cluster, "retry long -o json");
  EXPECT_EQ(retried.at("dry_run"), false);
  EXPECT_EQ(retried.at("studies")[0].at("phase"), "running");
  // That its worker is not back yet may be one.
  EXPECT_THAT(retried.at("studies")[0].at("problems").dump(), Not(HasSubstr(cause)));
  ASSERT_TRUE(Await(cluster, "long", [](const Json& study) { return study.at("workers") == 1; }));

  // Ctrl-C ends the watching, with what was seen; following logs has no other end.
  const std::string pause =
      absl::StrCat(Program("dermis"), " pause long --cluster ", cluster.cluster(), " > /dev/null");
  const CommandResult watched = UntilCtrlC(cluster, "watch long -o json", pause, "paused");
  EXPECT_EQ(watched.exit_code, 130) << watched.output;
  const std::vector<Json> changes = LinesOf(watched);
  ASSERT_FALSE(changes.empty());
  EXPECT_EQ(changes.front().at("phase"), "running");
  EXPECT_EQ(changes.back().at("phase"), "paused");
  const std::string log = cluster.cluster() + "/logs/coordinator.log";
  const CommandResult followed = UntilCtrlC(cluster, "logs --process coordinator -n 1 -f -o json",
                                            "echo written later >> " + log, "written later");
  EXPECT_EQ(followed.exit_code, 0) << followed.output;
  const std::vector<Json> lines = LinesOf(followed);
  ASSERT_GE(lines.size(), 2u) << followed.output;
  EXPECT_EQ(lines.front().at("process"), "coordinator");
  EXPECT_EQ(lines.back().at("line"), "written later");

  EXPECT_EQ(cluster.Run("cancel long").exit_code, 0);
  const CommandResult over = cluster.Run("watch long");
  EXPECT_EQ(over.exit_code, 3);
  EXPECT_THAT(over.output, HasSubstr("long"));
}

TEST(CommandLine, WhoMayJoin_AndWorkersThatAreQuarantined_AreToldToPrograms_AndCanBeTried) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(1).exit_code, 0);
  ASSERT_EQ(
      cluster.Run("cluster token create -o " + (cluster.directory() / "token").string()).exit_code,
      0);
  const auto token = [&] { return JsonOf(cluster, "cluster token list -o json").at("tokens")[0]; };
  EXPECT_EQ(token().at("state"), "good");
  const std::string id = token().at("token");
  const Json would =
      JsonOf(cluster, absl::StrCat("cluster token revoke ", id, " --dry-run -o json"));
  EXPECT_EQ(would, Json({{"dry_run", true}, {"tokens", {id}}, {"serials", Json::array()}}));
  EXPECT_EQ(token().at("state"), "good") << "it was only tried";
  EXPECT_EQ(JsonOf(cluster, absl::StrCat("cluster token revoke ", id, " -o json")),
            Json({{"dry_run", false}, {"tokens", {id}}, {"serials", Json::array()}}));
  EXPECT_EQ(token().at("state"), "revoked");
  EXPECT_EQ(cluster.Run("cluster token revoke ffff --dry-run").exit_code, 1);

  // The ready-made certificate of users: revoked, it makes room for another.
  const fs::path certs = fs::path(cluster.cluster()) / "certs";
  const std::string serial = BearerOf(ReadAll(certs / "user.crt"))->serial;
  const Json revoked = {{"dry_run", true}, {"tokens", Json::array()}, {"serials", {serial}}};
  EXPECT_EQ(JsonOf(cluster, "cluster revoke user --dry-run -o json"), revoked);
  EXPECT_TRUE(fs::exists(certs / "user.crt"));
  EXPECT_EQ(JsonOf(cluster, "cluster revoke user -o json").at("serials"), revoked.at("serials"));
  EXPECT_FALSE(fs::exists(certs / "user.crt"));
  EXPECT_EQ(cluster.Run("cluster init").exit_code, 0);
  EXPECT_NE(BearerOf(ReadAll(certs / "user.crt"))->serial, serial);
  EXPECT_EQ(cluster.Run("cluster revoke nobody-here --dry-run").exit_code, 1);

  EXPECT_EQ(JsonOf(cluster, "cluster quarantine worker-0 --dry-run -o json"),
            Json({{"dry_run", true}, {"worker", "worker-0"}}));
  EXPECT_TRUE(JsonOf(cluster, "cluster status -o json").at("quarantined").empty());
  const Json quarantined = JsonOf(cluster, "cluster quarantine worker-0 -o json");
  EXPECT_EQ(quarantined.at("dry_run"), false);
  EXPECT_EQ(quarantined.at("worker"), "worker-0");
  EXPECT_EQ(quarantined.at("withdrawn"), 0);
  EXPECT_EQ(JsonOf(cluster, "cluster status -o json").at("quarantined").size(), 1u);
  EXPECT_EQ(JsonOf(cluster, "cluster release worker-0 -o json"),
            Json({{"dry_run", false}, {"worker", "worker-0"}}));
  EXPECT_TRUE(JsonOf(cluster, "cluster status -o json").at("quarantined").empty());

  const Json verified = JsonOf(cluster, "audit verify -o json");
  EXPECT_GE(verified.at("entries"), 5);
  EXPECT_EQ(verified.at("head").get<std::string>().find(
                absl::StrCat(verified.at("entries").get<int>(), ":")),
            0u);
  EXPECT_EQ(verified.at("signer").get<std::string>().size(), 32u * 3 - 1);
}

TEST(CommandLine, TwoUsers_HaveQuotasAndAuditLinesOfTheirOwn) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Run("cluster start --workers 1 --threads 1 --user-studies 1").exit_code, 0);
  const auto folder = [&](const std::string& user) {
    return (cluster.directory() / user).string();
  };
  const auto as = [&](const std::string& user, const std::string& arguments) {
    return Dermis(absl::StrCat(arguments, " --cluster ", folder(user)));
  };
  for (const char* user : {"ann", "bob"}) {
    ASSERT_EQ(cluster.Run(absl::StrCat("cluster user ", user, " -o ", folder(user))).exit_code, 0);
    EXPECT_EQ(fs::status(folder(user) + "/certs/user.key").permissions(),
              fs::perms::owner_read | fs::perms::owner_write);
  }
  const Json made = JsonOf(cluster, absl::StrCat("cluster user eve -o json --out ", folder("eve")));
  EXPECT_EQ(made.at("user"), "eve");
  EXPECT_EQ(made.at("folder"), folder("eve"));
  const auto eve = BearerOf(ReadAll(folder("eve") + "/certs/user.crt"));
  ASSERT_TRUE(eve.ok()) << eve.status();
  EXPECT_EQ(made.at("serial"), eve->serial);
  const Json token = JsonOf(cluster, "cluster token create -o json");
  EXPECT_TRUE(token.at("file").is_null());
  EXPECT_THAT(token.at("token").get<std::string>(), HasSubstr(token.at("id").get<std::string>()));
  const CommandResult twice = cluster.Run("cluster user bob -o " + folder("other"));
  EXPECT_EQ(twice.exit_code, 1);
  EXPECT_THAT(twice.output, HasSubstr("there is a user bob already"));
  for (const char* name : {"admin", "worker", "../ann", ""}) {
    EXPECT_NE(cluster.Run(absl::StrCat("cluster user '", name, "' -o ", folder("other"))).exit_code,
              0)
        << name;
  }
  EXPECT_FALSE(fs::exists(folder("other")));

  const auto submit = [&](const std::string& user, const std::string& name) {
    return as(user, absl::StrCat("run --detach --images ", TestCluster::Images(), " ",
                                 cluster.Write(name + ".yaml", SmallStudy(name, "1"))));
  };
  EXPECT_EQ(submit("ann", "first").exit_code, 0);
  const CommandResult beyond = submit("ann", "second");
  EXPECT_EQ(beyond.exit_code, 1);
  EXPECT_THAT(beyond.output, HasSubstr("user ann has 1"));
  EXPECT_EQ(submit("bob", "third").exit_code, 0);
  EXPECT_EQ(Study(cluster, "first").at("user"), "ann");
  EXPECT_EQ(Study(cluster, "third").at("user"), "bob");
  std::map<std::string, int> taken, refused;  // By who asked.
  for (const Json& line : LinesOf(Out(cluster, "audit show -o json"))) {
    if (line.at("call") != "Studies/Submit") continue;
    EXPECT_EQ(line.at("role"), "user");
    ++(line.at("outcome") == "OK" ? taken : refused)[line.at("who")];
  }
  EXPECT_EQ(taken, (std::map<std::string, int>{{"ann", 1}, {"bob", 1}}));
  EXPECT_EQ(refused, (std::map<std::string, int>{{"ann", 1}}));

  // One of them goes.
  EXPECT_EQ(cluster.Run("cluster revoke ann").exit_code, 0);
  const CommandResult gone = as("ann", "status");
  EXPECT_EQ(gone.exit_code, 1);
  EXPECT_THAT(gone.output, HasSubstr("was revoked"));
  EXPECT_EQ(as("bob", "status").exit_code, 0);
  EXPECT_EQ(cluster.Run("cluster user ann -o " + folder("ann-again")).exit_code, 0);
  EXPECT_EQ(as("ann-again", "status").exit_code, 0);
}

TEST(CommandLine, ExitCodesOfTheServers_AreThoseOfTheManual_AndNoErrorRepeatsAToken) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(0).exit_code, 0);
  const std::string certs = " --certs " + cluster.cluster() + "/certs", secret = "c2VjcmV0c2VjcmV0";
  std::string listen = ReadAll(cluster.cluster() + "/store/address");
  listen.pop_back();
  const auto code = [&](const std::string& program, const std::string& arguments) {
    const CommandResult result = Shell(absl::StrCat(Program(program), " ", arguments, " 2>&1"));
    EXPECT_THAT(result.output, Not(HasSubstr(secret)));
    return result.exit_code;
  };
  EXPECT_EQ(code("dermis-coordinator", absl::StrCat("--check-health --listen ", listen, certs)), 0);
  EXPECT_EQ(code("dermis-coordinator",
                 absl::StrCat("--check-health --listen ", listen, " --certs /nowhere")),
            5);
  EXPECT_EQ(
      code("dermis-coordinator", absl::StrCat("--store ", cluster.cluster(), "/store", certs)), 3)
      << "another one has it";
  EXPECT_EQ(
      code("dermis-coordinator", absl::StrCat("--store ", (cluster.directory() / "new").string(),
                                              " --listen ", listen, certs)),
      4);
  EXPECT_EQ(code("dermis-coordinator", "--help"), 0);
  EXPECT_EQ(code("dermis-worker", "--help"), 0);
  const std::string token = absl::StrCat("dermis-join-1/here:1/hash/5ca6/", secret);
  for (const char* program : {"dermis-coordinator", "dermis-worker", "dermis"}) {
    EXPECT_EQ(code(program, "status --nonsense " + token), 2) << program;
  }
  EXPECT_EQ(code("dermis-worker", absl::StrCat("--join ", token, certs, "-none --cache ",
                                               (cluster.directory() / "c").string())),
            78);
  ASSERT_EQ(cluster.Stop().exit_code, 0);
  EXPECT_EQ(code("dermis-coordinator", absl::StrCat("--check-health --listen ", listen, certs)), 1);
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
