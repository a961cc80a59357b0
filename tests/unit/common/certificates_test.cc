// Signing requests, what is issued for them, and how long it lives.
#include "common/certificates.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/tls.h"
#include "dermis/v1/blobs.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "tests/unit/common/test_folder.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

class CertificatesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(MakeClusterCertificates(folder_.path(), {}).ok());
    authority_ = *CertificateAuthority::Load(folder_.path());
  }
  std::string Issue(const std::string& key, const std::string& serial, const Validity& validity) {
    return *authority_->Sign(*MakeSigningRequest(key), {"worker", "gpu1-0", serial, validity});
  }
  TestFolder folder_;
  std::unique_ptr<CertificateAuthority> authority_;
};

TEST_F(CertificatesTest, WhatIsIssued_SaysWhatWasGranted_NotWhatWasAsked) {
  const std::string serial = *NewSerial();
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  const Bearer bearer = *BearerOf(Issue(*NewKey(), serial, WorkerValidity(now)));
  EXPECT_EQ(bearer.role, "worker");
  EXPECT_EQ(bearer.name, "gpu1-0");
  EXPECT_EQ(bearer.serial, serial);
  EXPECT_EQ(bearer.validity.from, now - kClockSlack);
  EXPECT_EQ(bearer.validity.until, now + kWorkerLife + kClockSlack);
}

TEST_F(CertificatesTest, ASigningRequest_NamesItsKey_AndProvesThatItIsHeld) {
  const std::string key = *NewKey();
  const std::string request = *MakeSigningRequest(key);
  const absl::StatusOr<Digest> named = CheckSigningRequest(request);
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_EQ(*named, *PublicKeyHash(Issue(key, *NewSerial(), WorkerValidity(absl::Now()))));
  EXPECT_NE(*named, *CheckSigningRequest(*MakeSigningRequest(*NewKey())));
  // Every byte counts: whatever is changed, the proof is none any more, or it is no request at all.
  for (size_t i = 0; i < request.size(); ++i) {
    std::string changed = request;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(CheckSigningRequest(changed).ok()) << i;
    EXPECT_FALSE(CheckSigningRequest(request.substr(0, i)).ok()) << i;
  }
}

TEST_F(CertificatesTest, AKeyOfAnotherKind_IsNotSigned) {
  EVP_PKEY* const other = EVP_EC_gen("P-384");
  BIO* const bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(bio, other, nullptr, nullptr, 0, nullptr, nullptr);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  const std::string key(data, size);
  BIO_free_all(bio);
  EVP_PKEY_free(other);
  EXPECT_THAT(std::string(CheckSigningRequest(*MakeSigningRequest(key)).status().message()), HasSubstr("P-256"));
}

TEST_F(CertificatesTest, SerialsAreRandom_AndAreReadBackAsTheyAre) {
  const std::string first = *NewSerial(), second = *NewSerial();
  EXPECT_EQ(first.size(), 32u);
  EXPECT_NE(first, second);
  // Also short ones, whose leading zeros nobody writes.
  EXPECT_EQ(BearerOf(Issue(*NewKey(), "00ab12", WorkerValidity(absl::Now())))->serial, "ab12");
}

TEST_F(CertificatesTest, ClocksThatAreWrongByADay_InEitherDirection_FindALivingCertificate) {
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  const absl::Duration day = absl::Hours(24);
  const Validity validity = WorkerValidity(now);
  EXPECT_GE(kClockSlack, 2 * day);
  // The moment it is issued, whoever looks.
  EXPECT_LT(validity.from, now - day);
  // The worker, a day behind, renews a day late; who looks at it then is a day ahead.
  const absl::Time renewed = RenewalDue(validity) + day;
  EXPECT_GT(validity.until, renewed + day);
  // And a worker that is a day ahead does not renew at once.
  EXPECT_GT(RenewalDue(validity), now + day);
  EXPECT_LT(absl::AbsDuration(RenewalDue(validity) - (now + kWorkerLife / 3 * 2)), absl::Seconds(1));
}

