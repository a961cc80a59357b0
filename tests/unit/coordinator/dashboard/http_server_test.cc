// The server against clients that do not behave, over real sockets.
#include "coordinator/dashboard/http_server.h"

#include <csignal>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/unit/common/test_folder.h"
#include "tests/unit/coordinator/loopback_socket.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr char kTooLong[] = "127.0.0.1: a request that is too long";
constexpr char kNotTaken[] = ": a request that is none, or whose head is too long";
constexpr char kSlowHandshake[] = "127.0.0.1: cut off: its TLS handshake was not over in time";
constexpr char kSlowRequest[] = "127.0.0.1: cut off: a request was not over in time";

HttpResponse Echo(const HttpRequest& request) {
  HttpResponse response;
  response.body = absl::StrCat(request.method, " ", request.path, " ",
                               request.Query("q").value_or("-"), " ", request.body, ".");
  return response;
}

std::unique_ptr<HttpServer> Serve(HttpServer::Options options = {}) {
  options.listen = "127.0.0.1:0";
  auto server = HttpServer::Start(std::move(options), Echo);
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

// With what it tells of those whom it refuses.
class TellingServer {
 public:
  explicit TellingServer(HttpServer::Options options = {}) {
    options.refused = [this](const std::string& client, const char* why) {
      absl::MutexLock lock(&mutex_);
      told_.push_back(absl::StrCat(client, ": ", why));
    };
    server_ = Serve(std::move(options));
  }
  int port() const { return server_->port(); }
  // Since it was asked last; waits for one.
  std::vector<std::string> Told() {
    absl::MutexLock lock(&mutex_);
    const auto some = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !told_.empty(); };
    mutex_.AwaitWithTimeout(absl::Condition(&some), absl::Seconds(20));
    return std::exchange(told_, {});
  }
  // In all, once nothing can come any more.
  std::vector<std::string> ToldAtTheEnd() {
    server_.reset();
    absl::MutexLock lock(&mutex_);
    return told_;
  }

 private:
  absl::Mutex mutex_;
  std::vector<std::string> told_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<HttpServer> server_;
};

constexpr char kGet[] = "GET /a%20b?q=c%26d HTTP/1.1\r\nHost: x\r\n\r\n";

TEST(HttpServerTest, AnswersOverOneConnection_OneAfterTheOther) {
  const auto server = Serve();
  Socket client(server->port());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client.Say(kGet));
    EXPECT_THAT(client.Hear(absl::Seconds(20), "d ."), StartsWith("HTTP/1.1 200"));
  }
  ASSERT_TRUE(client.Say(kGet));
  EXPECT_THAT(client.Hear(absl::Seconds(20), "d ."),
              HasSubstr("\r\n\r\nGET /a b c&d ."));  // Decoded.
  ASSERT_TRUE(client.Say("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"));
  EXPECT_THAT(client.Hear(absl::Seconds(20), "abc."), HasSubstr("POST /p - abc."));
}

