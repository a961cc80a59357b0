// The text of a join token, and the secret in it.
#include "common/join_token.h"

#include <cstring>

#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/unit/common/test_folder.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

JoinToken Example() { return {"head.lab:7433", Sha256Of("a key"), "5f3a09c1", std::string(32, '\x7f')}; }

TEST(JoinTokenTest, ComesBackAsItWas_WhateverSpaceIsAroundIt) {
  const std::string text = FormatJoinToken(Example());
  for (const std::string& spelt : {text, text + "\n", "  " + text + "\r\n"}) {
    const absl::StatusOr<JoinToken> token = ParseJoinToken(spelt);
    ASSERT_TRUE(token.ok()) << token.status();
    EXPECT_EQ(token->address, "head.lab:7433");
    EXPECT_EQ(token->ca_key, Sha256Of("a key"));
    EXPECT_EQ(token->id, "5f3a09c1");
    EXPECT_EQ(token->secret, std::string(32, '\x7f'));
  }
  JoinToken six = Example();
  six.address = "[::1]:7433";
  EXPECT_EQ(ParseJoinToken(FormatJoinToken(six))->address, "[::1]:7433");
}

TEST(JoinTokenTest, IsOneLineOfAFixedForm) {
  EXPECT_EQ(FormatJoinToken(Example()),
            "dermis-join-1/head.lab:7433/j6Oqsvqpt54KA5jaW1q9B4AUJEKlvoC5pkYI1xjLH80/5f3a09c1/"
            "f39_f39_f39_f39_f39_f39_f39_f39_f39_f39_f38");
}

TEST(JoinTokenTest, WhatIsNoToken_IsRefused_WithThePartThatIsWrong_AndWithoutItsSecret) {
  const std::string text = FormatJoinToken(Example());
  const std::vector<std::string> parts = absl::StrSplit(text, '/');
  const auto refused = [](const std::string& bad, const std::string& why) {
    const absl::StatusOr<JoinToken> token = ParseJoinToken(bad);
    EXPECT_TRUE(absl::IsInvalidArgument(token.status())) << bad;
    EXPECT_THAT(std::string(token.status().message()),
                AllOf(HasSubstr(why), HasSubstr("dermis cluster token create"), Not(HasSubstr("f39_f39"))));
  };
  refused("", "does not begin with");
  refused("dermis-join-2" + text.substr(13), "does not begin with");
  refused(text + "/more", "five parts");
  refused(text.substr(0, text.rfind('/')), "five parts");
  for (const char* address : {"head.lab", "head.lab:", ":7433", "head.lab:port", "head lab:7433"}) {
    refused(absl::StrReplaceAll(text, {{"head.lab:7433", address}}), "HOST:PORT");
  }
  refused(absl::StrReplaceAll(text, {{parts[2], parts[2].substr(1)}}), "hash of a key");
  refused(absl::StrReplaceAll(text, {{"5f3a09c1", "number"}}), "number");
  // Cut off, as when it is copied from a terminal; and in another spelling of the same bytes.
  for (size_t cut = 1; cut < 43; ++cut) refused(text.substr(0, text.size() - cut), "secret");
  refused(text.substr(0, text.size() - 1) + "9", "secret");
  refused(text + "=", "secret");
}

TEST(JoinTokenTest, IsReadFromAFile_OfABoundedLength) {
  TestFolder folder;
  WriteFile(folder / "token", FormatJoinToken(Example()) + "\n");
  EXPECT_EQ(ReadJoinToken(folder / "token")->id, "5f3a09c1");
  WriteFile(folder / "long", FormatJoinToken(Example()) + std::string(10'000, ' '));
  EXPECT_THAT(std::string(ReadJoinToken(folder / "long").status().message()), HasSubstr("too long"));
  EXPECT_THAT(std::string(ReadJoinToken(folder / "none").status().message()), HasSubstr("none"));
}

TEST(JoinTokenTest, GivenInsteadOfItsFile_IsRefused_AndNotRepeated) {
  const std::string text = FormatJoinToken(Example());
  for (const std::string& given : {text, text.substr(0, text.size() - 3), " " + text + "\n"}) {
    const absl::Status refused = ReadJoinToken(given).status();
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()),
                AllOf(HasSubstr("the name of a file"), Not(HasSubstr("f39_f39")),
                      Not(HasSubstr("5f3a09c1"))));
  }
  // Nor where only a part of the name is one.
  const absl::Status absent = ReadJoinToken("./" + text).status();
  EXPECT_TRUE(absl::IsNotFound(absent)) << absent;
  EXPECT_THAT(std::string(absent.message()),
              AllOf(HasSubstr("cannot be read"), Not(HasSubstr("f39_f39"))));
}

TEST(JoinTokenTest, ASecretIsKnownByItsHash) {
  const std::string secret = RandomBytes(kSecretBytes);
  EXPECT_TRUE(IsSecret(secret, Sha256Of(secret)));
  for (size_t i = 0; i < secret.size(); ++i) {
    std::string other = secret;
    other[i] = static_cast<char>(other[i] ^ 0x80);
    EXPECT_FALSE(IsSecret(other, Sha256Of(secret))) << i;
  }
  EXPECT_FALSE(IsSecret("", Sha256Of(secret)));
  EXPECT_NE(RandomBytes(kSecretBytes), secret);
}

TEST(JoinTokenTest, AWorkersName_IsNoRole_AndFitsIntoACertificate) {
  for (const char* good : {"gpu1-0", "host.lab/gpu:1/0", "A"}) EXPECT_TRUE(CheckWorkerName(good).ok()) << good;
  for (const std::string& bad : {std::string(), std::string("worker"), std::string("admin"), std::string("coordinator"),
                                 std::string("a b"), std::string("a\n"), std::string("\xc3\xa4"), std::string(65, 'a'),
                                 std::string("a\0b", 3)}) {
    EXPECT_FALSE(CheckWorkerName(bad).ok()) << bad;
  }
}

TEST(JoinTokenTest, InALog_ItIsCutWhereItBegins) {
  EXPECT_EQ(WithoutJoinToken("no token or group is called dermis-join-1/here:1/hash/5ca6/secret; see"),
            "no token or group is called dermis-join-");
  EXPECT_EQ(WithoutJoinToken("5ca6be5c"), "5ca6be5c");
}

}  // namespace
}  // namespace dermis