TEST_F(CertificatesTest, ACoordinatorsCertificateOfAnOlderVersion_IsMadeAnew) {
  ASSERT_TRUE(LoadIdentity(folder_.path(), "coordinator").ok());
  // One that has no name of its own, as they were.
  const std::string key = *NewKey();
  ASSERT_TRUE(WriteSecret(folder_ / "coordinator.key", key).ok());
  ASSERT_TRUE(WriteSecret(folder_ / "coordinator.crt", Issue(key, "aaaaaaaa", WorkerValidity(absl::Now()))).ok());
  EXPECT_THAT(std::string(LoadIdentity(folder_.path(), "coordinator").status().message()), HasSubstr("older version"));
  ASSERT_TRUE(MakeClusterCertificates(folder_.path(), {}).ok());
  EXPECT_TRUE(LoadIdentity(folder_.path(), "coordinator").ok());
}

TEST_F(CertificatesTest, WithoutTheCasKey_NothingIsIssued) {
  std::filesystem::remove(folder_ / "ca.key");
  EXPECT_TRUE(absl::IsNotFound(CertificateAuthority::Load(folder_.path()).status()));
  TestFolder other;
  ASSERT_TRUE(MakeClusterCertificates(other.path(), {}).ok());
  std::filesystem::copy(other / "ca.key", folder_ / "ca.key");
  EXPECT_TRUE(absl::IsDataLoss(CertificateAuthority::Load(folder_.path()).status()));
}

TEST_F(CertificatesTest, AServerShowsTheRenewedCertificate_AtTheNextHandshake) {
  const std::string key = *NewKey();
  ASSERT_TRUE(WriteSecret(folder_ / "worker.key", key).ok());
  ASSERT_TRUE(WriteSecret(folder_ / "worker.crt", Issue(key, "aaaaaaaa", WorkerValidity(absl::Now()))).ok());
  grpc::ServerBuilder builder;
  int port = 0;
  v1::Blobs::Service unimplemented;
  builder.AddListeningPort("127.0.0.1:0", RenewedServerCredentials(folder_.path(), "worker"), &port);
  builder.RegisterService(&unimplemented);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  const Identity user = *LoadIdentity(folder_.path(), "user");
  const auto shown = [&] {
    const auto stub = v1::Blobs::NewStub(MakeChannel("127.0.0.1:" + std::to_string(port), ClientCredentials(user)));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    context.set_wait_for_ready(true);
    v1::HasResponse response;
    EXPECT_EQ(stub->Has(&context, {}, &response).error_code(), grpc::StatusCode::UNIMPLEMENTED);
    const auto peer = context.auth_context();
    return peer == nullptr ? "" : PeerBearer(*peer).value_or(Bearer()).serial;
  };
  EXPECT_EQ(shown(), "aaaaaaaa");
  ASSERT_TRUE(WriteSecret(folder_ / "worker.crt", Issue(key, "bbbbbbbb", WorkerValidity(absl::Now()))).ok());
  const absl::Time until = absl::Now() + absl::Seconds(10);
  std::string serial;
  while ((serial = shown()) != "bbbbbbbb" && absl::Now() < until) absl::SleepFor(absl::Milliseconds(100));
  EXPECT_EQ(serial, "bbbbbbbb");
  // Nobody takes it for the coordinator.
  const auto stub = v1::Blobs::NewStub(
      MakeChannel("127.0.0.1:" + std::to_string(port), ClientCredentials(user), kCoordinatorName));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  v1::HasResponse response;
  EXPECT_EQ(stub->Has(&context, {}, &response).error_code(), grpc::StatusCode::UNAVAILABLE);
  server->Shutdown(std::chrono::system_clock::now());
}

}  // namespace
}  // namespace dermis
