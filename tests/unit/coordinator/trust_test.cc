// Who may join, and who is out: decisions, and that a replay of their events gives the same.
#include "coordinator/trust.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "absl/strings/str_cat.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr uint64_t kNow = 1'800'000'000;
const std::string kSecret(32, 's');

v1::CreateTokenRequest Ask(uint64_t ttl, uint32_t uses, const std::string& group = "") {
  v1::CreateTokenRequest request;
  request.set_secret_hash(Sha256Of(kSecret).bytes());
  request.set_ttl_s(ttl);
  request.set_uses(uses);
  request.set_group(group);
  return request;
}

v1::CertificateIssued Certificate(const std::string& serial, const std::string& name, const std::string& token,
                                  uint64_t at = kNow, const std::string& key = "") {
  v1::CertificateIssued issued;
  issued.set_key(Sha256Of(key.empty() ? serial : key).bytes());
  issued.mutable_certificate()->set_serial(serial);
  issued.mutable_certificate()->set_name(name);
  issued.mutable_certificate()->set_token(token);
  issued.mutable_certificate()->set_issued_unix_s(at);
  issued.mutable_certificate()->set_until_unix_s(at + 1000);
  return issued;
}

class TrustTest : public ::testing::Test {
 protected:
  // Every event is kept as the journal would.
  template <typename Event>
  void Do(const absl::StatusOr<Event>& event) {
    ASSERT_TRUE(event.ok()) << event.status();
    trust.Apply(*event);
    replayed.Apply(*event);
    EXPECT_EQ(trust.Dump(), replayed.Dump());
  }
  absl::Status Join(const v1::CertificateIssued& certificate, uint64_t at = kNow, const std::string& secret = kSecret) {
    const absl::Status admitted = trust.Admit(secret, certificate, at);
    if (admitted.ok()) Do<v1::CertificateIssued>(certificate);
    return admitted;
  }
  Trust trust, replayed;
};

TEST_F(TrustTest, AToken_LetsInAsManyAsItSays) {
  Do(trust.Create(Ask(60, 2), "t1", "admin", kNow));
  EXPECT_TRUE(Join(Certificate("aaaaaaaa", "w0", "t1")).ok());
  EXPECT_TRUE(Join(Certificate("bbbbbbbb", "w1", "t1")).ok());
  const absl::Status third = Join(Certificate("cccccccc", "w2", "t1"));
  EXPECT_TRUE(absl::IsPermissionDenied(third)) << third;
  EXPECT_THAT(std::string(third.message()), HasSubstr("used up"));
  EXPECT_EQ(trust.View().tokens(0).used(), 2u);
}

TEST_F(TrustTest, AWorkerWhoseAnswerWasLost_AsksAgainWithTheSameKey_AndIsNotCountedTwice) {
  Do(trust.Create(Ask(60, 1), "t1", "admin", kNow));
  EXPECT_TRUE(Join(Certificate("aaaaaaaa", "w0", "t1", kNow, "key")).ok());
  EXPECT_TRUE(Join(Certificate("bbbbbbbb", "w0", "t1", kNow, "key")).ok());
  EXPECT_EQ(trust.View().tokens(0).used(), 1u);
  EXPECT_FALSE(Join(Certificate("cccccccc", "w0", "t1", kNow, "another")).ok());
  EXPECT_FALSE(Join(Certificate("dddddddd", "w1", "t1", kNow, "key")).ok());
}

TEST_F(TrustTest, AWorkerWhoseCertificateWasRevoked_DoesNotComeBackByATokenThatIsUsedUp) {
  Do(trust.Create(Ask(60, 1), "t1", "admin", kNow));
  ASSERT_TRUE(Join(Certificate("aaaaaaaa", "w0", "t1", kNow, "key")).ok());
  Do(trust.Revoke("w0", "admin"));
  EXPECT_THAT(std::string(Join(Certificate("bbbbbbbb", "w0", "t1", kNow, "key")).message()), HasSubstr("used up"));
}

