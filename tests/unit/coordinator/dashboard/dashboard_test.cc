// What is answered to whom, without a network.
#include "coordinator/dashboard/dashboard.h"

#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include "common/clock.h"
#include "common/log.h"
#include "coordinator/audit_log.h"
#include "coordinator/dashboard/metrics.h"
#include "coordinator/dashboard/pages.h"
#include "coordinator/journal.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/coordinator/dashboard/fake_sweep.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1'600'000'000);

class DashboardTest : public testing::Test {
 protected:
  void SetUp() override {
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->taken = kNow;
    snapshot->cluster.set_version("1");
    WorkerSnapshot& worker = snapshot->workers.emplace_back();
    worker.status.set_worker("odd \"name\\\n");
    worker.status.set_state("idle");
    auto study = FakeSweep(30, [](uint32_t t) { return t / 30.; });
    study->failures.push_back({Sha256Of("t"), "trial 1", "line one\nline \xff two", "w"});
    study->failures_total = 1;
    v1::StageProgress& stage = *study->status.add_stages();
    stage.set_stage("training");
    stage.set_unit("epochs");
    stage.set_done(3);
    stage.set_total(60);
    snapshot->studies.push_back(study);
    snapshot_ = snapshot;
    sign_in_ = std::make_unique<SignIn>(*SignIn::Open(folder_ / "token"));
    token_ = std::string(absl::StripAsciiWhitespace(FileBytes(folder_ / "token")));
    Dashboard::Sources sources;
    sources.snapshot = [this] { return snapshot_; };
    sources.now = [this] { return now_; };
    audit_ = *AuditLog::Open(folder_ / "audit.jsonl", Clock::Real());
    sources.audit = audit_.get();
    dashboard_ = std::make_unique<Dashboard>(std::move(sources), *sign_in_, true);
  }

  HttpResponse Ask(const std::string& path, std::map<std::string, std::string> headers = {},
                   const std::string& method = "GET", const std::string& body = "") {
    HttpRequest request;
    request.method = method;
    const std::pair<std::string, std::string> parts = absl::StrSplit(path, absl::MaxSplits('?', 1));
    request.path = parts.first;
    for (const auto& pair : absl::StrSplit(parts.second, '&', absl::SkipEmpty())) {
      request.query.insert(
          std::pair<std::string, std::string>(absl::StrSplit(pair, absl::MaxSplits('=', 1))));
    }
    request.headers = std::move(headers);
    request.body = body;
    request.client = client_;
    return dashboard_->Answer(request);
  }
  HttpResponse AskSignedIn(const std::string& path) {
    return Ask(path, {{"authorization", "Bearer " + token_}});
  }
  // What the audit log has more since it was asked last.
  std::string Audited() {
    const std::string lines = *audit_->Read(seen_, 1 << 20);
    seen_ += lines.size();
    return lines;
  }
  static std::string HeaderOf(const HttpResponse& response, const std::string& name) {
    for (const auto& [key, value] : response.headers) {
      if (key == name) return value;
    }
    return "";
  }

  TestFolder folder_;
  std::string client_ = "192.0.2.7";
  absl::Time now_ = kNow;
  std::shared_ptr<const Snapshot> snapshot_;
  std::unique_ptr<SignIn> sign_in_;
  std::string token_;
  std::unique_ptr<AuditLog> audit_;
  uint64_t seen_ = 0;
  std::unique_ptr<Dashboard> dashboard_;
};

TEST_F(DashboardTest, StrangersSeeThePagesShell_AndHealth_AndNothingElse) {
  for (const char* path : {"/", "/index.html", "/app.js", "/d3.js", "/healthz", "/readyz"})
    EXPECT_EQ(Ask(path).status, 200) << path;
  for (const char* path :
       {"/metrics", "/api/cluster", "/api/studies", "/api/studies/a", "/api/studies/a/trials.csv",
        "/api/history", "/api/nothing", "/api/studies/a/images/0", "/api/"}) {
    const HttpResponse response = Ask(path);
    EXPECT_EQ(response.status, 401) << path;
    EXPECT_THAT(response.body, Not(HasSubstr("clip_norm")));
  }
  for (const char* said : {"Bearer ", "Bearer x", "Basic abc", "Bearer"}) {
    EXPECT_EQ(Ask("/api/studies", {{"authorization", said}}).status, 401) << said;
  }
  EXPECT_EQ(Ask("/dashboard-token").status, 404);
}

