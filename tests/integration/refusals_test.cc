// Bad input over a real coordinator: each gets a clear refusal and leaves one line in the audit log,
// and the coordinator serves on. The refusals' kinds are tested elsewhere.
#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "common/certificates.h"
#include "common/tls.h"
#include "dermis/v1/studies.grpc.pb.h"
#include "tests/integration/test_cluster.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class RefusalsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const CommandResult start = cluster.Start(0);
    ASSERT_EQ(start.exit_code, 0) << start.output;
    address = std::string(absl::StripAsciiWhitespace(ReadAll(Own("store/address"))));
  }

  std::string Own(const std::string& name) const { return cluster.cluster() + "/" + name; }
  // A cluster's folder as somebody else has it: with this certificate and key as those of its user.
  std::string FolderWith(const std::string& name, const std::string& certificate,
                         const std::string& key) const {
    const fs::path folder = cluster.directory() / name;
    fs::create_directories(folder / "certs");
    fs::create_directories(folder / "store");
    fs::copy(Own("store/address"), folder / "store/address");
    fs::copy(Own("certs/ca.crt"), folder / "certs/ca.crt");
    EXPECT_TRUE(WriteSecret(folder / "certs/user.crt", certificate).ok());
    EXPECT_TRUE(WriteSecret(folder / "certs/user.key", key).ok());
    return folder.string();
  }
  std::unique_ptr<v1::Studies::Stub> Studies(
      const std::shared_ptr<grpc::ChannelCredentials>& credentials) const {
    return v1::Studies::NewStub(MakeChannel(address, credentials));
  }

  std::vector<nlohmann::json> Log() const {
    std::vector<nlohmann::json> lines;
    const std::string shown = cluster.Run("audit show -o json").output;
    for (const std::string& line :
         std::vector<std::string>(absl::StrSplit(shown, '\n', absl::SkipEmpty()))) {
      lines.push_back(nlohmann::json::parse(line, nullptr, false));
      EXPECT_TRUE(lines.back().is_object()) << line;
    }
    return lines;
  }
  // What the audit log has more after it.
  std::vector<nlohmann::json> Audited(const std::function<void()>& action) const {
    std::vector<nlohmann::json> before = Log();
    action();
    std::vector<nlohmann::json> after = Log();
    after.erase(after.begin(),
                after.begin() + static_cast<ptrdiff_t>(std::min(before.size(), after.size())));
    return after;
  }
  // One line of that call by that role, with these words, counted once.
  static void ExpectOne(const std::vector<nlohmann::json>& lines, const std::string& role,
                        const std::string& call, const std::string& outcome) {
    ASSERT_THAT(lines, SizeIs(1)) << nlohmann::json(lines).dump();
    EXPECT_EQ(lines[0].value("role", "?"), role);
    EXPECT_EQ(lines[0].value("call", "?"), call);
    EXPECT_THAT(lines[0].value("outcome", "?"), HasSubstr(outcome));
    EXPECT_EQ(lines[0].value("times", 1), 1);
  }

  TestCluster cluster;
  std::string address;
};

TEST_F(RefusalsTest, OfWhatReachesACall_LeaveOneLineEach_AndTheServiceStaysUp) {
  // A join token whose secret is another's.
  ASSERT_EQ(
      cluster.Run("cluster token create -o " + (cluster.directory() / "token").string()).exit_code,
      0);
  std::string token = ReadAll(cluster.directory() / "token");
  char& changed = token[token.size() - 10];
  changed = changed == 'a' ? 'b' : 'a';
  CommandResult joined;
  const auto join = Audited([&] {
    joined = Shell(absl::StrCat("timeout 60 ", Program("dermis-worker"),
                                " --name stranger --listen 127.0.0.1:0 --certs ",
                                (cluster.directory() / "w-certs").string(), " --cache ",
                                (cluster.directory() / "w-cache").string(), " --join ",
                                cluster.Write("wrong", token), " 2>&1"));
  });
  EXPECT_EQ(joined.exit_code, 78);
  EXPECT_THAT(joined.output, HasSubstr("not known here"));
  ExpectOne(join, "", "Join/Sign", "not known here");
  EXPECT_EQ(join.at(0).value("what", "?"), "stranger");
  EXPECT_THAT(join.at(0).value("who", "?"), HasSubstr("127.0.0.1"));

  // A worker's certificate, used as a user's.
  const std::string stolen =
      FolderWith("stolen", ReadAll(Own("certs/worker.crt")), ReadAll(Own("certs/worker.key")));
  CommandResult run;
  const auto worker = Audited([&] { run = Dermis("status --cluster " + stolen); });
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output, HasSubstr("a certificate of role 'worker' may not call Studies/List"));
  ExpectOne(worker, "worker", "Studies/List", "may not call");

  // A user where the owner is asked for.
  const std::string guest =
      FolderWith("guest", ReadAll(Own("certs/user.crt")), ReadAll(Own("certs/user.key")));
  const auto user = Audited([&] { run = Dermis("audit show --cluster " + guest); });
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output,
              AllOf(HasSubstr("role 'user' may not call Audit/Read"), HasSubstr("admin.crt")));
  ExpectOne(user, "user", "Audit/Read", "may not call");

  // Nobody: without any certificate.
  grpc::Status status;
  const auto nobody = Audited([&] {
    grpc::ClientContext context;
    v1::ListResponse list;
    status = Studies(StrangerCredentials(ReadAll(Own("certs/ca.crt"))))->List(&context, {}, &list);
  });
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("certificate"));
  ExpectOne(nobody, "", "Studies/List", status.error_message());

  EXPECT_EQ(Dermis("status --cluster " + guest).exit_code, 0);
  EXPECT_EQ(cluster.Run("audit verify").exit_code, 0);
}