TEST(HttpServerTest, TooMuchIsRefused_WhateverIsSaidAboutIt_AndToldOnce) {
  TellingServer server;
  {
    Socket client(server.port());
    client.Say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n");
    EXPECT_THAT(client.Hear(absl::Seconds(20), "bytes"), StartsWith("HTTP/1.1 413"));
    EXPECT_THAT(server.Told(), ElementsAre(kTooLong));
  }
  for (const char* length : {"-1", "18446744073709551616", "x"}) {
    Socket client(server.port());
    client.Say(absl::StrCat("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ", length, "\r\n\r\n"));
    EXPECT_THAT(client.Hear(absl::Seconds(20), "\r\n\r\n"), StartsWith("HTTP/1.1 4")) << length;
    EXPECT_THAT(server.Told(), ElementsAre(testing::AnyOf(kTooLong, kNotTaken))) << length;
  }
  {
    Socket client(server.port());  // It does not say how long it is.
    client.Say("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    const std::string chunk = absl::StrCat("400\r\n", std::string(1024, 'x'), "\r\n");
    for (int i = 0; i < 1000 && client.Say(chunk); ++i) {
    }
    client.Hear(absl::Seconds(20));
    EXPECT_TRUE(client.closed());
    EXPECT_THAT(server.Told(), ElementsAre(kTooLong));
  }
  const std::string much(1 << 20, 'x');
  for (const std::string& head :
       {absl::StrCat("GET / HTTP/1.1\r\nHost: x\r\nX: ", much, "\r\n\r\n"),
        absl::StrCat("GET /", much, " HTTP/1.1\r\nHost: x\r\n\r\n")}) {
    Socket client(server.port());
    client.Say(head);
    EXPECT_THAT(client.Hear(absl::Seconds(20), "\r\n\r\n"),
                testing::AnyOf(StartsWith("HTTP/1.1 4"), IsEmpty()));
    EXPECT_THAT(server.Told(), ElementsAre(kNotTaken)) << head.substr(0, 20);
  }
  Socket client(server.port());
  ASSERT_TRUE(client.Say(kGet));
  EXPECT_THAT(client.Hear(absl::Seconds(20), "d ."), HasSubstr("c&d"));
  EXPECT_THAT(server.ToldAtTheEnd(), IsEmpty());
}

TEST(HttpServerTest, ClientsThatAreSilent_OrDribble_AreCutOff_AndOthersAreServedMeanwhile) {
  HttpServer::Options options;
  options.request_patience = absl::Seconds(5);  // A busy machine may stand still for seconds.
  const auto server = Serve(options);
  Socket silent(server->port()), dribbling(server->port());
  ASSERT_TRUE(silent.Say("GET"));
  const std::string slow =
      absl::StrCat("GET / HTTP/1.1\r\nHost: x\r\nX: ", std::string(10'000, 'x'));
  int served = 0;
  size_t said = 0;
  const absl::Duration until = Clock::Real().Now() + absl::Seconds(60);
  while (!(silent.closed() && dribbling.closed()) && Clock::Real().Now() < until) {
    if (!dribbling.closed() && !dribbling.Say(slow.substr(said++ % slow.size(), 1))) break;
    dribbling.Hear(absl::Milliseconds(10));
    if (!silent.closed()) silent.Hear(absl::Milliseconds(10));
    Socket other(server->port());
    served += other.Say(kGet) && absl::StrContains(other.Hear(absl::Seconds(20), "d ."), "c&d");
  }
  EXPECT_TRUE(silent.closed());
  EXPECT_LT(Clock::Real().Now(), until);
  EXPECT_GT(served, 3);
}

HttpServer::Options Impatient() {
  HttpServer::Options options;
  options.request_patience = absl::Seconds(5);
  return options;
}

TEST(HttpServerTest, WhoIsCutOffInARequest_IsToldOnce_AndNobodyElseIs) {
  struct Client {
    bool served;       // Has had an answer.
    const char* says;  // At once.
    const char* then;  // A byte at a time, again and again. "": it is silent.
    std::vector<std::string> told;
  };
  const std::vector<Client> clients = {
      {false, "GET", "", {kSlowRequest}},
      {false, "GET / HTTP/1.1\r\nHost: x\r\nX: ", "x", {kSlowRequest}},
      {false, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n", "x", {kSlowRequest}},
      {true, "GET", "", {kSlowRequest}},
      // A browser keeps spare connections, and those that were of use.
      {false, "", "", {}},
      {true, "", "", {}},
  };
  std::vector<std::unique_ptr<TellingServer>> servers;
  std::vector<std::unique_ptr<Socket>> sockets;
  for (const Client& client : clients) {
    servers.push_back(std::make_unique<TellingServer>(Impatient()));
    // Two that leave: at once, and in the middle of a request.
    { Socket passer_by(servers.back()->port()); }
    Socket(servers.back()->port()).Say("GET / HT");
    sockets.push_back(std::make_unique<Socket>(servers.back()->port()));
    if (client.served) {
      ASSERT_TRUE(sockets.back()->Say(kGet));
      ASSERT_THAT(sockets.back()->Hear(absl::Seconds(20), "d ."), HasSubstr("c&d"));
    }
    ASSERT_TRUE(sockets.back()->Say(client.says));
  }
  const absl::Duration until = Clock::Real().Now() + absl::Seconds(60);
  for (size_t open = clients.size(); open > 0 && Clock::Real().Now() < until;) {
    open = 0;
    for (size_t i = 0; i < clients.size(); ++i) {
      if (sockets[i]->closed()) continue;
      ++open;
      sockets[i]->Say(clients[i].then);
      sockets[i]->Hear(absl::Milliseconds(20));
    }
  }
  for (size_t i = 0; i < clients.size(); ++i) {
    EXPECT_TRUE(sockets[i]->closed()) << i;
    EXPECT_EQ(servers[i]->ToldAtTheEnd(), clients[i].told) << clients[i].says;
  }
}

TEST(HttpServerTest, OneAddressCannotTakeAllConnections) {
  HttpServer::Options options;
  options.connections_of_one_address = 3;
  const auto server = Serve(options);
  std::vector<std::unique_ptr<Socket>> held;
  for (int i = 0; i < 3; ++i) {
    held.push_back(std::make_unique<Socket>(server->port()));
    ASSERT_TRUE(held.back()->Say(kGet));
    ASSERT_THAT(held.back()->Hear(absl::Seconds(20), "d ."), HasSubstr("c&d"));
  }
  Socket one_more(server->port());
  one_more.Say(kGet);
  EXPECT_EQ(one_more.Hear(absl::Seconds(20), "d ."), "");
}

TEST(HttpServerTest, AnAddressThatIsTaken_IsSaidSo) {
  const auto server = Serve();
  HttpServer::Options options;
  options.listen = absl::StrCat("127.0.0.1:", server->port());
  EXPECT_EQ(HttpServer::Start(options, Echo).status().code(), absl::StatusCode::kUnavailable);
  for (const char* wrong : {"nonsense", "127.0.0.1:port", "no.such.host.invalid:1"}) {
    options.listen = wrong;
    EXPECT_EQ(HttpServer::Start(options, Echo).status().code(), absl::StatusCode::kInvalidArgument)
        << wrong;
  }
}

class HttpsServerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::signal(SIGPIPE, SIG_IGN);  // SSL_write to a connection that was cut off.
    ASSERT_TRUE(MakeClusterCertificates(folder_.path(), {}).ok());
    context_ = SSL_CTX_new(TLS_client_method());
    SSL_CTX_load_verify_locations(context_, (folder_ / "ca.crt").c_str(), nullptr);
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
  }
  void TearDown() override { SSL_CTX_free(context_); }

  HttpServer::Options Secure(HttpServer::Options options = {}) const {
    options.tls = *LoadIdentity(folder_.path(), "coordinator");
    return options;
  }

  // A client that has ended its handshake, or could not.
  class Client {
   public:
    Client(SSL_CTX* context, int port, int most = TLS1_3_VERSION)
        : socket(port), ssl_(SSL_new(context)) {
      SSL_set_max_proto_version(ssl_, most);
      SSL_set1_host(ssl_, "localhost");
      SSL_set_fd(ssl_, socket.fd());
      connected_ = SSL_connect(ssl_) == 1;
    }
    ~Client() { SSL_free(ssl_); }
    bool Say(const std::string& text) {
      return connected_ && SSL_write(ssl_, text.data(), static_cast<int>(text.size())) > 0;
    }
    // Until `enough` is there, or the server ends the connection.
    std::string Hear(const std::string& enough) {
      std::string answer;
      char piece[4096];
      while (connected_ && answer.find(enough) == std::string::npos) {
        const int size = SSL_read(ssl_, piece, sizeof piece);
        if (size <= 0) break;
        answer.append(piece, static_cast<size_t>(size));
      }
      return answer;
    }
    Socket socket;

   private:
    SSL* const ssl_;
    bool connected_ = false;
  };

  TestFolder folder_;
  SSL_CTX* context_ = nullptr;
};

TEST_F(HttpsServerTest, OnlyTls_ByTheClustersOwnCertificate) {
  const auto server = Serve(Secure());
  {
    Socket plain(server->port());
    plain.Say(kGet);
    EXPECT_THAT(plain.Hear(absl::Seconds(20)), testing::Not(HasSubstr("c&d")));
  }
  for (const int version : {TLS1_3_VERSION, TLS1_2_VERSION, TLS1_1_VERSION}) {
    Client client(context_, server->port(), version);
    EXPECT_EQ(client.Say(kGet), version != TLS1_1_VERSION);
    EXPECT_EQ(absl::StrContains(client.Hear("d ."), "c&d"), version != TLS1_1_VERSION) << version;
  }
}

TEST_F(HttpsServerTest, WhoIsCutOffInAHandshakeOrARequest_IsToldOnce_AndNobodyElseIs) {
  struct Case {
    std::string name;
    std::vector<std::string> told;
    std::unique_ptr<TellingServer> server;
    std::unique_ptr<Socket> socket;  // Before the end of its handshake.
    std::unique_ptr<Client> client;  // After it.
  };
  std::vector<Case> cases;
  const auto add = [&](const std::string& name, std::vector<std::string> told) -> Case& {
    auto server = std::make_unique<TellingServer>(Secure(Impatient()));
    // Two that leave: in the middle of the handshake, and after it.
    Socket(server->port()).Say("\x16\x03");
    { Client passer_by(context_, server->port()); }
    return cases.emplace_back(Case{name, std::move(told), std::move(server), nullptr, nullptr});
  };
  for (const std::string& begun : {std::string(), std::string("\x16\x03\x01\x02\x00\x01", 6)}) {
    Case& one = add(absl::StrCat("a handshake's first ", begun.size()), {kSlowHandshake});
    one.socket = std::make_unique<Socket>(one.server->port());
    ASSERT_TRUE(one.socket->Say(begun));
  }
  for (const int version : {TLS1_3_VERSION, TLS1_2_VERSION}) {
    for (const bool served : {false, true}) {
      for (const bool begun : {false, true}) {
        Case& one =
            add(absl::StrCat("version ", version, " served ", served, " begun ", begun),
                begun ? std::vector<std::string>{kSlowRequest} : std::vector<std::string>());
        one.client = std::make_unique<Client>(context_, one.server->port(), version);
        if (served) {
          ASSERT_TRUE(one.client->Say(kGet));
          ASSERT_THAT(one.client->Hear("d ."), HasSubstr("c&d"));
        }
        if (begun) {
          ASSERT_TRUE(one.client->Say("GET"));
        }
      }
    }
  }
  for (Case& one : cases) {
    Socket& socket = one.socket != nullptr ? *one.socket : one.client->socket;
    socket.Hear(absl::Seconds(60));
    EXPECT_TRUE(socket.closed()) << one.name;
    EXPECT_EQ(one.server->ToldAtTheEnd(), one.told) << one.name;
  }
}

}  // namespace
}  // namespace dermis