TEST_F(DashboardTest, ATokenSignsInOnce_AndTheCookieIsForThisHostAndPageOnly) {
  EXPECT_EQ(Ask("/api/session", {}, "POST", "wrong").status, 401);
  const HttpResponse session = Ask("/api/session", {}, "POST", token_ + "\n");
  EXPECT_EQ(session.status, 204);
  const std::string set = HeaderOf(session, "Set-Cookie");
  for (const char* part :
       {"__Host-dermis-", "; HttpOnly", "; SameSite=Strict", "; Secure", "; Path=/;"})
    EXPECT_THAT(set, HasSubstr(part));
  EXPECT_THAT(set, Not(HasSubstr(token_)));
  const std::string cookie = set.substr(0, set.find(';'));
  EXPECT_EQ(Ask("/api/studies", {{"cookie", "other=1; " + cookie}}).status, 200);
  EXPECT_EQ(Ask("/api/studies", {{"cookie", "x" + cookie}}).status, 401);
  now_ += kSignedInFor + absl::Seconds(1);
  EXPECT_EQ(Ask("/api/studies", {{"cookie", cookie}}).status, 401);
  EXPECT_THAT(HeaderOf(Ask("/api/session", {}, "POST", ""), "Set-Cookie"), HasSubstr("Max-Age=0"));
}

TEST_F(DashboardTest, WrongTokensAreNoted_WithoutWhatWasSaid_AndDoNotFloodTheLog) {
  SetLogLevel(LogLevel::kInfo);
  testing::internal::CaptureStderr();
  for (int i = 0; i < 50; ++i) Ask("/api/session", {}, "POST", "guess");
  now_ += absl::Seconds(2);
  Ask("/metrics", {{"authorization", "Bearer guess"}});
  Ask("/api/studies");  // Nobody has tried anything.
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("showed a wrong token; 50 refusals"));
  EXPECT_THAT(log, Not(HasSubstr("guess")));
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 2);
}

TEST_F(DashboardTest, EachRefusalHasOneAuditLine_OfAStranger_WithoutWhatWasSaid) {
  const std::string bearer = "Bearer guess", cookie = "__Host-dermis-" + sign_in_->Fingerprint();
  using Headers = std::map<std::string, std::string>;
  const auto ask = [&](const std::string& path, Headers headers, const std::string& method,
                       const std::string& body, int status) {
    EXPECT_EQ(Ask(path, std::move(headers), method, body).status, status) << path;
    const std::string lines = Audited();
    EXPECT_THAT(lines, Not(HasSubstr("guess")));
    return lines;
  };
  for (const std::string& line : {ask("/metrics", {{"authorization", bearer}}, "GET", "", 401),
                                  ask("/api/session", {}, "POST", "guess", 401)}) {
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
    const auto entry = nlohmann::json::parse(line);
    EXPECT_EQ(entry["who"], "192.0.2.7");
    EXPECT_EQ(entry.value("role", ""), "");
    EXPECT_EQ(entry["call"], "the dashboard");
    EXPECT_EQ(entry["outcome"], "a wrong token");
  }
  for (const auto& [line, outcome] :
       {std::pair(ask("/api/studies", {}, "GET", "", 401), "no token was shown"),
        std::pair(ask("/api/studies", {{"cookie", cookie + "=99999999999.guess"}}, "GET", "", 401),
                  "a cookie that has expired or is another's")}) {
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
    EXPECT_EQ(nlohmann::json::parse(line)["outcome"], outcome);
  }
  EXPECT_EQ(ask("/api/studies", {{"authorization", "Bearer " + token_}}, "GET", "", 200), "");
  EXPECT_EQ(ask("/", {}, "GET", "", 200), "");
  EXPECT_EQ(ask("/healthz", {{"authorization", bearer}}, "GET", "", 200), "");
}

TEST_F(DashboardTest, APathThatLeadsUp_IsRefused_WhoeverAsks_WithOneLine) {
  for (const char* path : {"/../journal.sqlite", "/..", "/api/studies/../../dashboard-token",
                           "/a/..\\b", "/api/studies/a/.."}) {
    EXPECT_EQ(AskSignedIn(path).status, 400) << path;
    const std::string line = Audited();
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
    EXPECT_EQ(nlohmann::json::parse(line)["outcome"], "a path with '..'");
  }
  for (const char* path : {"/...", "/a..b", "/api/studies/.a"}) {
    EXPECT_EQ(AskSignedIn(path).status, 404) << path;
  }
  EXPECT_EQ(AskSignedIn("/api/history?study=..").status, 200);
  EXPECT_EQ(Audited(), "");
}