TEST_F(RefusalsTest, AtTheDashboard_LeaveOneLineEach_AndItStaysUp) {
  const std::string address(absl::StripAsciiWhitespace(ReadAll(Own("store/dashboard"))));
  const std::string token(absl::StripAsciiWhitespace(ReadAll(Own("store/dashboard-token"))));
  // The status of a request with this token ("-": none).
  const std::string script = cluster.Write("ask.py", R"(
import http.client, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
connection = http.client.HTTPSConnection(sys.argv[2].split("//")[1], context=context, timeout=60)
token = sys.stdin.read().strip()
connection.request("GET", "/api/studies", headers={"Authorization": "Bearer " + token} if token != "-" else {})
print(connection.getresponse().status)
)");
  std::string status;
  const auto ask = [&](const std::string& said) {
    return Audited([&] {
      const CommandResult asked =
          Shell(absl::StrCat("python3 ", script, " ", Own("certs/ca.crt"), " ", address, " < ",
                             cluster.Write("said", said), " 2>&1"));
      status = std::string(absl::StripAsciiWhitespace(asked.output));
    });
  };
  const std::string wrong(64, 'f');
  const auto guessed = ask(wrong);
  EXPECT_EQ(status, "401");
  ExpectOne(guessed, "", "the dashboard", "a wrong token");
  EXPECT_EQ(guessed.at(0).value("who", "?"), "127.0.0.1");
  EXPECT_THAT(nlohmann::json(guessed).dump(), Not(HasSubstr(wrong)));
  const auto nothing = ask("-");
  EXPECT_EQ(status, "401");
  ExpectOne(nothing, "", "the dashboard", "no token was shown");
  EXPECT_THAT(ask(token), IsEmpty());
  EXPECT_EQ(status, "200");
  EXPECT_EQ(cluster.Run("audit verify").exit_code, 0);
}

TEST_F(RefusalsTest,
       OfRequestsThatAreTooLong_LeadUp_OrAreTooSlow_LeaveOneLineEach_AndTheDashboardStaysUp) {
  const std::string address(absl::StripAsciiWhitespace(ReadAll(Own("store/dashboard"))));
  const std::string script = cluster.Write("misbehave.py", R"(
import http.client, socket, ssl, sys, time
context = ssl.create_default_context(cafile=sys.argv[1])
host, port = sys.argv[2].split("//")[1].split(":")
def ask(method, path, body=0):  # So many bytes are announced, and none is sent.
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=60)
    connection.putrequest(method, path)
    connection.putheader("Content-Length", body)
    connection.endheaders()
    return connection, connection.getresponse()
def handshake():
    return context.wrap_socket(socket.create_connection((host, int(port)), timeout=60), server_hostname=host)
def end(client):  # Until the server ends it.
    try:
        while client.recv(4096):
            pass
    except OSError as error:
        assert not isinstance(error, TimeoutError), "it is not cut off"
if sys.argv[3] == "slow":
    handshake().close()  # Comes and leaves.
    silent, spare, slow = socket.create_connection((host, int(port)), timeout=60), handshake(), handshake()
    served, answer = ask("GET", "/healthz")  # A browser keeps what was of use.
    answer.read()
    slow.settimeout(0.5)
    slow.send(b"GET / HTTP/1.1\r\nX: ")
    until = time.monotonic() + 90
    while time.monotonic() < until:
        try:
            slow.send(b"x")
            if not slow.recv(4096):
                break
        except (TimeoutError, ssl.SSLWantReadError):
            pass
        except OSError:
            break
    assert time.monotonic() < until, "who dribbles is not cut off"
    for client in (silent, spare, served.sock):
        end(client)
    print(ask("GET", "/healthz")[1].status)
else:
    print(ask(*sys.argv[3:])[1].status)
)");
  std::string printed;
  const auto misbehave = [&](const std::string& how) {
    return Audited([&] {
      printed = std::string(absl::StripAsciiWhitespace(
          Shell(absl::StrCat("timeout 200 python3 ", script, " ", Own("certs/ca.crt"), " ", address,
                             " ", how, " 2>&1"))
              .output));
    });
  };
  for (const auto& [how, status, outcome] :
       {std::tuple("POST /api/session 5000", "413", "a request that is too long"),
        std::tuple("POST /api/studies/a/questions 30000000", "401", "no token was shown"),
        std::tuple("GET /../store/journal.sqlite 0", "400", "a path with '..'"),
        std::tuple("GET /api/%2e%2e/dashboard-token 0", "400", "a path with '..'")}) {
    absl::SleepFor(absl::Seconds(
        1.1));  // What comes again within a second is counted in one line with what came before.
    const auto lines = misbehave(how);
    EXPECT_EQ(printed, status) << how;
    ExpectOne(lines, "", "the dashboard", outcome);
    EXPECT_EQ(lines.at(0).value("who", "?"), "127.0.0.1");
  }
  std::vector<std::string> slow;
  for (const auto& line : misbehave("slow")) {
    EXPECT_EQ(line.value("call", "?"), "the dashboard");
    EXPECT_EQ(line.value("who", "?"), "127.0.0.1");
    EXPECT_EQ(line.value("times", 1), 1);
    slow.push_back(line.value("outcome", "?"));
  }
  EXPECT_EQ(printed, "200");
  EXPECT_THAT(slow, UnorderedElementsAre("cut off: its TLS handshake was not over in time",
                                         "cut off: a request was not over in time"));
  EXPECT_EQ(cluster.Run("audit verify").exit_code, 0);
}

