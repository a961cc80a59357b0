// Certificates, channels and the blob client against a real server on loopback.
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/blob_client.h"
#include "common/tls.h"
#include "dermis/v1/blobs.grpc.pb.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/unit/common/test_folder.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// Keeps blobs in memory, notes who called, and can be told to fail or lie.
class FakeBlobs : public v1::Blobs::Service {
 public:
  grpc::Status Has(grpc::ServerContext* context, const v1::HasRequest* request,
                   v1::HasResponse* response) override {
    auto peer = PeerRole(*context->auth_context());
    role = peer.ok() ? *peer : peer.status().ToString();
    name = PeerName(*context->auth_context());
    if (failures > 0) {
      --failures;
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "away");
    }
    for (const std::string& digest : request->digests()) response->add_present(blobs.count(digest));
    return grpc::Status::OK;
  }
  grpc::Status Put(grpc::ServerContext*, grpc::ServerReader<v1::PutRequest>* reader,
                   v1::PutResponse*) override {
    ++puts;
    v1::PutRequest piece;
    std::string digest, bytes;
    while (reader->Read(&piece)) {
      if (!piece.digest().empty()) digest = piece.digest();
      largest_piece = std::max(largest_piece, piece.data().size());
      bytes += piece.data();
    }
    blobs[digest] = bytes;
    return grpc::Status::OK;
  }
  grpc::Status Get(grpc::ServerContext*, const v1::GetRequest* request,
                   grpc::ServerWriter<v1::GetResponse>* writer) override {
    const auto it = blobs.find(request->digest());
    if (it == blobs.end()) return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such blob");
    v1::GetResponse piece;
    piece.set_size(it->second.size());
    for (size_t at = 0; at < it->second.size(); at += 1 << 20) {
      piece.set_data(it->second.substr(at, 1 << 20));
      writer->Write(piece);
      piece.Clear();
    }
    return grpc::Status::OK;
  }
  std::map<std::string, std::string> blobs;
  std::string role, name;
  size_t largest_piece = 0;
  int failures = 0, puts = 0;
};

class TlsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = (fs::path(folder_.path()) / "tls").string();
    ASSERT_TRUE(MakeClusterCertificates(directory_, {"10.1.2.3", "node7.example"}).ok());
    auto identity = LoadIdentity(directory_, "coordinator");
    ASSERT_TRUE(identity.ok()) << identity.status();
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", MutualTlsServerCredentials(*identity), &port);
    builder.RegisterService(&blobs_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  void TearDown() override {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
  }
  BlobClient ClientAs(const std::string& directory, const std::string& role,
                      absl::Duration patience = absl::Seconds(10)) {
    auto identity = LoadIdentity(directory, role);
    EXPECT_TRUE(identity.ok()) << identity.status();
    return BlobClient(MakeChannel(address_, ClientCredentials(*identity)), patience);
  }
  TestFolder folder_;
  std::string directory_, address_;
  FakeBlobs blobs_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(TlsTest, Server_SeesRoleAndNameOfTheCaller) {
  for (const char* role : {"worker", "user"}) {
    BlobClient client = ClientAs(directory_, role);
    ASSERT_TRUE(client.Has({Sha256Of("x")}).ok());
    EXPECT_EQ(blobs_.role, role);
    EXPECT_EQ(blobs_.name, role);
  }
}

TEST_F(TlsTest, Server_RefusesAnotherCaAndCallersWithoutCertificate) {
  const std::string other = (fs::path(folder_.path()) / "other").string();
  ASSERT_TRUE(MakeClusterCertificates(other, {}).ok());
  EXPECT_FALSE(ClientAs(other, "worker", absl::Milliseconds(50)).Has({Sha256Of("x")}).ok());
  // The server's CA is trusted, but the caller shows a certificate of another CA, or none.
  Identity mixed = *LoadIdentity(other, "worker");
  mixed.ca_certificate = LoadIdentity(directory_, "worker")->ca_certificate;
  BlobClient stranger(MakeChannel(address_, ClientCredentials(mixed)), absl::Milliseconds(50));
  EXPECT_FALSE(stranger.Has({Sha256Of("x")}).ok());
  mixed.certificate = mixed.key = "";
  BlobClient nameless(MakeChannel(address_, ClientCredentials(mixed)), absl::Milliseconds(50));
  EXPECT_FALSE(nameless.Has({Sha256Of("x")}).ok());
  EXPECT_EQ(blobs_.role, "");
}

TEST_F(TlsTest, Certificates_AreKept_AndKeysAreSecret) {
  const Identity before = *LoadIdentity(directory_, "worker");
  ASSERT_TRUE(MakeClusterCertificates(directory_, {}).ok());
  EXPECT_EQ(LoadIdentity(directory_, "worker")->certificate, before.certificate);
  for (const char* name : {"ca.key", "worker.key", "user.key", "coordinator.key"}) {
    EXPECT_EQ(fs::status(fs::path(directory_) / name).permissions(),
              fs::perms::owner_read | fs::perms::owner_write)
        << name;
  }
  EXPECT_EQ(fs::status(directory_).permissions(), fs::perms::owner_all);
  std::ofstream(fs::path(directory_) / "worker.crt") << "damaged";
  EXPECT_FALSE(LoadIdentity(directory_, "worker").ok());
  ASSERT_TRUE(MakeClusterCertificates(directory_, {}).ok());
  EXPECT_TRUE(LoadIdentity(directory_, "worker").ok());
}

TEST_F(TlsTest, Fingerprint_IsTheHashOfTheCertificateItself) {
  const std::string pem = LoadIdentity(directory_, "coordinator")->certificate;
  std::string base64, der;
  for (const auto line : absl::StrSplit(pem, '\n')) {
    if (!absl::StartsWith(line, "-")) absl::StrAppend(&base64, line);
  }
  ASSERT_TRUE(absl::Base64Unescape(base64, &der));
  const std::string fingerprint = *CertificateFingerprint(pem);
  EXPECT_EQ(absl::AsciiStrToLower(absl::StrReplaceAll(fingerprint, {{":", ""}})), Sha256Of(der).hex());
  EXPECT_EQ(CertificateFingerprint("none").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(TlsTest, LoadIdentity_NamesTheMissingFile) {
  EXPECT_THAT(LoadIdentity(directory_ + "/none", "user").status().ToString(), HasSubstr("none"));
}

TEST_F(TlsTest, BlobClient_RoundTripsInPieces_AndSendsNothingTwice) {
  BlobClient client = ClientAs(directory_, "worker");
  for (size_t size : {size_t{0}, size_t{5}, size_t{1} << 20, (size_t{5} << 20) + 3}) {
    std::string bytes(size, 'a');
    for (size_t i = 0; i < size; i += 4099) bytes[i] = static_cast<char>(i);
    const Digest digest = Sha256Of(bytes);
    ASSERT_TRUE(client.Put(digest, bytes).ok());
    const auto back = client.Get(digest);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_TRUE(*back == bytes);
    const int puts = blobs_.puts;
    ASSERT_TRUE(client.Put(digest, bytes).ok());
    EXPECT_EQ(blobs_.puts, puts);
  }
  EXPECT_EQ(blobs_.largest_piece, size_t{1} << 20);
}

TEST_F(TlsTest, BlobClient_RetriesWhileTheCoordinatorIsAway_AndVerifiesBytes) {
  BlobClient client = ClientAs(directory_, "worker");
  blobs_.failures = 2;
  EXPECT_TRUE(client.Has({Sha256Of("x")}).ok());
  EXPECT_EQ(client.Get(Sha256Of("absent")).status().code(), absl::StatusCode::kNotFound);
  blobs_.blobs[Sha256Of("right").bytes()] = "wrong";
  EXPECT_EQ(client.Get(Sha256Of("right")).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace dermis
