// The server against clients that do not behave, over real sockets.
#include "coordinator/dashboard/http_server.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
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

using ::testing::HasSubstr;
using ::testing::StartsWith;

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

TEST(HttpServerTest, TooMuchIsRefused_WhateverIsSaidAboutIt) {
  const auto server = Serve();
  {
    Socket client(server->port());
    client.Say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n");
    EXPECT_THAT(client.Hear(absl::Seconds(20), "bytes"), StartsWith("HTTP/1.1 413"));
  }
  for (const char* length : {"-1", "18446744073709551616", "x"}) {
    Socket client(server->port());
    client.Say(absl::StrCat("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ", length, "\r\n\r\n"));
    EXPECT_THAT(client.Hear(absl::Seconds(20), "\r\n\r\n"), StartsWith("HTTP/1.1 4")) << length;
  }
  {
    Socket client(server->port());  // It does not say how long it is.
    client.Say("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    const std::string chunk = absl::StrCat("400\r\n", std::string(1024, 'x'), "\r\n");
    for (int i = 0; i < 1000 && client.Say(chunk); ++i) {
    }
    client.Hear(absl::Seconds(20));
    EXPECT_TRUE(client.closed());
  }
  {
    Socket client(server->port());
    client.Say(
        absl::StrCat("GET / HTTP/1.1\r\nHost: x\r\nX: ", std::string(1 << 20, 'x'), "\r\n\r\n"));
    EXPECT_THAT(client.Hear(absl::Seconds(20), "\r\n\r\n"),
                testing::AnyOf(StartsWith("HTTP/1.1 4"), testing::IsEmpty()));
  }
  Socket client(server->port());
  ASSERT_TRUE(client.Say(kGet));
  EXPECT_THAT(client.Hear(absl::Seconds(20), "d ."), HasSubstr("c&d"));
}

TEST(HttpServerTest, ClientsThatAreSilent_OrDribble_AreCutOff_AndOthersAreServedMeanwhile) {
  HttpServer::Options options;
  options.request_patience = absl::Milliseconds(1500);
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

TEST(HttpServerTest, OverTls_OnlyTls_ByTheClustersOwnCertificate) {
  TestFolder folder;
  ASSERT_TRUE(MakeClusterCertificates(folder.path(), {}).ok());
  HttpServer::Options options;
  options.tls = *LoadIdentity(folder.path(), "coordinator");
  const auto server = Serve(options);
  {
    Socket plain(server->port());
    plain.Say(kGet);
    EXPECT_THAT(plain.Hear(absl::Seconds(20)), testing::Not(HasSubstr("c&d")));
  }
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_load_verify_locations(context, (folder / "ca.crt").c_str(), nullptr);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  const auto handshake = [&](int most) {
    Socket client(server->port());
    SSL* ssl = SSL_new(context);
    SSL_set_max_proto_version(ssl, most);
    SSL_set1_host(ssl, "localhost");
    SSL_set_fd(ssl, client.fd());
    std::string answer;
    if (SSL_connect(ssl) == 1) {
      SSL_write(ssl, kGet, sizeof kGet - 1);
      char piece[4096];
      while (answer.find("d .") == std::string::npos) {
        const int size = SSL_read(ssl, piece, sizeof piece);
        if (size <= 0) break;
        answer.append(piece, static_cast<size_t>(size));
      }
    }
    SSL_free(ssl);
    return answer;
  };
  EXPECT_THAT(handshake(TLS1_3_VERSION), HasSubstr("c&d"));
  EXPECT_THAT(handshake(TLS1_2_VERSION), HasSubstr("c&d"));
  EXPECT_EQ(handshake(TLS1_1_VERSION), "");
  SSL_CTX_free(context);
}

}  // namespace
}  // namespace dermis