TEST_F(TrustTest, AToken_EndsToTheSecond) {
  Do(trust.Create(Ask(60, 5), "t1", "admin", kNow));
  EXPECT_TRUE(Join(Certificate("aaaaaaaa", "w0", "t1"), kNow + 59).ok());
  const absl::Status late = Join(Certificate("bbbbbbbb", "w1", "t1"), kNow + 60);
  EXPECT_TRUE(absl::IsPermissionDenied(late)) << late;
  EXPECT_THAT(std::string(late.message()), HasSubstr("expired"));
}

TEST_F(TrustTest, AWrongSecret_AndAnUnknownNumber_LookAlike_WhateverBecameOfTheToken) {
  Do(trust.Create(Ask(60, 1), "t1", "admin", kNow));
  const absl::Status wrong = Join(Certificate("aaaaaaaa", "w0", "t1"), kNow, std::string(32, 'x'));
  const absl::Status unknown = Join(Certificate("aaaaaaaa", "w0", "t2"));
  const absl::Status expired = Join(Certificate("aaaaaaaa", "w0", "t1"), kNow + 100, std::string(32, 'x'));
  EXPECT_TRUE(absl::IsUnauthenticated(wrong)) << wrong;
  EXPECT_EQ(wrong, unknown);
  EXPECT_EQ(wrong, expired);
  EXPECT_EQ(trust.View().tokens(0).used(), 0u);
}

TEST_F(TrustTest, AGroupToken_HasNoEnd_UntilItIsRevoked_AndThenAllThatItLetInAreOut) {
  Do(trust.Create(Ask(0, 0, "spot"), "t1", "admin", kNow));
  Do(trust.Create(Ask(60, 9), "t2", "admin", kNow));
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(Join(Certificate(absl::StrCat("aaaaaa", 10 + i), absl::StrCat("w", i), "t1"), kNow + 1'000'000).ok());
  }
  ASSERT_TRUE(Join(Certificate("bbbbbbbb", "other", "t2")).ok());
  // One renews: what it then has is the token's, too.
  Do(trust.Renew("aaaaaa10", Certificate("cccccccc", "", "")));
  const absl::StatusOr<v1::JoinRevoked> revoked = trust.RevokeToken("spot", "admin");
  ASSERT_TRUE(revoked.ok()) << revoked.status();
  EXPECT_THAT(revoked->tokens(), ElementsAre("t1"));
  EXPECT_EQ(revoked->serials_size(), 101);
  EXPECT_EQ(revoked->user(), "admin");
  Do(revoked);
  EXPECT_TRUE(trust.revoked().contains("cccccccc"));
  EXPECT_FALSE(trust.revoked().contains("bbbbbbbb"));
  EXPECT_THAT(std::string(Join(Certificate("dddddddd", "w0", "t1")).message()), HasSubstr("revoked"));
  EXPECT_THAT(std::string(trust.Renew("aaaaaa11", Certificate("eeeeeeee", "", "")).status().message()),
              HasSubstr("revoked"));
  // Again: nothing is left to do.
  EXPECT_THAT(trust.RevokeToken("t1", "admin")->serials(), IsEmpty());
  EXPECT_TRUE(absl::IsNotFound(trust.RevokeToken("spotty", "admin").status()));
  EXPECT_TRUE(absl::IsNotFound(trust.RevokeToken("", "admin").status()));
}

TEST_F(TrustTest, Renewal_KeepsNameAndToken_AndTakesNoUse) {
  Do(trust.Create(Ask(60, 1), "t1", "admin", kNow));
  ASSERT_TRUE(Join(Certificate("aaaaaaaa", "w0", "t1")).ok());
  const absl::StatusOr<v1::CertificateIssued> renewed = trust.Renew("aaaaaaaa", Certificate("bbbbbbbb", "w9", "t9"));
  ASSERT_TRUE(renewed.ok()) << renewed.status();
  EXPECT_EQ(renewed->certificate().name(), "w0");
  EXPECT_EQ(renewed->certificate().token(), "t1");
  Do(renewed);
  EXPECT_EQ(trust.View().tokens(0).used(), 1u);
  const absl::Status stranger = trust.Renew("12345678", Certificate("cccccccc", "", "")).status();
  EXPECT_TRUE(absl::IsPermissionDenied(stranger)) << stranger;
}