TEST_F(DashboardTest, KnockingDoesNotFillTheAuditLog_NorHideWhatAThiefOfACertificateDoes) {
  for (int i = 0; i < 3000; ++i) {
    client_ = absl::StrCat("192.0.2.", i % 250);
    Ask("/metrics", {{"authorization", "Bearer guess"}});
  }
  audit_->Record({"alice", "worker", "Studies/List", "", "may not"});
  const std::string lines = Audited();
  EXPECT_LT(std::count(lines.begin(), lines.end(), '\n'), 200);
  EXPECT_THAT(lines, AllOf(HasSubstr("more than are written one by one"), HasSubstr("\"alice\"")));
}

TEST_F(DashboardTest, NothingCanBeChanged) {
  for (const char* method : {"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"}) {
    EXPECT_EQ(Ask("/api/studies/a", {{"authorization", "Bearer " + token_}}, method).status, 405)
        << method;
  }
}

TEST_F(DashboardTest, EveryAnswerForbidsForeignScripts_AndNoPageNamesOne) {
  for (const char* path : {"/", "/api/studies", "/metrics", "/nothing", "/healthz"}) {
    const std::string policy = HeaderOf(Ask(path), "Content-Security-Policy");
    EXPECT_THAT(policy, HasSubstr("default-src 'none'; script-src 'self';")) << path;
    EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
  }
  for (const char* path : {"/index.html", "/app.css", "/app.js", "/api.js", "/charts.js",
                           "/cluster.js", "/study.js", "/trials.js", "/explanations.js"}) {
    const Page* page = FindPage(path);
    ASSERT_NE(page, nullptr) << path;
    EXPECT_GT(page->bytes.size(), 200u);
    const std::string text =
        absl::StrReplaceAll(page->bytes.data(), {{"http://www.w3.org/2000/svg", ""}});  // A name.
    EXPECT_THAT(text, Not(HasSubstr("://"))) << path;
    EXPECT_THAT(text, Not(HasSubstr("innerHTML"))) << path;
  }
}

TEST_F(DashboardTest, EveryStudyAddressAnswersWithJson_AndNonsenseWithWhatIsWrong) {
  for (const char* path :
       {"/api/cluster", "/api/studies", "/api/history", "/api/studies/a", "/api/studies/a/trials",
        "/api/studies/a/parallel", "/api/studies/a/curves", "/api/studies/a/curves?trials=1,2",
        "/api/studies/a/importance", "/api/studies/a/failures"}) {
    const HttpResponse response = AskSignedIn(path);
    EXPECT_EQ(response.status, 200) << path << response.body;
    EXPECT_TRUE(nlohmann::json::accept(response.body)) << path;
  }
  for (const auto& [path, status] :
       std::vector<std::pair<std::string, int>>{{"/api/studies/b", 404},
                                                {"/api/studies/", 404},
                                                {"/api/studies/a/x", 404},
                                                {"/api/studies/a/trials?offset=-1", 400},
                                                {"/api/studies/a/trials?sort=x", 400},
                                                {"/api/studies/a/trials?limit=1e9", 400},
                                                {"/api/studies/a/curves?trials=x", 400},
                                                {"/api/studies?limit=99999999999999999999", 400}}) {
    const HttpResponse response = AskSignedIn(path);
    EXPECT_EQ(response.status, status) << path;
    EXPECT_FALSE(nlohmann::json::parse(response.body)["error"].get<std::string>().empty());
  }
}

TEST_F(DashboardTest, WhatAPageHas_IsNotSentAgain) {
  const HttpResponse first = AskSignedIn("/api/studies/a/trials");
  const std::string tag = HeaderOf(first, "ETag");
  ASSERT_FALSE(tag.empty());
  const HttpResponse again =
      Ask("/api/studies/a/trials", {{"authorization", "Bearer " + token_}, {"if-none-match", tag}});
  EXPECT_EQ(again.status, 304);
  EXPECT_TRUE(again.body.empty());
  auto changed = std::make_shared<Snapshot>(*snapshot_);
  auto study = FakeSweep(30, [](uint32_t) { return 1.; });
  study->version = 8;
  changed->studies = {study};
  snapshot_ = changed;
  EXPECT_EQ(
      Ask("/api/studies/a/trials", {{"authorization", "Bearer " + token_}, {"if-none-match", tag}})
          .status,
      200);
}

TEST_F(DashboardTest, ReadyMeansThatTheCoreAnswers) {
  EXPECT_EQ(Ask("/readyz").status, 200);
  now_ += absl::Seconds(30);
  EXPECT_EQ(Ask("/readyz").status, 503);
  EXPECT_EQ(Ask("/healthz").status, 200);
  snapshot_ = nullptr;
  EXPECT_EQ(Ask("/readyz").status, 503);
  EXPECT_EQ(AskSignedIn("/api/studies").status, 503);
}

