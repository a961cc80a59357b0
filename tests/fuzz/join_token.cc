// The text of a join token: what is taken is one spelling of it, and what is refused is repeated
// nowhere.
#include "common/join_token.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

#include "tests/fuzz/fuzz.h"

namespace {

std::string Stripped(std::string_view text) {
  std::string line(text);
  absl::StripAsciiWhitespace(&line);
  return line;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = dermis::Text(data, size);
  const absl::StatusOr<dermis::JoinToken> token = dermis::ParseJoinToken(text);
  if (token.ok()) {
    dermis::Require(dermis::FormatJoinToken(*token) == Stripped(text),
                    "it is the token that was read");
    dermis::Require(token->secret.size() == dermis::kSecretBytes, "the secret is all there");
  } else {
    // A few characters may stand in its words by chance.
    const size_t last = text.rfind('/');
    if (last != std::string_view::npos && text.size() - last > 20) {
      dermis::Require(
          !absl::StrContains(token.status().message(), std::string(text.substr(last + 1))),
          "a secret stands in no error");
    }
  }
  const std::string logged = dermis::WithoutJoinToken(std::string(text));
  dermis::Require(logged.size() <= text.size() && !absl::StrContains(logged, "dermis-join-1/"),
                  "no token stands in a log");
  return 0;
}