TEST_F(TrustTest, Revoke_TakesAllCertificatesOfAName_OrOneByItsNumber_KnownOrNot) {
  Do(trust.Create(Ask(60, 5), "t1", "admin", kNow));
  ASSERT_TRUE(Join(Certificate("aaaaaaaa", "w0", "t1")).ok());
  Do(trust.Renew("aaaaaaaa", Certificate("bbbbbbbb", "", "")));
  ASSERT_TRUE(Join(Certificate("cccccccc", "w1", "t1")).ok());
  EXPECT_THAT(trust.Revoke("w0", "admin")->serials(), UnorderedElementsAre("aaaaaaaa", "bbbbbbbb"));
  EXPECT_EQ(trust.JoinedAs("w1")->issued_unix_s, kNow);
  EXPECT_FALSE(trust.JoinedAs("nobody").has_value());
  Do(trust.Revoke("CCCCCCCC", "admin"));
  EXPECT_FALSE(trust.JoinedAs("w1").has_value()) << "it is out";
  Do(trust.Revoke("1234567890abcdef", "admin"));
  EXPECT_THAT(trust.revoked(), UnorderedElementsAre("cccccccc", "1234567890abcdef"));
  EXPECT_TRUE(absl::IsNotFound(trust.Revoke("nobody", "admin").status()));
  EXPECT_TRUE(absl::IsNotFound(trust.Revoke("", "admin").status()));
  EXPECT_THAT(trust.Revoke("w1", "admin")->serials(), IsEmpty());
}

TEST_F(TrustTest, CertificatesThatHaveRunOut_AreForgottenWithTheNextOfTheName) {
  Do(trust.Create(Ask(0, 0, "spot"), "t1", "admin", kNow));
  std::string last = "aaaaaaaa";
  ASSERT_TRUE(Join(Certificate(last, "w0", "t1")).ok());
  for (uint64_t round = 1; round <= 50; ++round) {
    const std::string next = absl::StrCat("bbbbbb", 10 + round);
    Do(trust.Renew(last, Certificate(next, "", "", kNow + round * 700)));
    last = next;
  }
  EXPECT_LE(trust.View().certificates_size(), 3);
  EXPECT_EQ(trust.View().tokens(0).used(), 1u);
  EXPECT_EQ(trust.JoinedAs("w0")->token, "spot");
  EXPECT_EQ(trust.JoinedAs("w0")->issued_unix_s, kNow + 50 * 700);
}

TEST_F(TrustTest, ATokenThatNobodyCouldBound_IsNotMade) {
  for (const auto& [ttl, uses, group] : std::vector<std::tuple<uint64_t, uint32_t, std::string>>{
           {0, 1, ""}, {60, 0, ""}, {1ull << 40, 1, ""}, {60, 1u << 31, ""}, {60, 1, "a b"}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(trust.Create(Ask(ttl, uses, group), "t", "admin", kNow).status()))
        << ttl << " " << uses << " " << group;
  }
  v1::CreateTokenRequest unhashed = Ask(60, 1);
  unhashed.set_secret_hash("secret");
  EXPECT_TRUE(absl::IsInvalidArgument(trust.Create(unhashed, "t", "admin", kNow).status()));
  Do(trust.Create(Ask(0, 0, "spot"), "t1", "admin", kNow));
  EXPECT_TRUE(absl::IsAlreadyExists(trust.Create(Ask(0, 0, "spot"), "t2", "admin", kNow).status()));
  Do(trust.RevokeToken("spot", "admin"));
  EXPECT_TRUE(trust.Create(Ask(0, 0, "spot"), "t2", "admin", kNow).ok());
}

}  // namespace
}  // namespace dermis