TEST_F(DashboardTest, AFailedTasksLog_HoldsTheLastWordsOfTheProcessesThatItKilled) {
  auto journal = OpenSqliteJournal(folder_.path());
  ASSERT_TRUE(journal.ok());
  ASSERT_TRUE(
      (*journal)->Replay([](uint64_t, const JournalEntry&) { return absl::OkStatus(); }).ok());
  JournalEntry lost;
  lost.event.set_unix_ms(static_cast<uint64_t>(absl::ToUnixMillis(kNow)));
  lost.event.mutable_attempt_lost()->set_task(Sha256Of("t").bytes());
  lost.event.mutable_attempt_lost()->set_worker("w");
  ASSERT_TRUE((*journal)->Append({lost}).ok());
  Chronicle chronicle(folder_ / "journal.sqlite", absl::Milliseconds(5));
  for (int i = 0; i < 4000 && chronicle.Of("", Digest(), 1).empty(); ++i)
    absl::SleepFor(absl::Milliseconds(5));
  auto snapshot = std::make_shared<Snapshot>(*snapshot_);
  snapshot->ends = {{"w", kNow - absl::Seconds(3), true, "before it"},
                    {"other", kNow + absl::Seconds(3), true, "another"},
                    {"w", kNow + absl::Seconds(3), false, "long ago"},
                    {"w", kNow + absl::Seconds(4), true, "out of memory\nlast line"},
                    {"w", kNow + absl::Seconds(9), true, "later"}};
  Dashboard::Sources sources;
  sources.snapshot = [&] { return snapshot; };
  sources.chronicle = &chronicle;
  Dashboard dashboard(std::move(sources), *sign_in_, true);
  HttpRequest request;
  request.method = "GET";
  request.path = "/api/studies/a/failures";
  request.headers["authorization"] = "Bearer " + token_;
  const auto log = nlohmann::json::parse(dashboard.Answer(request).body)["failures"][0]["log"];
  ASSERT_EQ(log.size(), 2u) << log;
  EXPECT_EQ(log[0]["text"], "out of memory\nlast line");
  EXPECT_EQ(log[1]["kind"], "lost");
}

// Every sample belongs to a metric with help and type, none comes twice, labels are escaped.
TEST_F(DashboardTest, MetricsAreWhatPrometheusReads) {
  const HttpResponse response = AskSignedIn("/metrics");
  EXPECT_EQ(response.type, kMetricsType);
  std::set<std::string> helped, typed, samples;
  ASSERT_TRUE(absl::EndsWith(response.body, "\n"));
  for (const std::string& line :
       std::vector<std::string>(absl::StrSplit(response.body, '\n', absl::SkipEmpty()))) {
    const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 3));
    if (words[0] == "#") {
      EXPECT_TRUE((words[1] == "HELP" ? helped : typed).insert(words[2]).second) << line;
      continue;
    }
    const std::string name = line.substr(0, line.find_first_of("{ "));
    EXPECT_TRUE(helped.contains(name) && typed.contains(name)) << line;
    EXPECT_TRUE(samples.insert(line.substr(0, line.rfind(' '))).second) << line;
    double value = 0;
    EXPECT_TRUE(absl::SimpleAtod(line.substr(line.rfind(' ') + 1), &value)) << line;
  }
  EXPECT_THAT(response.body,
              HasSubstr("dermis_worker_busy_ratio{worker=\"odd \\\"name\\\\\\n\"} 0\n"));
  EXPECT_THAT(response.body,
              HasSubstr("dermis_study_done{study=\"a\",stage=\"training\",unit=\"epochs\"} 3\n"));
  EXPECT_THAT(response.body, HasSubstr("dermis_studies{phase=\"running\"} 1\n"));
}

// The board shows what exists.
TEST_F(DashboardTest, TheGrafanaBoardNamesOnlyMetricsThatThereAre) {
  const std::string board = FileBytes(std::string(std::getenv("DERMIS_SOURCE_DIR") != nullptr
                                                     ? std::getenv("DERMIS_SOURCE_DIR")
                                                     : ".") +
                                     "/cluster/grafana/dermis.json");
  const auto parsed = nlohmann::json::parse(board);
  const std::string metrics = AskSignedIn("/metrics").body;
  int expressions = 0;
  for (const auto& panel : parsed["panels"]) {
    for (const auto& target : panel.value("targets", nlohmann::json::array())) {
      const std::string expression = target["expr"];
      for (size_t at = expression.find("dermis_"); at != std::string::npos;
           at = expression.find("dermis_", at + 1)) {
        const std::string name = expression.substr(
            at, expression.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", at) - at);
        EXPECT_THAT(metrics, HasSubstr("# TYPE " + name + " ")) << expression;
        ++expressions;
      }
    }
  }
  EXPECT_GE(expressions, 8);
}

}  // namespace
}  // namespace dermis