TEST_F(RefusalsTest, OfWhatIsStoppedBeforeACall_LeaveOneLineEach_AndTheServiceStaysUp) {
  // A certificate that has run out: at the handshake.
  Identity expired = *LoadIdentity(Own("certs"), "user");
  const auto authority = CertificateAuthority::Load(Own("certs"));
  ASSERT_TRUE(authority.ok()) << authority.status();
  expired.certificate = *(*authority)
                             ->Sign(*MakeSigningRequest(expired.key),
                                    {"user",
                                     "user",
                                     "ab12ab12",
                                     {absl::Now() - absl::Hours(48), absl::Now() - absl::Hours(1)}});
  const CommandResult run =
      Dermis("status --cluster " + FolderWith("expired", expired.certificate, expired.key));
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output, HasSubstr("expired"));
  // Another cluster's.
  const std::string other = (cluster.directory() / "other").string();
  ASSERT_TRUE(MakeClusterCertificates(other, {}).ok());
  Identity stranger = *LoadIdentity(other, "user");
  stranger.ca_certificate = expired.ca_certificate;

  grpc::Status status;
  v1::ListResponse list;
  for (const Identity& identity : {expired, stranger}) {
    absl::SleepFor(absl::Seconds(1.1));  // What comes again within a second is counted in one line with what came before.
    std::vector<nlohmann::json> handshake;
    // On a machine that is busy a client may give up before the coordinator has looked at its certificate.
    for (int attempt = 0; handshake.empty() && attempt < 3; ++attempt) {
      handshake = Audited([&] {
        grpc::ClientContext context;
        const size_t before = Log().size();
        status = Studies(ClientCredentials(identity))->List(&context, {}, &list);
        for (int i = 0; i < 50 && Log().size() == before; ++i) absl::SleepFor(absl::Milliseconds(100));
      });
    }
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
    ExpectOne(handshake, "", "a handshake", "certificate verify failed (it has expired, or another CA signed it)");
  }

  // A message beyond 16 MiB: refused before it is parsed, and the connection serves on.
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride(kPeerName);
  arguments.SetMaxSendMessageSize(-1);  // The client's own bound is not the coordinator's.
  const auto studies = v1::Studies::NewStub(grpc::CreateCustomChannel(
      address, ClientCredentials(*LoadIdentity(Own("certs"), "user")), arguments));
  const auto too_long = Audited([&] {
    const size_t before = Log().size();
    grpc::ClientContext context;
    v1::SubmitRequest request;
    request.mutable_spec()->set_name(std::string(100'000'000, 'a'));
    v1::SubmitResponse response;
    status = studies->Submit(&context, request, &response);
    const absl::Time until = absl::Now() + absl::Seconds(40);
    while (Log().size() == before && absl::Now() < until) absl::SleepFor(absl::Seconds(1));
  });
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("larger than max"));
  ExpectOne(too_long, "user", "Studies/Submit", "longer than 16 MiB");
  EXPECT_EQ(too_long.at(0).value("who", "?"), "user");
  grpc::ClientContext after;
  EXPECT_TRUE(studies->List(&after, {}, &list).ok());
  EXPECT_EQ(cluster.Run("audit verify").exit_code, 0);
}

TEST_F(RefusalsTest, AStudyFileOf100Megabytes_IsRefusedWhereItIsRead) {
  const std::string large =
      cluster.Write("large.yaml", absl::StrCat("name: ", std::string(100'000'000, 'a'), "\n"));
  CommandResult run;
  EXPECT_THAT(Audited([&] {
                run = cluster.Run(absl::StrCat("run ", large, " --images ", TestCluster::Images()));
              }),
              IsEmpty());
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output, AllOf(HasSubstr("large.yaml"), HasSubstr("1 MiB")));
  EXPECT_LT(run.output.size(), 2000u);
}

}  // namespace
}  // namespace dermis
