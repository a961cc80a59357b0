// Joining by a token between real processes: a worker comes, stays, renews, and is put out; and
// everything that must not get in gets a clear refusal.
#include <chrono>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "common/certificates.h"
#include "tests/integration/test_cluster.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kHopeless = 78;

template <typename Holds>
bool Await(Holds holds, int seconds = 60) {
  for (int i = 0; i < seconds * 20; ++i) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

class JoinTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const CommandResult start = cluster.Start(0);
    ASSERT_EQ(start.exit_code, 0) << start.output;
  }
  std::string Path(const std::string& name) const { return (cluster.directory() / name).string(); }
  std::vector<std::string> Command(const std::string& name, const std::string& join) const {
    std::vector<std::string> argv = {Program("dermis-worker"), "--certs", Path(name + "-certs"), "--cache",
                                     Path(name + "-cache"),    "--name",  name,                  "--threads",
                                     "1",                      "--listen", "127.0.0.1:0"};
    if (!join.empty()) argv.insert(argv.end(), {"--join", join});
    return argv;
  }
  // A worker that ends by itself.
  CommandResult Run(const std::string& name, const std::string& join, const std::string& input = "/dev/null") const {
    std::string line = "timeout 60";
    for (const std::string& word : Command(name, join)) absl::StrAppend(&line, " ", word);
    return Shell(absl::StrCat(line, " 2>&1 < ", input));
  }
  bool IsThere(const std::string& name) {
    return absl::StrContains(cluster.Run("cluster status").output, "\n" + name + " ");
  }
  std::string NewToken(const std::string& options, const std::string& file) {
    const CommandResult made = cluster.Run(absl::StrCat("cluster token create ", options, " -o ", Path(file)));
    EXPECT_EQ(made.exit_code, 0) << made.output;
    std::vector<std::string> parts = absl::StrSplit(ReadAll(Path(file)), '/');
    EXPECT_EQ(parts.size(), 5u);
    EXPECT_THAT(made.output, Not(HasSubstr(parts.back().substr(0, 43))));
    return ReadAll(Path(file));
  }
  // A certificate for the worker's key, as the cluster's CA would have issued it.
  void Plant(const std::string& name, const Validity& validity) {
    const fs::path certs = Path(name + "-certs");
    const auto authority = CertificateAuthority::Load(cluster.cluster() + "/certs");
    ASSERT_TRUE(authority.ok()) << authority.status();
    const Bearer bearer = *BearerOf(ReadAll(certs / "worker.crt"));
    const auto certificate = (*authority)->Sign(*MakeSigningRequest(ReadAll(certs / "worker.key")),
                                                {"worker", name, bearer.serial, validity});
    ASSERT_TRUE(certificate.ok()) << certificate.status();
    ASSERT_TRUE(WriteSecret(certs / "worker.crt", *certificate).ok());
  }
  std::string Serial(const std::string& name) const {
    return BearerOf(ReadAll(Path(name + "-certs/worker.crt"))).value_or(Bearer()).serial;
  }

  TestCluster cluster;
};

