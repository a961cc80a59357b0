#include "coordinator/dashboard/sign_in.h"

#include "absl/strings/ascii.h"
#include "gtest/gtest.h"
#include <sys/stat.h>

#include "tests/unit/common/test_folder.h"

namespace dermis {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'600'000'000);

TEST(SignInTest, TheTokenIsKept_ForItsOwnerAlone) {
  TestFolder folder;
  const std::string file = folder / "token";
  const auto first = SignIn::Open(file);
  ASSERT_TRUE(first.ok()) << first.status();
  struct stat info {};
  ASSERT_EQ(stat(file.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const std::string token(absl::StripAsciiWhitespace(FileBytes(file)));
  EXPECT_EQ(token.size(), 64u);
  EXPECT_TRUE(first->IsToken(token));
  EXPECT_TRUE(SignIn::Open(file)->IsToken(token));
}

TEST(SignInTest, ATokenThatOthersCouldRead_OrThatIsDamaged_IsReplaced) {
  TestFolder folder;
  const std::string file = folder / "token";
  ASSERT_TRUE(SignIn::Open(file).ok());
  const std::string token(absl::StripAsciiWhitespace(FileBytes(file)));
  ASSERT_EQ(chmod(file.c_str(), 0640), 0);
  EXPECT_FALSE(SignIn::Open(file)->IsToken(token));
  for (const char* damaged : {"", "short", "ZZ"}) {
    WriteFile(file, damaged);
    const auto again = SignIn::Open(file);
    ASSERT_TRUE(again.ok());
    EXPECT_FALSE(again->IsToken(damaged));
  }
}

TEST(SignInTest, NothingButTheTokenIsTheToken) {
  TestFolder folder;
  const auto sign_in = SignIn::Open(folder / "token");
  const std::string token(absl::StripAsciiWhitespace(FileBytes(folder / "token")));
  std::string other = token;
  other[63] = other[63] == '0' ? '1' : '0';
  for (const std::string& said :
       {std::string(), other, token.substr(1), token + "0", std::string(1 << 20, 'a'),
        sign_in->CookieValue(kNow), sign_in->Fingerprint()}) {
    EXPECT_FALSE(sign_in->IsToken(said));
  }
}

TEST(SignInTest, ACookieIsGoodForHalfADay_ForThisTokenOnly_AndCannotBeProlonged) {
  TestFolder folder;
  const auto sign_in = SignIn::Open(folder / "token");
  const auto other = SignIn::Open(folder / "other");
  const std::string cookie = sign_in->CookieValue(kNow);
  EXPECT_TRUE(sign_in->IsCookieValue(cookie, kNow));
  EXPECT_TRUE(sign_in->IsCookieValue(cookie, kNow + kSignedInFor - absl::Seconds(2)));
  EXPECT_FALSE(sign_in->IsCookieValue(cookie, kNow + kSignedInFor));
  EXPECT_FALSE(other->IsCookieValue(cookie, kNow));
  std::string later = cookie;
  later[0] = '9';
  EXPECT_FALSE(sign_in->IsCookieValue(later, kNow));
  for (const char* said : {"", ".", "1.", ".1", "x.y", "99999999999"})
    EXPECT_FALSE(sign_in->IsCookieValue(said, kNow)) << said;
}

}  // namespace
}  // namespace dermis