TEST_F(JoinTest, AWorkerJoinsOnce_IsItselfEverAfter_Renews_AndIsPutOut) {
  const std::string token = NewToken("", "token");
  EXPECT_EQ(fs::status(Path("token")).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  Background worker(Command("joined-0", Path("token")), Path("first.log"));
  ASSERT_TRUE(Await([&] { return IsThere("joined-0"); })) << worker.Log();
  for (const char* file : {"worker.key", "worker.crt", "ca.crt", "coordinator"}) {
    EXPECT_EQ(fs::status(Path(absl::StrCat("joined-0-certs/", file))).permissions(),
              fs::perms::owner_read | fs::perms::owner_write)
        << file;
  }
  // The secret is in no file of the cluster's, and in no log.
  const std::vector<std::string> parts = absl::StrSplit(token, '/');
  const std::string secret = parts.back().substr(0, 43);
  for (const auto& file : fs::recursive_directory_iterator(cluster.cluster())) {
    if (!file.is_regular_file()) continue;
    const std::string bytes = ReadAll(file.path());
    EXPECT_FALSE(absl::StrContains(bytes, secret)) << file.path();
    std::string raw;
    absl::WebSafeBase64Unescape(secret, &raw);
    EXPECT_FALSE(absl::StrContains(bytes, raw)) << file.path();
  }
  EXPECT_THAT(worker.Log(), Not(HasSubstr(secret)));

  // A coordinator that died knows who has joined, and that the token is used up.
  cluster.Kill9("coordinator");
  ASSERT_EQ(cluster.Start(0).exit_code, 0);
  ASSERT_TRUE(Await([&] { return IsThere("joined-0"); })) << worker.Log();
  const CommandResult second = Run("joined-1", Path("token"));
  EXPECT_EQ(second.exit_code, kHopeless);
  EXPECT_THAT(second.output, AllOf(HasSubstr("used up (1 use)"), HasSubstr("dermis cluster token create")));

  // As a user its certificate is worth nothing.
  const fs::path disguise = Path("disguise");
  fs::create_directories(disguise / "certs");
  fs::create_directories(disguise / "store");
  fs::copy(cluster.cluster() + "/store/address", disguise / "store/address");
  fs::copy(Path("joined-0-certs/ca.crt"), disguise / "certs/ca.crt");
  fs::copy(Path("joined-0-certs/worker.crt"), disguise / "certs/user.crt");
  fs::copy(Path("joined-0-certs/worker.key"), disguise / "certs/user.key");
  const CommandResult stolen = Dermis("status --cluster " + disguise.string());
  EXPECT_EQ(stolen.exit_code, 1);
  EXPECT_THAT(stolen.output, HasSubstr("a certificate of role 'worker' may not call Studies/List"));

  // Started again it needs no token, and renews what has two thirds of its life behind it.
  worker.Kill();
  fs::remove(Path("token"));
  const std::string before = Serial("joined-0");
  Plant("joined-0", WorkerValidity(absl::Now() - kWorkerLife / 3 * 2));
  Background again(Command("joined-0", ""), Path("again.log"));
  ASSERT_TRUE(Await([&] { return Serial("joined-0") != before && IsThere("joined-0"); })) << again.Log();
  ASSERT_TRUE(Await([&] { return absl::StrContains(cluster.Log("coordinator"), "joined-0 renewed"); }));
  EXPECT_THAT(cluster.Log("coordinator"), Not(HasSubstr("joined-0 lost")));
  const CommandResult list = cluster.Run("cluster token list");
  EXPECT_THAT(list.output, AllOf(HasSubstr("used up"), HasSubstr("used 1 of 1"), HasSubstr("joined-0"),
                                 HasSubstr(Serial("joined-0"))));

  // Put out: it ends, and says why, and so does whoever has a copy of its certificate.
  const std::string renewed = Serial("joined-0");
  const CommandResult revoked = cluster.Run("cluster revoke joined-0");
  EXPECT_THAT(revoked.output, AllOf(HasSubstr(before), HasSubstr(renewed)));
  EXPECT_EQ(again.Ended(), kHopeless) << again.Log();
  EXPECT_THAT(again.Log(), AllOf(HasSubstr("joined-0"), HasSubstr("was revoked")));
  EXPECT_THAT(Dermis("status --cluster " + disguise.string()).output, HasSubstr("was revoked"));
  // What is not good any more is not kept in the way of another token.
  EXPECT_FALSE(fs::exists(Path("joined-0-certs/worker.crt")));
  NewToken("", "another");
  {
    Background anew(Command("joined-0", Path("another")), Path("anew.log"));
    ASSERT_TRUE(Await([&] { return IsThere("joined-0"); })) << anew.Log();
  }
  // With a certificate that has run out it does not even ask.
  Plant("joined-0", {absl::Now() - absl::Hours(400), absl::Now() - absl::Hours(1)});
  const CommandResult expired = Run("joined-0", "");
  EXPECT_EQ(expired.exit_code, kHopeless);
  EXPECT_THAT(expired.output, AllOf(HasSubstr("expired"), HasSubstr("--join")));
}

TEST_F(JoinTest, WhatIsNoGoodToken_GetsAClearRefusal_AndAGroupLeavesTogether) {
  const std::string token = NewToken("--ttl 1s", "token");
  const auto refused = [&](const std::string& text, const std::vector<std::string>& words) {
    cluster.Write("bad", text);
    const CommandResult worker = Run("stranger", Path("bad"));
    EXPECT_EQ(worker.exit_code, kHopeless) << worker.output;
    for (const std::string& word : words) EXPECT_THAT(worker.output, HasSubstr(word));
    EXPECT_FALSE(fs::exists(Path("stranger-certs/worker.crt")));
  };
  std::vector<std::string> parts = absl::StrSplit(token, '/');
  refused("dermis-join-1/nonsense", {"no join token", "dermis cluster token create"});
  refused("", {"no join token"});
  // Another secret.
  std::string wrong = token;
  wrong[wrong.size() - 10] = wrong[wrong.size() - 10] == 'a' ? 'b' : 'a';
  refused(wrong, {"not known here"});
  // Somebody else answers, with a CA of his own: nothing is sent to him.
  TestCluster other;
  ASSERT_EQ(other.Start(0).exit_code, 0);
  std::string address = ReadAll(other.cluster() + "/store/address");
  address.pop_back();
  refused(absl::StrReplaceAll(token, {{parts[1], address}}), {address, "another CA's", "nothing was sent"});
  EXPECT_THAT(other.Log("coordinator"), Not(HasSubstr("to join")));
  // The token itself, where its file's name belongs.
  const CommandResult itself = Run("stranger", token.substr(0, token.size() - 1));
  EXPECT_EQ(itself.exit_code, kHopeless);
  EXPECT_THAT(itself.output, AllOf(HasSubstr("a file's name is expected"),
                                   Not(HasSubstr(parts.back().substr(0, 12)))));
  // Its second is over.
  absl::SleepFor(absl::Seconds(1));
  refused(token, {"has expired"});
  EXPECT_EQ(Run("no-certs", Path("none")).exit_code, kHopeless);

  // Only the cluster's owner may let others in.
  fs::create_directories(Path("guest/certs"));
  fs::create_directories(Path("guest/store"));
  for (const char* file : {"store/address", "certs/ca.crt", "certs/user.crt", "certs/user.key"}) {
    fs::copy(fs::path(cluster.cluster()) / file, fs::path(Path("guest")) / file);
  }
  const CommandResult guest = Dermis("cluster token create --cluster " + Path("guest"));
  EXPECT_EQ(guest.exit_code, 1);
  EXPECT_THAT(guest.output, AllOf(HasSubstr("role 'user' may not"), HasSubstr("admin.crt")));

  // A group, by standard input.
  NewToken("--group spot", "group");
  std::vector<std::string> command = Command("spot-0", "-");
  std::string line = "exec";
  for (const std::string& word : command) absl::StrAppend(&line, " ", word);
  Background spot({"/bin/sh", "-c", absl::StrCat(line, " < ", Path("group"))}, Path("spot.log"));
  ASSERT_TRUE(Await([&] { return IsThere("spot-0"); })) << spot.Log();
  // The whole token, by its file: the same as the group's name.
  const CommandResult revoked = cluster.Run("cluster token revoke --token " + Path("group"));
  EXPECT_THAT(revoked.output, AllOf(HasSubstr("token"), HasSubstr(Serial("spot-0"))));
  EXPECT_EQ(spot.Ended(), kHopeless) << spot.Log();
  EXPECT_THAT(spot.Log(), HasSubstr("was revoked"));
  const CommandResult late = Run("spot-1", Path("group"));
  EXPECT_EQ(late.exit_code, kHopeless);
  EXPECT_THAT(late.output, HasSubstr("was revoked"));
}

#ifdef DERMIS_SKEWED_CLOCK
TEST_F(JoinTest, WorkersWhoseClocksAreADayAheadAndADayBehind_Join_AndComputeAStudyTogether) {
  NewToken("--uses 2", "token");
  const auto skewed = [&](const std::string& name, int seconds) {
    std::vector<std::string> argv = {"/usr/bin/env", "LD_PRELOAD=" DERMIS_SKEWED_CLOCK,
                                     absl::StrCat("DERMIS_SKEW_SECONDS=", seconds)};
    for (std::string& word : Command(name, Path("token"))) argv.push_back(std::move(word));
    return argv;
  };
  constexpr int kDay = 24 * 3600;
  Background ahead(skewed("ahead", kDay), Path("ahead.log")),
      behind(skewed("behind", -kDay), Path("behind.log"));
  ASSERT_TRUE(Await([&] { return IsThere("ahead"); })) << ahead.Log();
  ASSERT_TRUE(Await([&] { return IsThere("behind"); })) << behind.Log();
  // Their logs begin with the time that they take it to be.
  const auto off_by = [](const std::string& log) {
    absl::Time time;
    std::string error;
    EXPECT_TRUE(
        absl::ParseTime("%Y-%m-%dT%H:%M:%E*SZ", log.substr(0, log.find(' ')), &time, &error))
        << error << log;
    return absl::ToDoubleHours(time - absl::Now());
  };
  EXPECT_NEAR(off_by(ahead.Log()), 24, 0.5);
  EXPECT_NEAR(off_by(behind.Log()), -24, 0.5);

  const CommandResult run = cluster.Run(absl::StrCat(
      "run ", cluster.Write("s.yaml", SmallStudy("skewed")), " --images ", TestCluster::Images()));
  EXPECT_EQ(run.exit_code, 0) << run.output << ahead.Log() << behind.Log();
  // Both had a part in it, and nothing is told by their clocks.
  const auto trace = nlohmann::json::parse(cluster.Run("trace skewed -o -").output, nullptr, false);
  ASSERT_TRUE(trace.is_object());
  std::map<int, std::string> processes;
  std::set<std::string> ran;
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("ph") == "M") processes[event.at("pid")] = event.at("args").at("name");
    if (event.at("ph") != "X") continue;
    ran.insert(processes.at(event.at("pid")));
    EXPECT_NEAR(event.at("ts").get<double>() / 1e6,
                static_cast<double>(absl::ToUnixSeconds(absl::Now())), 1800);
  }
  EXPECT_EQ(ran, (std::set<std::string>{"ahead", "behind"}));
}
#endif

}  // namespace
}  // namespace dermis
